"""Train small networks as a portable run does, and print a hash of the weights of each: python portable_training.py [NAME ...]

    python portable_training.py                                  this processor
    qemu-x86_64 -cpu Haswell -E ... python portable_training.py  another one, emulated (Debian: qemu-user)

The limits of `choose_limits` have to be in the environment. With `--plain` nothing is limited, for a comparison.
"""
import os
import sys
import time
from importlib.util import find_spec

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras  # noqa: E402
import numpy as np  # noqa: E402

from ml_repo.core.hashing import hash_weights  # noqa: E402
from ml_repo.provenance.operations import fix_operations  # noqa: E402

RANDOM, LAYERS = np.random.default_rng(0), keras.layers
IMAGES, WORDS = RANDOM.normal(size=(64, 8, 8, 2)).astype("float32"), RANDOM.integers(0, 50, (64, 12))
SERIES, CLASSES = RANDOM.normal(size=(64, 12, 6)).astype("float32"), RANDOM.integers(0, 10, 64)


def dense() -> list:
    return [LAYERS.Flatten(), LAYERS.Dense(2048, activation="gelu"), LAYERS.Dropout(0.2), LAYERS.Dense(256, activation="elu"), LAYERS.LayerNormalization()]


def convolution() -> list:
    return [LAYERS.RandomRotation(0.1, seed=1), LAYERS.Conv2D(16, 3, activation="silu", padding="same"), LAYERS.BatchNormalization(),
            LAYERS.MaxPooling2D(), LAYERS.SeparableConv2D(32, 3), LAYERS.GroupNormalization(4), LAYERS.Conv2DTranspose(8, 3), LAYERS.AveragePooling2D(2),
            LAYERS.Flatten()]


def recurrent() -> list:
    return [LAYERS.Conv1D(8, 3), LAYERS.LSTM(8, return_sequences=True), LAYERS.GRU(8)]


def attention() -> keras.Model:
    words = keras.Input((12,))
    embedded = LAYERS.Embedding(50, 16)(words)
    seen = LAYERS.MultiHeadAttention(2, 8)(embedded, embedded)
    pooled = LAYERS.GlobalAveragePooling1D()(LAYERS.LayerNormalization()(seen + embedded))
    return keras.Model(words, LAYERS.Dense(10, activation="softmax")(pooled))


def train(model: keras.Model, data: np.ndarray, optimizer: str = "adam") -> keras.Model:
    """Train for two epochs of two steps."""
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=model.layers[-1].activation is not keras.activations.softmax))
    model.fit(data, CLASSES, epochs=2, batch_size=32, verbose=0, shuffle=False)
    return model


def stack(shape: tuple[int, ...], layers: list) -> keras.Model:
    return keras.Sequential([LAYERS.Input(shape), *layers, LAYERS.Dense(10)])


def digits() -> keras.Model:
    """One epoch of the shipped training, with eight filters."""
    from ml_repo.project.data import load_data
    from ml_repo.project.model import build_model
    from ml_repo.project.training import train_model

    data = load_data("digits")
    model = build_model(data.train.images.shape[1:], len(data.classes), filters=8)
    train_model(model, data, 0.003, 32, 1, 0, False, 0.1)
    return model


TRAININGS = {"dense": lambda: train(stack((8, 8, 2), dense()), IMAGES), "convolution": lambda: train(stack((8, 8, 2), convolution()), IMAGES, "rmsprop"),
             "recurrent": lambda: train(stack((12, 6), recurrent()), SERIES, "adamw"), "attention": lambda: train(attention(), WORDS)}
if find_spec("ml_repo.project"):
    TRAININGS["digits"] = digits


def prepare(is_portable: bool) -> None:
    """Seed Keras, and let TensorFlow compute the same each time."""
    if is_portable:
        fix_operations()
    keras.utils.set_random_seed(0)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()


if __name__ == "__main__":
    chosen = [word for word in sys.argv[1:] if word != "--plain"] or list(TRAININGS)
    for name in chosen:
        prepare("--plain" not in sys.argv)
        since = time.perf_counter()
        weights = hash_weights(TRAININGS[name]().weights)
        print(f"{name:<12} {weights[:16]} {time.perf_counter() - since:.1f} s", flush=True)
