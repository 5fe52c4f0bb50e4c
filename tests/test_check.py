"""`ml-repo check` finds what is planted in strangers' notebooks, leaves clean ones alone, and what its rules say of libraries is so."""
import json
import os
import sys
import warnings
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from check_notebooks import read_list
from conftest import checked, run
from strangers import PYTHON, STRANGERS

from ml_repo.notebook.checks import RULES, find_complaints
from ml_repo.notebook.draws import GENERATORS
from ml_repo.notebook.known_values import UNKNOWN, MadeCall

LISTS = ("planted", "fresh", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth")  # in the order in which they were written, all before the rules knew them
TRUE_OF_STRANGERS = Counter(names=5, exit=3)  # five use a name that is not there, three end by sys.exit or os._exit


def list_found(notebook: nbformat.NotebookNode) -> list[tuple[str, int, str]]:
    """Rule, cell and code of what is found in a notebook."""
    content = nbformat.convert(notebook, 4)
    return [(complaint.rule.name, complaint.found.cell, complaint.found.code) for complaint in find_complaints(content)]


def test_planted_causes_are_found_in_their_cell():
    lists = {name: [one for one in read_list(name) if one.rule] for name in LISTS}
    assert len(lists["planted"]) == 30 and {one.rule for part in lists.values() for one in part} == {rule.name for rule in RULES}
    missed = {name: [one.name for one in part if (one.rule, one.cell) not in [place[:2] for place in list_found(one.build())]]
              for name, part in lists.items()}
    assert missed == {name: [] for name in LISTS}


def test_clean_notebooks_are_left_alone():
    clean = [one for name in ("clean", *LISTS) for one in read_list(name) if not one.rule]
    assert len(clean) >= 95
    assert {one.name: found for one in clean if (found := list_found(one.build()))} == {}


def test_other_peoples_notebooks_give_no_false_alarm(tmp_path):
    found = Counter()
    for number, stranger in enumerate(STRANGERS.values()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.update(complaint.rule.name for complaint in find_complaints(stranger.write(tmp_path / str(number))))
        except ValueError as error:
            assert "a.ipynb" in str(error) or "notebook" in str(error)
    assert found == TRUE_OF_STRANGERS


# What the rules say of libraries, measured.

DRAWS = """
import inspect, json, warnings
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.utils import all_estimators
warnings.filterwarnings("ignore")
rng = np.random.default_rng(0)
x = np.abs(rng.normal(size=(150, 30))).round(1)
labels, values, new = (x[:, 0] + x[:, 1] > 1.6).astype(int), x[:, 0] * 3 + rng.normal(size=150), np.abs(rng.normal(size=(40, 30))).round(1)

def look(fitted):
    found = [np.asarray(value) for name, value in sorted(vars(fitted).items()) if name.endswith("_") and isinstance(value, (np.ndarray, float))]
    for method in ("predict", "transform", "predict_proba", "score_samples"):
        if hasattr(fitted, method):
            result = getattr(fitted, method)(new)  # of new samples: a tree knows those that it was fitted on
            found.append(np.asarray(result.todense() if hasattr(result, "todense") else result))
    return [part.tobytes() for part in found if part.dtype != object]

draws = {}
for name, kind in all_estimators():
    takes = inspect.signature(kind.__init__).parameters
    if "random_state" not in takes or name.startswith(("GaussianProcess", "Halving", "TSNE", "Patch")) or "estimators" in takes:
        continue
    small = {"n_components": 3, "n_estimators": 10, "max_iter": 20, "n_clusters": 3}
    options = {key: value for key, value in small.items() if key in takes}
    if "estimator" in takes and takes["estimator"].default is inspect.Parameter.empty:
        options["estimator"] = Ridge() if "Regress" in name or "Randomized" in name else LogisticRegression()
    if name == "RandomizedSearchCV":
        options["param_distributions"] = {"alpha": list(np.linspace(0.1, 9, 50))}
    wanted = values if "Regressor" in name or name in ("LinearSVR", "RandomizedSearchCV") else labels
    wanted = np.c_[wanted, wanted[::-1]] if "Chain" in name or name.startswith("MultiTask") else wanted
    seen = []
    for seed in (0, 1):
        np.random.seed(seed)
        seen.append(look(kind(**options).fit(x, wanted)))
    draws[f"{kind.__module__.rpartition('.')[0]}.{name}"] = seen[0] != seen[1]
print(json.dumps(draws))
"""
ONLY_FOR_SOME_DATA = {"HistGradientBoostingClassifier", "HistGradientBoostingRegressor", "LinearSVC", "SpectralClustering"}


def measure(program: str, *words: str, **environment: str) -> str:
    """What a program prints, in a process of its own."""
    return checked(sys.executable, "-W", "ignore", "-c", program, *words, TF_CPP_MIN_LOG_LEVEL="3", **environment).strip().splitlines()[-1]


@pytest.mark.slow
def test_estimators_that_draw_are_those_that_are_named():
    draws = json.loads(measure(DRAWS, OMP_NUM_THREADS="1"))
    named = {name for name in draws if any(row.draws.fullmatch(name) and row.own == {"random_state"}
                                           and row.condition(MadeCall(1, None, name, UNKNOWN, [], {}, None, 1)) for row in GENERATORS)}
    measured = {name for name, is_drawn in draws.items() if is_drawn}
    assert len(draws) > 80 and measured - named == set()
    assert {name.rpartition(".")[2] for name in named - measured} <= ONLY_FOR_SOME_DATA


@pytest.mark.slow
def test_the_order_of_texts_in_a_set_is_that_of_the_process():
    texts = {measure("print(list(set('abcdefgh')))", PYTHONHASHSEED=str(seed)) for seed in range(5)}
    numbers = {measure("print(list({5, 3, 99, -7, 1000, 2.5}))", PYTHONHASHSEED=str(seed)) for seed in range(5)}
    assert len(texts) > 1 and len(numbers) == 1


FORESTS = """
import numpy as np
from sklearn.datasets import make_classification, make_regression
from sklearn import ensemble
new = np.random.default_rng(0).normal(size=(1000, 20))
for name, options in (("RandomForestClassifier", {"max_depth": 6}), ("ExtraTreesRegressor", {}), ("RandomForestClassifier", {})):
    make = make_regression if name.endswith("Regressor") else make_classification
    for jobs in (1, 2):
        forest = getattr(ensemble, name)(60, random_state=0, n_jobs=jobs, **options).fit(*make(2000, 20, random_state=0))
        predict = getattr(forest, "predict_proba", forest.predict)
        print(len({predict(new).tobytes() for _ in range(40)}) > 1, end=" ")
"""


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="NOT TESTED: two threads need two processors")
def test_forests_in_parallel_change_their_last_bits():
    """One that is fully grown has leaves of one class, and sums of whole numbers are the same in any order."""
    assert measure(FORESTS).split() == ["False", "True", "False", "True", "False", "False"]


DETERMINISM = """
import hashlib, sys
import keras
import numpy as np
import tensorflow as tf
keras.utils.set_random_seed(0)
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
data = tf.data.Dataset.from_tensor_slices((rng.normal(size=(512, 28, 28, 1)).astype("float32"), rng.integers(0, 10, 512))).batch(64)
model = keras.Sequential([keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(10)])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(data, epochs=2, verbose=0)
print(hashlib.sha256(b"".join(weight.tobytes() for weight in model.get_weights())).hexdigest())
"""
EPOCHS = """
import keras
import numpy as np
samples, seen = np.arange(32, dtype="float32")[:, None], []
class Watching(keras.layers.Layer):
    def call(self, batch):
        seen.extend(np.array(batch)[:, 0].tolist())
        return batch
def list_epochs():
    seen.clear()
    model = keras.Sequential([keras.Input((1,)), Watching(), keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    seen.clear()
    model.fit(samples, samples, epochs=3, batch_size=4, verbose=0)
    return [seen[start:start + 32] for start in (0, 32, 64)]
free = list_epochs()
keras.utils.set_random_seed(0)
seeded = list_epochs()
print(free[0] != free[1], seeded[0] == seeded[1] == seeded[2] != sorted(seeded[0]))
"""


WEIGHTS = """
import random, sys
import keras
import tensorflow as tf
{"random": random.seed, "tensorflow": tf.random.set_seed, "keras": keras.utils.set_random_seed}[sys.argv[1]](0)
print(keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]).get_weights()[0].tobytes().hex())
"""


@pytest.mark.slow
def test_seed_of_tensorflow_leaves_first_weights_of_keras_to_chance():
    pytest.importorskip("tensorflow")
    weights = {seed: {measure(WEIGHTS, seed, KERAS_BACKEND="tensorflow") for _ in range(2)} for seed in ("random", "tensorflow", "keras")}
    assert {seed: len(found) for seed, found in weights.items()} == {"random": 1, "tensorflow": 2, "keras": 1}


@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="NOT TESTED: two threads need two processors")
def test_deterministic_operations_hold_for_one_number_of_threads():
    pytest.importorskip("tensorflow")
    one, two, again = (measure(DETERMINISM, count) for count in "121")
    assert one == again != two


@pytest.mark.slow
def test_a_seeded_fit_on_arrays_has_one_order_in_all_epochs():
    pytest.importorskip("tensorflow")
    assert measure(EPOCHS, KERAS_BACKEND="tensorflow") == "True True"


def run_cells(folder: Path, *sources: str) -> tuple[int, list[str]]:
    """Exit status of papermill, and what each cell printed."""
    nbformat.write(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, sources)), metadata=PYTHON), folder / "a.ipynb")
    status = run("papermill", "a.ipynb", "out.ipynb", "--no-progress-bar", cwd=folder).returncode
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    return status, ["".join(output.get("text", "") for output in cell.get("outputs", [])) for cell in cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("end, status, goes_on", [
    ("import sys; sys.exit()", 0, False), ("raise SystemExit", 0, False), ("import sys; sys.exit('no data')", 1, False), ("exit()", None, True),
    ("quit()", None, True), ("import argparse; argparse.ArgumentParser().parse_args()", 1, False), ("import os; os._exit(0)", 1, False)])
def test_what_an_exit_does_to_a_run_of_papermill(tmp_path, end, status, goes_on):
    """After `exit()` the kernel goes on for a while, so how such a run ends is a matter of time."""
    found, printed = run_cells(tmp_path, end, "print('later')")
    assert ("later\n" in printed, status is None or bool(found) == bool(status)) == (goes_on, True)


@pytest.mark.slow
def test_lines_of_a_thread_stand_in_the_cell_that_runs(tmp_path):
    begin = ("import threading\nfirst, second = threading.Event(), threading.Event()\n"
             "def report():\n    first.wait()\n    print('line')\n    second.set()\nthread = threading.Thread(target=report)\nthread.start()")
    status, printed = run_cells(tmp_path, begin, "first.set()\nsecond.wait()\nthread.join()")
    assert (status, printed) == (0, ["", "line\n"])
