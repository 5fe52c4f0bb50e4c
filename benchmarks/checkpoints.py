"""What checkpoints cost a fit of Keras: the share of its time and of its processor time that is spent for them.

    .venv/bin/python benchmarks/checkpoints.py

A small model with short epochs, and one whose state has 300 MB, each improving in nearly every epoch, so that the best
one is copied again and again. Counted is all that happens for checkpoints: the hash of what the fit begins with, reading the
state, writing it and bringing it to the disk, and the copies of the best epoch.
"""
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from ml_repo.tracking import keras_checkpoint
from ml_repo.tracking.checkpoint import Checkpoints

SPENT: Counter = Counter()  # seconds by what was done, on the wall and of the processor
DEPTH: list[str] = []


def count(owner: object, name: str) -> None:
    """Count the time of a function, but not that of a counted function within it again."""
    original: Callable = getattr(owner, name)

    def counted(*args, **named):
        wall, processor = time.perf_counter(), time.process_time()
        DEPTH.append(name)
        try:
            return original(*args, **named)
        finally:
            DEPTH.pop()
            if not DEPTH:
                SPENT[name, "wall"] += time.perf_counter() - wall
                SPENT[name, "processor"] += time.process_time() - processor
                SPENT[name, "times"] += 1

    setattr(owner, name, counted)


def measure(name: str, width: int, rows: int, long_s: float) -> None:
    """Fit a model for some seconds, and print the shares."""
    keras.utils.set_random_seed(0)
    Checkpoints.saved, Checkpoints.copied_s, Checkpoints.cost_s, Checkpoints.small_s, Checkpoints.owed_s = None, 0.0, 0.0, 0.0, 0.0
    SPENT.clear()
    generator = np.random.default_rng(0)
    x = generator.normal(size=(rows, width)).astype("float32")
    model = keras.Sequential([keras.Input((width,)), keras.layers.Dense(width, "relu"), keras.layers.Dropout(0.1), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(1e-4), "mse")

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            self.model.stop_training = time.perf_counter() - began > long_s

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        keeper = keras_checkpoint.make_keeper(keras.callbacks.Callback)(folder)
        began, processor = time.perf_counter(), time.process_time()
        epochs = len(model.fit(x, x[:, :1], epochs=100_000, batch_size=32, validation_split=0.2, verbose=0,
                               callbacks=[keeper, Stop()]).epoch)
        wall, processor = time.perf_counter() - began, time.process_time() - processor
    size = sum(np.prod(one.shape) * 4 for one in (*model.variables, *model.optimizer.variables)) / 1e6
    shares = {kind: sum(value for (_, what), value in SPENT.items() if what == kind) for kind in ("wall", "processor")}
    print(f"{name}: {size:.0f} MB, {epochs} epochs in {wall:.0f} s; {SPENT['save', 'times']} checkpoints, "
          f"{SPENT['hold', 'times']} times a better epoch: {shares['wall'] / wall:.2%} of the time, "
          f"{shares['processor'] / processor:.2%} of the processor time")
    for what in dict.fromkeys(key for key, _ in SPENT):
        print(f"    {what:<20}{SPENT[what, 'times']:>6} ×{SPENT[what, 'wall']:>9.3f} s, processor {SPENT[what, 'processor']:>8.3f} s")
    sys.stdout.flush()


def main() -> None:
    for owner, name in ((Checkpoints, "save"), (Checkpoints, "hold"), (Checkpoints, "is_due"), (keras_checkpoint.FitState, "read"),
                        (keras_checkpoint.FitState, "begin"), (keras_checkpoint, "describe_beginning"), (keras_checkpoint, "find_begun")):
        count(owner, name)
    long_s = float(os.environ.get("LONG_S", "1"))
    measure("small model, short epochs", 64, 2000, 40 * long_s)
    measure("large model", 5000, 256, 160 * long_s)


if __name__ == "__main__":
    main()
