"""What it costs to follow a fit of Keras, beside `mlflow.autolog` on the same fit, in one process.

    .venv/bin/python benchmarks/autolog.py [--rounds 30] [--epochs 5]

Three equal networks train on scikit-learn's digits: alone, followed, and with MLflow's autologging (without the model, which it would save as
well). A round goes on with the training of each; they swap places every round. Compared are the shortest times of `fit` and the medians of its
processor time, since a machine that is shared makes a fit longer and never shorter; `added` is the time over that of the fit alone. Targets: at
most 1.015 times as long when followed, and at most a tenth of what MLflow adds. The weights have to be equal in the end.
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
    """Train, and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
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

    def build() -> keras.Model:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten(),
                  keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")]
        model = keras.Sequential(layers)
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.build(images.shape)
        return model

    kinds = ["alone", "followed", "mlflow"]
    models, times = {name: build() for name in kinds}, {name: [] for name in kinds}

    def fit(name: str) -> tuple[float, float]:
        kind.__init__ = followed if name == "followed" else alone
        mlflow.keras.autolog(disable=name != "mlflow", log_models=False, log_datasets=False, silent=True)
        keras.utils.set_random_seed(0)
        since = time.perf_counter(), time.process_time()
        models[name].fit(images, labels, epochs=options.epochs, validation_split=0.2, batch_size=32, verbose=0)
        return time.perf_counter() - since[0], time.process_time() - since[1]

    for name in kinds:
        fit(name)  # what is compiled or made once
    for number in range(options.rounds):
        for name in kinds[number % 3:] + kinds[:number % 3]:
            times[name].append(fit(name))
    for label, reduce, place in (("shortest", min, 0), ("processor", statistics.median, 1)):
        totals = {name: reduce(pair[place] for pair in times[name]) for name in kinds}
        for name, total in totals.items():
            print(f"{label:9} {name:8} {total:.3f} s, {total / totals['alone']:.4f} times as long, "
                  f"{(total - totals['alone']) * 1000:+.1f} ms added")
    weights = {hashlib.sha256(b"".join(array.tobytes() for array in model.get_weights())).hexdigest()
               for model in models.values()}
    lines = sum(1 for _ in open(f"{folder}/metrics.jsonl"))
    print(f"weights {'equal' if len(weights) == 1 else 'DIFFERENT'}; {lines} lines of metrics; problems: {follower.problems or 'none'}")


if __name__ == "__main__":
    main()
