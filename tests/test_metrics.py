"""The last value of a metric is one and the same, wherever it is read, whatever the steps."""
import json
import math
import os
from datetime import date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import checked

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
from ml_repo.core.metrics import summarize_metrics
from ml_repo.integrations.mlflow_mapping import shorten_id
from ml_repo.integrations.mlflow_writer import Store
from ml_repo.integrations.tensorboard_writer import Board
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.record import open_record
from ml_repo.results.search import find_runs, load_metrics
from ml_repo.site.sparklines import draw_curves, sample_curves
from ml_repo.study.pruners import read_steps
from ml_repo.tracking.run import Run

KINDS = {  # the steps and values of val_loss, in the order of logging
    "usual": [(1, 0.5), (2, 0.25), (3, 0.75)],
    "fractional": [(step / 4, float(step)) for step in range(5)],
    "a second fit": [*((step, 1 / step) for step in range(1, 6)), (1, 0.1), (2, 0.05)],
    "resumed in the middle": [(100, 1.0), (200, 0.9), (300, 0.8), (200, 0.7), (300, 0.6)],
    "twice at one step": [(1, 0.5), (1, 0.75), (2, 0.9), (2, 0.1)],
    "without steps": [(None, 0.5), (None, 0.9), (None, 0.1)],
    "nan at the end": [(1, 0.5), (2, float("nan"))],
    "infinite at the end": [(1, 0.5), (2, float("-inf"))],
    "negative and huge": [(-3, 0.5), (0, 0.4), (10**12, 0.3)],
    "backwards": [(3, 0.1), (2, 0.2), (1, 0.3)],
}


def same(first: float, second: float) -> bool:
    return first == second or (math.isnan(first) and math.isnan(second))


def keep_run(home: Path, experiment: str, *logged: dict) -> Path:
    """Make the record of a run that has logged."""
    record = open_record(home, "train.ipynb", experiment=experiment)
    nbformat.write(nbformat.v4.new_notebook(), record.folder / "train.ipynb")
    run = Run(record.folder)
    for values in logged:
        run.log(split="validation", direction="lower", **values)
    lines = [json.loads(line) for line in (record.folder / "metrics.jsonl").read_text().splitlines()]
    record.close("completed", metrics=summarize_metrics(lines))
    return record.folder


@pytest.fixture(scope="module")
def experiments(tmp_path_factory) -> Path:
    """A run of each kind, named by its experiment."""
    home = tmp_path_factory.mktemp("metrics") / "experiments"
    for kind, points in KINDS.items():
        keep_run(home, kind, *({"step": step, "loss": value} for step, value in points))
    return home


def test_record_and_python_have_the_value_that_was_logged_last(experiments):
    runs = {run.experiment: run for run in find_runs(records=[experiments])}
    for kind, points in KINDS.items():
        record = read_record(runs[kind].folder)
        assert same(float(record["metrics"][0]["value"]), points[-1][1]), kind
        assert record["metrics"][0]["step"] == points[-1][0], kind
        assert same(runs[kind].metrics["val_loss"], points[-1][1]), kind
        table = load_metrics(runs[kind])
        assert [None if is_none else step for step, is_none in zip(table["step"], table["step"].isna())] == [step for step, _ in points], kind
        assert same(table["value"].iloc[-1], points[-1][1]), kind


def test_the_table_of_runs_and_a_page_have_it(experiments, tmp_path):
    listed = {run["experiment"]: run for run in json.loads(checked("ml-repo", "ls", "--json", "--records", experiments))}
    for kind, points in KINDS.items():
        assert same(float(listed[kind]["metrics"]["val_loss"]), points[-1][1]), kind
    shown = checked("ml-repo", "show", listed["nan at the end"]["run"], "--records", experiments)
    assert "val_loss   nan" in shown


def test_mlflow_has_it(experiments, tmp_path):
    store, seen = Store(f"sqlite:///{tmp_path}/mlflow.db", experiments), {}
    for folder in find_records(experiments):
        record, progress, _ = store.push(folder)
        run = store.client.get_run(progress.run)
        seen[record["experiment"]] = run
        history = store.client.get_metric_history(progress.run, "val_loss")
        assert len(history) == len(KINDS[record["experiment"]])
    for kind, points in KINDS.items():
        value = seen[kind].data.metrics["val_loss"]
        assert same(value, points[-1][1]) or (math.isinf(points[-1][1]) and abs(value) > 1.7e308), (kind, value)
        is_moved = kind in ("fractional", "a second fit", "resumed in the middle", "backwards")
        assert ("val_loss" in seen[kind].data.tags.get("ml_repo.steps", "")) == is_moved, kind


def test_tensorboard_has_it(experiments, tmp_path):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import PyRecordReader_New

    Board(tmp_path / "board").sync(find_records(experiments))
    for folder in find_records(experiments):
        kind, points = read_record(folder)["experiment"], []
        for path in (tmp_path / "board" / shorten_id(folder.name)).glob("*tfevents*"):
            reader = PyRecordReader_New(str(path))
            while True:
                try:
                    reader.GetNext()
                except Exception:  # the end of the file
                    break
                event = Event.FromString(reader.record())
                points.extend((event.step, value.simple_value) for value in event.summary.value if value.HasField("simple_value"))
        last = KINDS[kind][-1][1]
        assert same(points[-1][1], np.float32(last)), kind
        if KINDS[kind][0][0] is not None:
            steps = [step for step, _ in points]
            assert steps == sorted(steps), kind


def test_no_curve_goes_backwards(experiments):
    for folder in find_records(experiments):
        drawn = draw_curves(sample_curves(folder))
        for piece in drawn.split('points="')[1:]:
            across = [float(point.split(",")[0]) for point in piece.split('"')[0].split()]
            assert across == sorted(across)


def test_a_pruner_gets_whole_steps(experiments):
    for folder in find_records(experiments):
        lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert all(type(step) is int for step in read_steps(lines, "val_loss"))


class GpuTensor:
    """Behaves as a tensor of PyTorch on a GPU that needs a gradient."""

    def numpy(self):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def tolist(self):
        return 0.5


class EagerTensor:
    """Behaves as a tensor of TensorFlow."""

    def numpy(self):
        return np.array([0.5], "float32")


@pytest.mark.parametrize("value", [0.5, np.float16(0.5), np.array(0.5), np.array([[0.5]]), Decimal("0.5"), Fraction(1, 2), GpuTensor(), EagerTensor(), [0.5]])
def test_a_number_of_any_library_is_taken(tmp_path, value):
    Run(tmp_path).log(step=np.int32(2), loss=value)
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["values"] == {"loss": 0.5}


@pytest.mark.parametrize("value", [True, np.bool_(False), np.array([True]), "0.5", b"0.5", None, date(2026, 11, 1), np.datetime64("2026-11-01"),
                                   np.timedelta64(1, "s"), 1j, object(), [], {}, [0.5, "x"], {"a": None}])
def test_what_is_no_number_is_refused_by_its_name(tmp_path, value):
    with pytest.raises(TypeError, match="is_best.* is not a metric"):
        Run(tmp_path).log(step=1, loss=0.5, is_best=value)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize("step", [True, "3", date(2026, 11, 1), datetime(2026, 11, 1), np.datetime64("2026-11-01"), [1, 2], float("nan"), float("inf")])
def test_what_is_no_step_is_refused(tmp_path, step):
    with pytest.raises((TypeError, ValueError), match="A step is a"):
        Run(tmp_path).log(step=step, loss=0.5)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_several_values_become_a_metric_each(tmp_path):
    report = {"cat": {"recall": 0.5, "support": 3}, "dog": {"recall": 0.25, "support": 1}, "accuracy": 0.75}
    run = Run(tmp_path)
    run.log(step=1, f1_score=np.array([0.5, np.nan]), **{"val/report": report})
    values = json.loads((tmp_path / "metrics.jsonl").read_text())["values"]
    assert values == {"f1_score/0": 0.5, "f1_score/1": "nan", "val/report/cat/recall": 0.5, "val/report/cat/support": 3.0,
                      "val/report/dog/recall": 0.25, "val/report/dog/support": 1.0, "val/report/accuracy": 0.75}


def test_a_value_a_class_can_be_searched(tmp_path):
    home = tmp_path / "experiments"
    folder = keep_run(home, "classes", {"step": 1, "f1_score": np.array([0.5, 0.25])})
    assert len(find_runs("val_f1_score/0 > 0.4", records=[home])) == 1 and len(find_runs("val_f1_score/1 > 0.4", records=[home])) == 0
    best = checked("ml-repo", "best", "val_f1_score/0", "--records", home)
    assert folder.name in best
