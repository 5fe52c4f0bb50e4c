#!/bin/sh
# Keras 3.15.1 on TensorFlow 2.21.0: after keras.utils.set_random_seed, fit() on arrays has the same order in every epoch.
#
# shuffle=True is the default and promises to shuffle before each epoch. Seen here: with a seed, all epochs of a fit on
# NumPy arrays see the samples in one and the same order, and so does a second fit. A tf.data.Dataset that shuffles by
# itself has another order in each epoch, with the same seed. Who seeds a training to repeat it trains another way
# than without the seed.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 tensorflow-cpu==2.21.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2>/dev/null <<'PY'
import keras
import numpy as np
import tensorflow as tf

samples = np.arange(32, dtype="float32")[:, None]


class Watching(keras.Model):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = keras.layers.Dense(1), []

    def call(self, batch):
        return self.layer(batch)

    def train_step(self, data):
        self.seen += [int(value) for value in np.array(data[0])[:, 0]]
        return super().train_step(data)


def list_epochs(data, **options):
    model = Watching()
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(*data, epochs=3, verbose=0, **options)
    return [model.seen[start:start + 32] for start in (0, 32, 64)]


unseeded = list_epochs((samples, samples), batch_size=4)
keras.utils.set_random_seed(0)
arrays = list_epochs((samples, samples), batch_size=4)
keras.utils.set_random_seed(0)
dataset = list_epochs((tf.data.Dataset.from_tensor_slices((samples, samples)).shuffle(32).batch(4),))
print(f"keras {keras.__version__}, tensorflow {tf.__version__}")
for name, epochs in (("arrays without a seed", unseeded), ("arrays", arrays), ("tf.data", dataset)):
    print(name, *(epoch[:6] for epoch in epochs))
assert arrays[0] != sorted(arrays[0]) and arrays[0] == arrays[1] == arrays[2], "this finding is out of date"
assert dataset[0] != dataset[1] and unseeded[0] != unseeded[1]
PY
