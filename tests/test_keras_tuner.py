"""A search of KerasTuner, whole: each trial a record, killed and gone on with, to the same bits, without a network."""
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import pytest
from conftest import BIN, ROOT, await_true, run

from ml_repo.records.reader import find_records, read_record
from ml_repo.records.schema import RECORD_SCHEMA

pytestmark = pytest.mark.slow
HYPERBAND = ("tuner=hyperband", "epochs=3", "keep=1", "batch_size=128")
WATCH = """
import sys
def watch(event, arguments):
    if event == "socket.getaddrinfo" or event == "socket.connect" and isinstance(arguments[1], tuple):
        with open({file!r}, "a") as file:
            print(event, arguments, file=file)
sys.addaudithook(watch)
open({file!r} + ".on", "w").close()
"""


def command(*values: str) -> list[str]:
    words = [word for value in values for word in ("-p", *value.split("="))]
    return [str(BIN / "ml-repo"), "run", "nbs/tune_keras.ipynb", *words]


def search(records: Path, *values: str, **environment: str) -> None:
    done = run(*command(*values), ML_REPO_RECORDS=str(records), **environment)
    assert done.returncode == 0, done.stdout[-3000:]


def read_trials(records: Path, state: str = "completed") -> list[tuple]:
    """Trial, parameters, weights and score, of the records in a state."""
    found = [record for folder in find_records(records) if "study" in (record := read_record(folder)) and record["state"] == state]
    return sorted((one["study"]["trial"], json.dumps(one["parameters"], sort_keys=True), json.dumps(one.get("weights")),
                   [metric["value"] for metric in one["metrics"] if metric["name"] == "score"]) for one in found)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """The records of a search that nobody disturbs; it asks for no address and calls nobody."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(WATCH.format(file=str(folder / "calls.txt")))
    search(folder / "records", *HYPERBAND, PYTHONPATH=str(folder / "site"))
    assert (folder / "calls.txt.on").exists(), "nobody has watched"
    assert not (folder / "calls.txt").exists(), (folder / "calls.txt").read_text()
    return folder / "records"


@pytest.fixture(scope="module")
def undisturbed(records) -> list[tuple]:
    """Its trials."""
    return read_trials(records)


def test_trials_are_records(undisturbed, records):
    trials = [one[0] for one in undisturbed]
    assert trials == list(range(len(trials))) and len(trials) >= 5
    for folder in find_records(records):
        jsonschema.validate(json.loads((folder / "record.json").read_text()), RECORD_SCHEMA)
        assert (folder / "record.json").stat().st_size <= 10_240
    assert any('"initial_epoch": {"given": 1' in one[1] for one in undisturbed), "no trial has continued another"


@pytest.mark.parametrize("after", [1, 3])
def test_a_killed_search_goes_on(tmp_path, undisturbed, after):
    """Killed while a trial is trained, and started again: no trial lost, none twice, each with the same bits."""
    environment = os.environ | {"ML_REPO_RECORDS": str(tmp_path)}
    first = subprocess.Popen(command(*HYPERBAND), cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_true(lambda: len(list(tmp_path.glob("*/metrics.jsonl"))) > after, f"trial {after}", pause_s=0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(1)  # the kernel outlives its supervisor by a moment
    before = read_trials(tmp_path)
    assert after <= len(before) < len(undisturbed)
    search(tmp_path, *HYPERBAND)
    assert read_trials(tmp_path) == undisturbed
    assert len(read_trials(tmp_path, "killed")) <= 1 and not read_trials(tmp_path, "running")
    search(tmp_path, *HYPERBAND)  # there is nothing left to do
    assert read_trials(tmp_path) == undisturbed
    assert len(list(tmp_path.glob(".keras_tuner/*/trial_*/checkpoint*"))) <= 2


def test_bayesian_optimization(tmp_path):
    search(tmp_path, "tuner=bayesian", "trials=3", "epochs=1", "executions=2", "batch_size=128")
    trials = [record for folder in find_records(tmp_path) if "study" in (record := read_record(folder))]
    assert [one["state"] for one in trials] == ["completed"] * 3
    assert all(set(one["weights"]) == {"last_1", "last_2", "best"} and one["weights"]["last_1"] != one["weights"]["last_2"] for one in trials)
