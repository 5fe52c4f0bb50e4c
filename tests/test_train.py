"""The main job, as a person runs it."""
import json
import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jsonschema
import nbformat
import numpy as np
import pytest
from conftest import BIN, Executed, checked, run
from PIL import Image

from ml_repo.core.files import read_lines
from ml_repo.core.metrics import read_metrics
from ml_repo.records.reader import Record, read_record
from ml_repo.records.schema import RECORD_SCHEMA


@pytest.fixture(scope="module")
def runs(clone, tmp_path_factory) -> dict[str, Executed]:
    """Two runs at the same time in one repository: `make train`, and papermill from nbs/."""
    folder = tmp_path_factory.mktemp("runs") / "repository"
    checked("git", "clone", "--quiet", clone, folder)
    (folder / ".venv").symlink_to(BIN.parent)
    if "uv pip" in checked("make", "--dry-run", "train", cwd=folder):
        pytest.fail("This environment is older than settings.ini or the lock, and would be made anew from a temporary clone. Run: make test")
    commands = {
        "default": (["make", "train"], folder),
        "from_nbs": (["papermill", "train.ipynb", "../from_nbs.ipynb"], folder / "nbs"),
    }
    with ThreadPoolExecutor() as pool:
        printed = {name: pool.submit(checked, *command, cwd=cwd) for name, (command, cwd) in commands.items()}
    outputs = {name: folder / f"{name}.ipynb" for name in commands}
    record = re.search(r"^(/.*/experiments/train-\S+)$", printed["default"].result(), flags=re.MULTILINE)[1]
    outputs["default"] = Path(record) / "train.ipynb"
    return {name: Executed(outputs[name], printed[name].result()) for name in commands}


@pytest.fixture
def default_run(runs) -> Executed:
    return runs["default"]


def record_of(executed: Executed) -> Record:
    """The record of a run, found by what its executed notebook says."""
    run = json.loads(executed.path.read_text())["metadata"]["ml_repo"]["run"]
    return read_record(next(folder / "experiments" / run for folder in executed.path.parents if (folder / "experiments" / run).is_dir()))


def test_make_train_reaches_the_accuracy_that_the_readme_claims(default_run):
    printed = default_run.printed
    assert read_metrics(default_run.path)["test", "accuracy"] >= 0.98
    assert "accuracy" in printed and str(default_run.path.parent) in printed
    assert "epoch 20/20" in printed and printed.count("\nepoch ") <= 10


def test_the_record_says_all_that_the_notebook_used(default_run):
    record = record_of(default_run)
    jsonschema.validate(json.loads((record.folder / "record.json").read_text()), RECORD_SCHEMA)
    assert record["state"] == "completed" and not record["warnings"]
    assert record["parameters"]["lr"] == {"default": 0.003, "used": 0.003}
    assert record["data"]["digits"]["sha256"] == default_run.fact("data_fingerprint")
    assert record["weights"]["model"] == default_run.fact("weights_fingerprint")
    assert record["determinism"]["operations"] is True and record["determinism"]["seed"] == 0
    assert record["libraries"]["tensorflow"] and record["packages"]["matches_lock"] is True
    written = [one["path"] for one in record["outputs"]["files"] if one.get("is_certain", True)]  # others train beside it
    assert written == ["artifacts/model.keras"]
    logged = {(one["split"], one["name"]): one for one in record["metrics"]}
    assert logged["test", "accuracy"]["direction"] == "higher" and logged["validation", "loss"]["step"] is None
    assert len(read_lines(record.folder / "metrics.jsonl")) == 2 * 20 + 8  # two splits an epoch, and the table at the end
    assert (record.folder / "record.json").stat().st_size <= 10_000


def test_the_executed_notebook_is_a_whole_report(default_run):
    nbformat.validate(nbformat.read(default_run.path, as_version=4))
    assert len(default_run.figures()) == 4
    assert all(figure.startswith(b"\x89PNG") for figure in default_run.figures())
    for name in ("commit", "tensorflow", "lock", "cpu", "backend", "data_fingerprint"):
        assert default_run.fact(name), name
    assert not any(output["output_type"] == "error" for cell in default_run.cells for output in cell.get("outputs", []))


def test_the_trained_model_can_be_loaded_and_is_the_one_that_was_measured(default_run):
    program = """if True:
        import sys
        from ml_repo.project.data import load_data
        from ml_repo.core.hashing import hash_weights
        from ml_repo.results.search import load_metrics, load_model
        model, test = load_model(sys.argv[1]), load_data("digits").test
        print("curve", len(load_metrics(sys.argv[1]).query("metric == 'val_accuracy'")))
        print("hash", hash_weights(model.weights))
        print("accuracy", float((model.predict(test.images, verbose=0).argmax(axis=1) == test.labels).mean()))"""
    printed = checked(sys.executable, "-c", program, default_run.path.parent)
    assert "curve 21" in printed  # twenty epochs, and the value at the end
    assert f"hash {default_run.fact('weights_fingerprint')}" in printed
    accuracy = float(re.search(r"accuracy (\S+)", printed)[1])
    assert math.isclose(accuracy, read_metrics(default_run.path)["test", "accuracy"], abs_tol=1 / 359 + 1e-9)


def test_the_same_parameters_give_the_same_bits_also_from_nbs(default_run, runs):
    again = runs["from_nbs"]
    assert again.fact("weights_fingerprint") == default_run.fact("weights_fingerprint")
    timeless = lambda metrics: [metric for metric in metrics if not metric.name.endswith("_s")]
    assert timeless(read_metrics(again.path)) == timeless(read_metrics(default_run.path))
    assert again.figures() == default_run.figures()


@pytest.mark.slow
def test_another_seed_gives_other_bits(default_run, tree):
    checked("papermill", "nbs/train.ipynb", "other_seed.ipynb", "-p", "seed", "1", cwd=tree)
    other = Executed(tree / "other_seed.ipynb")
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
            "-p", "filters", "4", "-p", "mixed_precision", "True", cwd=tree, ML_REPO_PORTABLE="0")  # 16 bits may need AVX-512
    executed = Executed(tree / "out.ipynb")
    assert executed.fact("is_dirty") == "False", "the run's own output and data made the tree dirty"
    assert re.search(r"^lr +0.01 +0.003", executed.text(), flags=re.MULTILINE)
    assert "(12, 10, 3)" in executed.text() and "mixed_bfloat16" in executed.text()
    assert read_metrics(executed.path)


@pytest.mark.parametrize("given, message", [
    (["batchsize", "32"], r"no parameter batchsize. Did you mean batch_size\?"),
    (["epochs", "many"], r"epochs = 'many' is of type str, but epochs is of type int"),
    (["lr", "0"], r"lr = 0 is out of range: it must be above 0"),
])
def test_wrong_parameters_are_refused_before_a_kernel_starts(given, message, tree):
    result = run("papermill", "nbs/train.ipynb", "out.ipynb", "-p", *given, cwd=tree)
    assert result.returncode == 2
    assert re.search(message, result.stdout), result.stdout
    assert not (tree / "out.ipynb").exists() and not (tree / "experiments").exists()


def test_a_wrong_data_set_ends_the_run_before_anything_is_loaded(tree):
    result = run("papermill", "nbs/train.ipynb", "out.ipynb", "-p", "data", "digit", cwd=tree)
    assert result.returncode == 1
    assert "no data set 'digit'. Did you mean digits?" in result.stdout
    assert not Executed(tree / "out.ipynb").figures()
    record = record_of(Executed(tree / "out.ipynb"))
    assert (record["state"], record["cause"]["exception"]) == ("failed", "DataError")


def test_a_lost_tag_is_refused(tree):
    notebook = tree / "nbs" / "train.ipynb"
    notebook.write_text(notebook.read_text().replace('"parameters"', '"parameter"'))
    result = run("papermill", notebook, "out.ipynb", "-p", "lr", "0.5", cwd=tree)
    assert result.returncode == 2 and "has no cell tagged `parameters`" in result.stdout


def test_a_data_set_that_cannot_be_fetched_says_where_to_put_it(tmp_path):
    program = "from ml_repo.project.data import load_data; load_data('mnist')"
    nowhere = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "KERAS_HOME": str(tmp_path)}
    result = run(sys.executable, "-c", program, **nowhere)
    assert result.returncode != 0
    last = result.stdout.strip().splitlines()[-1]
    assert last.startswith("ml_repo.project.datasets.DataError: mnist") and f"{tmp_path}/datasets" in last and "mnist.npz" in last, result.stdout
