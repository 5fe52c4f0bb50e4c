#!/bin/sh
# Keras 3.15.1 on JAX 0.10.2: after BackupAndRestore has restored a fit, the next fit of the same model skips epochs.
#
# The callback continues an interrupted fit, and its documentation speaks of that fit alone. It tells the model which
# epoch to begin with, and nothing takes that back. Seen here: a fit of six epochs is interrupted after four, and a new
# process fits epochs five and six, as promised. Its next fit of the model, fine-tuning for three epochs without the
# callback, trains not one epoch and returns an empty history. A further one of seven epochs trains three.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2
cd "$folder"
cat > train.py <<'PY'
import sys

import keras
import numpy as np

x, y = np.arange(8, dtype="float32")[:, None], np.arange(8, dtype="float32")


class Interrupting(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 4 and sys.argv[1] == "first":
            raise SystemExit(0)


model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
model.compile("sgd", "mse")
backup = keras.callbacks.BackupAndRestore("backup")
trained = model.fit(x, y, epochs=6, verbose=0, callbacks=[backup, Interrupting()])
print("epochs of the fit that continues:", len(trained.epoch))
before = model.get_weights()
tuned = model.fit(x, y, epochs=3, verbose=0)
same = all((one == other).all() for one, other in zip(before, model.get_weights()))
print("epochs of the next fit, of three:", len(tuned.epoch), tuned.history, "weights unchanged" if same else "trained")
print("epochs of a further one, of seven:", len(model.fit(x, y, epochs=7, verbose=0).epoch))
PY
KERAS_BACKEND=jax "$folder/venv/bin/python" train.py first 2>/dev/null
KERAS_BACKEND=jax "$folder/venv/bin/python" train.py second 2>/dev/null | tee seen
test "$(cat seen)" = "epochs of the fit that continues: 2
epochs of the next fit, of three: 0 {} weights unchanged
epochs of a further one, of seven: 3"
