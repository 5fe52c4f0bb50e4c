"""What it costs to follow a fit of Keras, beside `mlflow.autolog` on the same fit, in one process.

    .venv/bin/python benchmarks/autolog.py [--rounds 7] [--epochs 5]

Each round trains the same network on scikit-learn's digits three times: alone, followed, and with MLflow's autologging (without the model,
which it would save as well). The three swap places every round. Compared are the medians of the time of `fit`; `added` is the time over that
of the fit alone. Targets: at most 1.015 times as long when followed, and at most a tenth of what MLflow adds. The weights have to be equal.
"""
import argparse
import hashlib
import os
import statistics
import sys
import tempfile
import time

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "MLFLOW_LOGGING_LEVEL": "ERROR"}


def main() -> None:
    """Train, and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    from ml_repo.autolog.autolog import follow_libraries

    folder = tempfile.mkdtemp()
    eval(follow_libraries(folder))
    follower = next(finder for finder in sys.meta_path if type(finder).__name__ == "ImportWatch").follower
    import keras
    import mlflow
    from sklearn.datasets import load_digits

    kind = sys.modules["keras.src.callbacks.callback_list"].CallbackList
    followed, alone = kind.__init__, kind.__init__.__wrapped__
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment("digits")
    images, labels = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8, 1) / 16

    def fit(kind_of_fit: str) -> tuple[float, str]:
        kind.__init__ = followed if kind_of_fit == "followed" else alone
        mlflow.keras.autolog(disable=kind_of_fit != "mlflow", log_models=False, log_datasets=False, silent=True)
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten(),
                  keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.build(images.shape)
        since = time.perf_counter()
        model.fit(images, labels, epochs=options.epochs, validation_split=0.2, batch_size=32, verbose=0)
        seconds = time.perf_counter() - since
        return seconds, hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest()

    kinds, times, weights = ["alone", "followed", "mlflow"], {}, set()
    for name in kinds:
        fit(name)  # what is loaded or made once
    for number in range(options.rounds):
        for name in kinds[number % 3:] + kinds[:number % 3]:
            seconds, digest = fit(name)
            times.setdefault(name, []).append(seconds)
            weights.add(digest)
    medians = {name: statistics.median(times[name]) for name in kinds}
    for name in kinds:
        added = medians[name] - medians["alone"]
        print(f"{name:10} {medians[name]:.3f} s, {medians[name] / medians['alone']:.4f} times as long, {added * 1000:+.1f} ms added")
    lines = sum(1 for _ in open(f"{folder}/metrics.jsonl"))
    print(f"weights {'equal' if len(weights) == 1 else 'DIFFERENT'}; {lines} lines of metrics; problems: {follower.problems or 'none'}")


if __name__ == "__main__":
    main()
