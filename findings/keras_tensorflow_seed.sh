#!/bin/sh
# Keras 3.15.1 and tf_keras 2.21.0 on TensorFlow 2.21.0: tf.random.set_seed does not decide the first weights of a layer.
#
# It is the seed of TensorFlow, and the operations of TensorFlow follow it. Seen here: two processes with the same
# tf.random.set_seed draw the same tf.random.normal, and other weights for the same layer, in both generations of Keras.
# The seed of a layer comes from Python's own generator; keras.utils.set_random_seed, which sets that one as well,
# gives the same weights.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tf_keras==2.21.0 tensorflow-cpu==2.21.0
cd "$folder"
cat > draw.py <<'PY'
import sys
import tensorflow as tf
import keras
import tf_keras

seed = {"tensorflow": tf.random.set_seed, "keras": keras.utils.set_random_seed, "tf_keras": tf_keras.utils.set_random_seed}
seed[sys.argv[1]](7)
draws = [float(tf.random.normal(()))]
for library in (keras, tf_keras):
    layer = library.layers.Dense(1)
    layer.build((None, 1))
    draws.append(float(layer.get_weights()[0][0, 0]))
print(*draws)
PY
draw() { TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python draw.py "$1" 2>/dev/null; }
first=$(draw tensorflow) && second=$(draw tensorflow)
third=$(draw keras) && fourth=$(draw keras)
echo "tf.random.set_seed(7), two processes (tf.random.normal, weight of keras, weight of tf_keras):"
echo "$first"; echo "$second"
echo "keras.utils.set_random_seed(7), two processes:"
echo "$third"; echo "$fourth"
set -- $first $second
test "$1" = "$4" && test "$2" != "$5" && test "$3" != "$6"
test "$third" = "$fourth"
