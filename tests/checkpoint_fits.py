"""Fits of Keras that are killed twice and go on: `checkpoint_fits.py KIND...` prints a line of JSON for each.

The libraries are imported once; each attempt is a process that is forked from here."""
import errno
import hashlib
import json
import os
import random
import sys
import tempfile
import traceback
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

import keras
import numpy as np
from keras import layers
from keras.callbacks import BackupAndRestore, Callback, CSVLogger, EarlyStopping, LambdaCallback
from keras.callbacks import ModelCheckpoint, ReduceLROnPlateau

from ml_repo.tracking import checkpoint
from ml_repo.tracking.keras_checkpoint import make_keeper

for name in ("tensorflow", "torch._dynamo"):  # which Keras imports late, once for each attempt
    with suppress(ImportError):
        import_module(name)

BACKEND, EPOCHS, KILLED = keras.backend.backend(), 7, 9
KINDS: dict[str, Callable[[], Any]] = {}
NOTES, COUNT = [], 0  # what a callback changes


class Attempt:
    """The attempt of this process."""

    folder, dies, fits, epochs = Path(), None, 0, 0


class Log(Callback):
    """Log the curve, and die within an epoch."""

    def __init__(self) -> None:
        super().__init__()
        Attempt.fits += 1
        self.number, self.epoch = Attempt.fits, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        Attempt.epochs += 1
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if (self.number, self.epoch) == Attempt.dies and batch >= 1:
            os._exit(KILLED)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        with open(Attempt.folder / "metrics.jsonl", "a") as file:
            file.write(json.dumps([self.number, epoch, {name: float(value) for name, value in logs.items()}]) + "\n")


def keep() -> Callback:
    """Make the callback that keeps checkpoints."""
    return make_keeper(Callback)(Attempt.folder, 1e9)


def kind(function: Callable[[], Any]) -> Callable[[], Any]:
    """Add a kind of training."""
    KINDS[function.__name__] = function
    return function


def fit(model: Any, *data: Any, callbacks: tuple = (), is_last: bool = False, **given: Any) -> list[Any]:
    """Fit a model, and tell its history and its weights."""
    own = [*callbacks, Log()]
    history = model.fit(*data, callbacks=[*own, keep()] if is_last else [keep(), *own], verbose=0,
                        **{"epochs": EPOCHS} | given)
    weights = b"".join(np.asarray(keras.ops.convert_to_numpy(one)).tobytes() for one in model.get_weights())
    return [{name: [*map(float, values)] for name, values in history.history.items()}, hashlib.sha256(weights).hexdigest()]


def make_model(*middle: Any, optimizer: Any = "adam", **given: Any) -> Any:
    """Make a small model, built."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(8, "relu"), *middle, layers.Dense(1)])
    model.compile(optimizer, "mse", **given)
    return model


def make_data() -> tuple[np.ndarray, np.ndarray]:
    """Make 96 examples, the same ones in each attempt."""
    x = np.random.RandomState(5).rand(96, 8).astype("float32")
    return x, (x.sum(1, keepdims=True) > 4).astype("float32")


class Draws(Callback):
    """Draw from the generators that everybody uses."""

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs["drawn"] = float(np.random.rand()) + random.random()


class Shuffled(keras.utils.PyDataset):
    """Data whose order is shuffled further after each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = make_data()
        self.order = np.arange(96)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.order[16 * place:][:16]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self) -> None:
        np.random.shuffle(self.order)


def generate() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Draw batches without an end."""
    x, y = make_data()
    while True:
        rows = np.random.permutation(96)[:16]
        yield x[rows], y[rows]


@kind
def unbuilt_dropout() -> Any:
    model = keras.Sequential([layers.Dense(8), layers.Dropout(0.5), layers.BatchNormalization(), layers.Dense(1)])
    model.compile("adam", "mse")
    return fit(model, *make_data(), batch_size=32, validation_split=0.25)


@kind
def dataset_and_draws() -> Any:
    return fit(make_model(layers.Dropout(0.2)), Shuffled(), callbacks=(Draws(),))


@kind
def generator_and_draws() -> Any:
    return fit(make_model(), generate(), steps_per_epoch=4, callbacks=() if BACKEND == "tensorflow" else (Draws(),))


@kind
def shared_tf_data() -> Any:
    import tensorflow as tf
    data = tf.data.Dataset.from_tensor_slices(make_data()).shuffle(96).map(lambda x, y: (x + tf.random.uniform([8]), y))
    return fit(make_model(), data.batch(16), validation_data=data.batch(16).take(2), validation_freq=2)


@kind
def two_optimizers() -> Any:
    if BACKEND == "jax":  # whose training step is another one
        return None

    class Game(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.maker, self.judge = (keras.Sequential([keras.Input((8,)), layers.Dense(size)]) for size in (8, 1))
            self.seeds = keras.random.SeedGenerator(7)

        def compile(self, *optimizers: Any) -> None:
            super().compile()
            self.of_maker, self.of_judge = optimizers

        if BACKEND != "tensorflow":  # which can do without it
            def call(self, x: Any) -> Any:
                return self.judge(self.maker(x))

        def train_step(self, data: Any) -> dict[str, Any]:
            losses = {}
            noise = keras.random.normal((16, 8), seed=self.seeds)
            for part, optimizer, sign in ((self.judge, self.of_judge, 1), (self.maker, self.of_maker, -1)):
                with sys.modules["tensorflow"].GradientTape() if BACKEND == "tensorflow" else nullcontext() as tape:
                    loss = sign * keras.ops.mean(keras.ops.tanh(self.judge(self.maker(noise))))
                if BACKEND == "tensorflow":
                    gradients = tape.gradient(loss, part.trainable_variables)
                else:
                    self.zero_grad()
                    loss.backward()
                    gradients = [variable.value.grad for variable in part.trainable_variables]
                with nullcontext() if BACKEND == "tensorflow" else sys.modules["torch"].no_grad():
                    optimizer.apply(gradients, part.trainable_variables)
                losses[f"loss_{sign}"] = loss
            return losses

    model = Game()
    model.compile(keras.optimizers.Adam(0.01), keras.optimizers.RMSprop(0.01))
    return fit(model, make_data()[0], batch_size=16)


@kind
def states_of_layers() -> Any:
    if BACKEND == "torch":  # where Keras cannot train such a layer
        return None
    x = np.random.RandomState(0).rand(32, 5, 3).astype("float32")
    model = keras.Sequential([keras.Input(batch_shape=(8, 5, 3)), layers.LSTM(4, stateful=True), layers.Dense(1)])
    model.compile("adam", "mse")
    return fit(model, x, x.mean((1, 2)), batch_size=8, shuffle=False)


@kind
def plateau() -> Any:
    return fit(make_model(), *make_data(), batch_size=32, callbacks=(ReduceLROnPlateau("loss", patience=1, min_delta=0.1),))


@kind
def stopped_with_averages() -> Any:
    if BACKEND == "jax":  # where Keras cannot fit such a model twice
        return None

    class Judge(Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            logs["judged"] = 1 + abs(epoch - 1)

    model = make_model(optimizer=keras.optimizers.Adam(0.01, use_ema=True))
    stopping = EarlyStopping("judged", mode="min", patience=2, restore_best_weights=True)
    first = fit(model, *make_data(), batch_size=32, callbacks=(Judge(), stopping))
    return first + fit(model, *make_data(), batch_size=32)


class State:
    """An object of the notebook's own."""

    def __init__(self) -> None:
        self.number, self.listed = 0, []


@kind
def memory_of_a_callback() -> Any:
    class Remembers(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.draws, self.own_draws, self.state = np.random.default_rng(2), random.Random(4), State()
            self.window, self.counts, self.sums = deque(maxlen=3), Counter(), np.zeros(3)
            self.mean, self.weight, self.teacher = keras.metrics.Mean(), keras.Variable(0.0), make_model()

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            global COUNT
            COUNT += 1
            NOTES.append(logs["loss"])
            self.state.number += 1
            self.state.listed.append(epoch)
            self.window.append(self.draws.random() + self.own_draws.random())
            self.counts[epoch % 2] += 1
            self.sums += self.draws.random(3)
            self.mean.update_state(logs["loss"])
            self.weight.assign_add(0.5)
            self.teacher.set_weights(self.model.get_weights())
            del best[1:]
            best.append(min(NOTES))

    best = [0]
    one = Remembers()
    told = fit(make_model(), *make_data(), batch_size=32, callbacks=(
        one, LambdaCallback(on_epoch_end=lambda epoch, logs: best.insert(0, epoch))))
    weights = [float(np.sum(weight)) for weight in one.teacher.get_weights()]
    return [told, NOTES, COUNT, best, one.state.number, one.state.listed, [*one.window], sorted(one.counts.items()),
            one.sums.tolist(), float(one.mean.result()), float(one.weight.value), weights, one.draws.random()]


@kind
def tables_of_epochs() -> Any:
    model, paths = make_model(), [Attempt.folder / name for name in ("one.csv", "two.csv")]
    loggers = CSVLogger(str(paths[0])), CSVLogger(str(paths[1]), append=True)
    told = fit(model, *make_data(), batch_size=32, callbacks=loggers)
    second = fit(model, *make_data(), batch_size=32, callbacks=(CSVLogger(str(paths[1]), append=True),))
    return [told, second, *(path.read_text() for path in paths)]


@kind
def other_backups() -> Any:
    return [fit(make_model(layers.Dropout(0.2)), *make_data(), batch_size=32, is_last=is_last, callbacks=(
        BackupAndRestore(str(Attempt.folder / f"backup-{is_last}")),)) for is_last in (False, True)]


@kind
def fits_within_epochs() -> Any:
    class Inner(Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            inner, (x, y) = make_model(layers.Dropout(0.1)), make_data()
            logs["inner"] = inner.fit(x + epoch, y, epochs=2, verbose=0, callbacks=[keep()]).history["loss"][-1]

    return fit(make_model(), *make_data(), batch_size=32, callbacks=(Inner(),))


@kind
def metric_over_epochs() -> Any:
    class Ever(keras.metrics.Metric):
        def __init__(self) -> None:
            super().__init__(name="ever")
            self.total = self.add_weight(name="total", initializer="zeros")

        def update_state(self, y: Any, predicted: Any, sample_weight: Any = None) -> None:
            self.total.assign_add(keras.ops.sum(predicted))

        def result(self) -> Any:
            return self.total + 0

        def reset_state(self) -> None:
            pass

    return fit(make_model(metrics=[Ever()]), *make_data(), batch_size=32)


@kind
def own_loop_over_fits() -> Any:
    data, steps = generate(), 4
    if BACKEND == "tensorflow":  # which reads ahead of the fit
        data, steps = Shuffled(), None
    model = make_model(layers.Dropout(0.2))
    return [fit(model, data, epochs=2, steps_per_epoch=steps) for _ in range(4)]


@kind
def eager_tensorflow() -> Any:
    if BACKEND != "tensorflow":
        return None

    class Draw(Callback):
        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            logs["drawn"] = float(sys.modules["tensorflow"].random.normal([]))

    return fit(make_model(), *make_data(), batch_size=32, callbacks=(Draw(),))


@kind
def stateful_tensorflow() -> Any:
    if BACKEND != "tensorflow":
        return None

    class Noise(layers.Layer):
        def call(self, x: Any, training: bool = False) -> Any:
            tensorflow = sys.modules["tensorflow"]
            return x + tensorflow.random.normal(tensorflow.shape(x)) if training else x

    return fit(make_model(Noise()), *make_data(), batch_size=32)


@kind
def kept_iterator() -> Any:
    class Reads(Callback):
        def __init__(self) -> None:
            super().__init__()
            self.draws = iter(range(1000))

        def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
            logs["drawn"] = next(self.draws)

    return fit(make_model(), *make_data(), batch_size=32, callbacks=(Reads(),))


@kind
def skipped_grid() -> Any:
    """A search that keeps its results, and fits nothing twice; each fit begins with the same seed."""
    for rate in (0.1, 0.01, 0.001):
        place = Attempt.folder / f"{rate}.json"
        if not place.exists():
            keras.utils.set_random_seed(3)
            model = make_model(layers.Dropout(0.2), optimizer=keras.optimizers.Adam(rate))
            place.write_text(json.dumps(fit(model, *make_data(), batch_size=32)))
    return [json.loads((Attempt.folder / f"{rate}.json").read_text()) for rate in (0.1, 0.01, 0.001)]


@kind
def skipped_folds() -> Any:
    """Fits that differ in their data alone, of which the second attempt leaves some out."""
    x, y = make_data()
    for fold in range(3):
        place = Attempt.folder / f"fold-{fold}.json"
        if not place.exists():
            keras.utils.set_random_seed(3)
            rows = np.arange(96) % 3 != fold
            place.write_text(json.dumps(fit(make_model(), x[rows], y[rows], batch_size=32)))
    return [json.loads((Attempt.folder / f"fold-{fold}.json").read_text()) for fold in range(3)]


@kind
def two_models_by_turns() -> Any:
    """Two models of the same shape, which are trained one after the other, twice."""
    models = [make_model(layers.Dropout(0.2)), make_model(layers.Dropout(0.2))]
    return [fit(model, *make_data(), batch_size=32, epochs=3) for model in models * 2]


@kind
def unseeded() -> Any:
    keras.utils.set_random_seed(os.getpid())
    return fit(make_model(layers.Dropout(0.2)), *make_data(), batch_size=32)


@kind
def unseeded_data() -> Any:
    rows = np.random.RandomState(os.getpid()).permutation(96)[:64]
    x, y = make_data()
    return fit(make_model(layers.Dropout(0.2)), x[rows], y[rows], batch_size=32)


@kind
def best_epoch() -> Any:
    """The artifact of the best epoch, beside that of Keras' own callback."""
    model, own = make_model(layers.Dropout(0.5), optimizer=keras.optimizers.Adam(0.3)), Attempt.folder / "own.weights.h5"
    keeper = make_keeper(Callback)(Attempt.folder, 1e9, "best.weights.h5")
    history = model.fit(*make_data(), batch_size=32, validation_split=0.25, epochs=EPOCHS, verbose=0, callbacks=[
        keeper, ModelCheckpoint(str(own), save_best_only=True, save_weights_only=True), Log()]).history["val_loss"]
    last, sums = [np.asarray(keras.ops.convert_to_numpy(one)) for one in model.get_weights()], []
    for path in (own, Attempt.folder / "artifacts" / "best.weights.h5"):
        model.load_weights(path)
        sums.append([float(np.sum(np.asarray(keras.ops.convert_to_numpy(one)))) for one in model.get_weights()])
    assert sums[0] == sums[1] != [float(np.sum(one)) for one in last] and history[-1] > min(history), sums
    return [history, sums]


@kind
def full_disk() -> Any:
    original = os.fsync

    def fail(descriptor: int) -> None:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(("000003", "000004")):
            raise OSError(errno.ENOSPC, "No space left on device")
        original(descriptor)

    os.fsync = fail
    return fit(make_model(layers.Dropout(0.2)), *make_data(), batch_size=32)


@kind
def damaged() -> Any:
    newest = sorted((Attempt.folder / "checkpoints" / "fit-001").glob("[0-9]*"))[-1:]
    for path in newest:  # before the attempt reads them
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content) if path.name != "000003" else b"")
    return fit(make_model(layers.Dropout(0.2)), *make_data(), batch_size=32)


def attempt(function: Callable[[], Any], folder: Path, dies: tuple[int, int] | None) -> tuple[int, Any]:
    """Run an attempt in a process of its own; give its exit status, and its results, epochs and warnings."""
    if (folder / "metrics.jsonl").exists():
        home = folder / "attempts" / str(1 + len(list(folder.glob("attempts/*"))))
        home.mkdir(parents=True)
        (folder / "metrics.jsonl").rename(home / "metrics.jsonl")
    process = os.fork()
    if process == 0:
        try:
            checkpoint.FIRST_S, Attempt.folder, Attempt.dies = -1, folder, dies
            keras.utils.set_random_seed(1)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                told = function()
            words = [str(one.message) for one in said if "ml_repo" in one.filename]
            (folder / "result.json").write_text(json.dumps([told, Attempt.epochs, words]))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    return status, json.loads((folder / "result.json").read_text()) if status == 0 else None


def compare(name: str) -> dict[str, Any]:
    """Compare a training that was killed twice with one that nobody has killed."""
    function, last = KINDS[name], 2 if any(word in name for word in ("loop", "tables", "stopped", "skipped", "turns")) else 1
    whole, killed = Path(tempfile.mkdtemp()), Path(tempfile.mkdtemp())
    status, first = attempt(function, whole, None)
    if status or first[0] is None:
        return {"kind": name, "status": status}
    epoch = 1 if "loop" in name or "turns" in name else 4
    statuses = [attempt(function, killed, dies)[0] for dies in ((1, 1), (last, epoch))]
    status, second = attempt(function, killed, None)
    curves = [(folder / "metrics.jsonl").read_text() for folder in (whole, killed)]
    return {"kind": name, "status": status, "killed": statuses, "is_same": bool(second) and second[0] == first[0],
            "has_same_curve": curves[0] == curves[1], "epochs": [first[1], second and second[1]],
            "said": sorted({*first[2], *(second[2] if second else ())})}


if __name__ == "__main__":
    for name in sys.argv[1:] or KINDS:
        print(json.dumps(compare(name)), flush=True)
