"""The main job, as a person runs it."""
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import numpy as np
import pytest
from conftest import ROOT, Executed, checked, run
from PIL import Image

from ml_repo.metrics import read_metrics


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Executed]:
    """Three runs at the same time: `make train`, the same from nbs/, and another seed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("default", "from_nbs", "other_seed")}
    commands = {
        "default": (["make", "train", f"RUN={folders['default']}"], ROOT),
        "from_nbs": (["papermill", "train.ipynb", folders["from_nbs"] / "train.ipynb"], ROOT / "nbs"),
        "other_seed": (["papermill", "nbs/train.ipynb", folders["other_seed"] / "train.ipynb", "-p", "seed", "1"], ROOT),
    }
    with ThreadPoolExecutor() as pool:
        printed = {name: pool.submit(checked, *command, cwd=cwd) for name, (command, cwd) in commands.items()}
    return {name: Executed(folder / "train.ipynb", printed[name].result()) for name, folder in folders.items()}


@pytest.fixture
def default_run(runs) -> Executed:
    return runs["default"]


def test_make_train_reaches_the_accuracy_that_the_readme_claims(default_run):
    printed = default_run.printed
    assert read_metrics(default_run.path)["test", "accuracy"] >= 0.98
    assert "accuracy" in printed and str(default_run.path) in printed
    assert "epoch 20/20" in printed and printed.count("\nepoch ") <= 10


def test_the_executed_notebook_is_a_whole_report(default_run):
    nbformat.validate(nbformat.read(default_run.path, as_version=4))
    assert len(default_run.figures()) == 4
    assert all(figure.startswith(b"\x89PNG") for figure in default_run.figures())
    for name in ("commit", "tensorflow", "lock", "cpu", "backend", "data_fingerprint"):
        assert default_run.fact(name), name
    assert not any(output["output_type"] == "error" for cell in default_run.cells for output in cell.get("outputs", []))


def test_the_trained_model_can_be_loaded_and_is_the_one_that_was_measured(default_run):
    program = """if True:
        import sys, keras, numpy
        from ml_repo.data import load_data
        from ml_repo.fingerprint import hash_weights
        model, test = keras.models.load_model(sys.argv[1], safe_mode=True), load_data("digits").test
        print("hash", hash_weights(model.weights))
        print("accuracy", float((model.predict(test.images, verbose=0).argmax(axis=1) == test.labels).mean()))"""
    printed = checked(sys.executable, "-c", program, default_run.path.with_name("model.keras"))
    assert f"hash {default_run.fact('weights_fingerprint')}" in printed
    accuracy = float(re.search(r"accuracy (\S+)", printed)[1])
    assert math.isclose(accuracy, read_metrics(default_run.path)["test", "accuracy"], abs_tol=1 / 359 + 1e-9)


def test_the_same_parameters_give_the_same_bits_also_from_nbs(default_run, runs):
    again = runs["from_nbs"]
    assert again.fact("weights_fingerprint") == default_run.fact("weights_fingerprint")
    timeless = lambda metrics: [metric for metric in metrics if not metric.name.endswith("_s")]
    assert timeless(read_metrics(again.path)) == timeless(read_metrics(default_run.path))
    assert again.figures() == default_run.figures()


def test_another_seed_gives_other_bits(default_run, runs):
    other = runs["other_seed"]
    assert other.fact("weights_fingerprint") != default_run.fact("weights_fingerprint")
    assert other.fact("data_fingerprint") == default_run.fact("data_fingerprint")
    assert read_metrics(other.path)["test", "accuracy"] >= 0.98


def test_the_literal_command_trains_on_a_folder_of_images(tree, tmp_path):
    noise = np.random.default_rng(0)
    for name, level in {"dark": 60, "light": 190}.items():
        (tree / "data" / "shades" / name).mkdir(parents=True)
        for number in range(20):
            pixels = np.clip(noise.normal(level, 20, (12, 10, 3)), 0, 255).astype("uint8")
            Image.fromarray(pixels).save(tree / "data" / "shades" / name / f"{number}.png")
    checked("papermill", "nbs/train.ipynb", "out.ipynb", "-p", "lr", "0.01", "-p", "data", "shades", "-p", "epochs", "2",
            "-p", "filters", "4", "-p", "mixed_precision", "True", cwd=tree)
    executed = Executed(tree / "out.ipynb")
    assert executed.fact("is_dirty") == "False", "the run's own output and data made the tree dirty"
    assert re.search(r"^lr +0.01 +0.003", executed.text(), flags=re.MULTILINE)
    assert "(12, 10, 3)" in executed.text() and "mixed_bfloat16" in executed.text()
    assert read_metrics(executed.path)


@pytest.mark.parametrize("given, message", [
    (["batchsize", "32"], r"no parameter batchsize. Did you mean batch_size\?"),
    (["epochs", "many"], r"epochs = 'many' is of type str, but epochs is of type int"),
    (["lr", "0"], r"lr = 0 is out of range: it must be above 0"),
    (["model_file", "model.h5"], r"model_file = 'model.h5' does not end in .keras"),
    (["data", "digit"], r"no data set 'digit'. Did you mean digits\?"),
])
def test_wrong_parameters_end_the_run_before_the_data(given, message, tmp_path):
    result = run("papermill", "nbs/train.ipynb", tmp_path / "out.ipynb", "-p", *given)
    assert result.returncode != 0
    assert re.search(message, result.stdout), result.stdout
    assert not Executed(tmp_path / "out.ipynb").figures()


def test_a_lost_tag_ends_the_run(tmp_path):
    notebook = tmp_path / "train.ipynb"
    notebook.write_text((ROOT / "nbs" / "train.ipynb").read_text().replace('"parameters"', '"parameter"'))
    result = run("papermill", notebook, tmp_path / "out.ipynb", "-p", "lr", "0.5")
    assert result.returncode != 0 and "has lost its tag" in result.stdout


def test_a_data_set_that_cannot_be_fetched_says_where_to_put_it(tmp_path):
    program = "from ml_repo.data import load_data; load_data('mnist')"
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    result = run(sys.executable, "-c", program, **nowhere)
    assert result.returncode != 0
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("ml_repo.sources.DataError: mnist") and f"{tmp_path}/datasets" in last and "mnist.npz" in last, result.stdout
