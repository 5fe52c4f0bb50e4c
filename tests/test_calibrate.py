"""How far the results of a run vary is measured by running it again, kept, and used where two results differ."""
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, await_true, checked, run
from test_record import make_repository, write_notebook

from ml_repo.records.calibration import read_calibrations
from ml_repo.records.reader import read_record
from ml_repo.results.search import find_runs

VALUES = "alpha: float = 1.0  # above 0\nseed: int = 0  # at least 0\ndeterministic: bool = True  # the same bits\n"
FIT = """
import os, time
import numpy as np
from ml_repo.tracking.run import start_run
run = start_run()
noise = np.random.default_rng(seed if deterministic else None)
x = noise.normal(size=(200, 5))
y = x @ np.arange(5) + noise.normal(size=200)
weights = np.linalg.solve(x.T @ x + alpha * np.eye(5), x.T @ y)
for step in range(3):
    run.log(step=step, split="validation", loss=float(np.mean((x @ weights - y) ** 2)) + step)
run.log(fit_duration_s=time.perf_counter())
"""
CHANCE = "import os\nrun.log(split='test', loss=1 + int.from_bytes(os.urandom(2), 'big') / 2**20)"


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository with a cheap fit that repeats to the bit, and one that does not."""
    write_notebook(tmp_path / "fit.ipynb", VALUES, FIT)
    write_notebook(tmp_path / "chance.ipynb", VALUES, FIT, CHANCE)
    return make_repository(tmp_path)


def test_a_calibration_is_kept_and_used_by_compare_and_verify(project):
    checked("ml-repo", "run", "fit.ipynb", "--quiet", cwd=project)
    first = max((project / "experiments").glob("fit-*"))
    said = checked("ml-repo", "calibrate", first.name, "--repeats", "2", cwd=project)
    assert "2 repeats at the same seed: the same bits." in said and "over 3 seeds" in said, said
    assert "other bits" in said and "determinism off" in said, said  # without the seed, as the notebook has it
    (calibration,) = read_calibrations(project / "experiments")
    assert [(one.kind, one.seed, one.deterministic) for one in calibration.repeats] == [
        ("same seed", 0, True)] * 2 + [("other seed", 1, True), ("other seed", 2, True), ("determinism switched", 0, False)]
    assert calibration.ground["processor"] and set(calibration.repeats[0].metrics) == {"val_loss"}
    assert len(find_runs(records=[project / "experiments"])) == 1, "not listed"
    assert len(find_runs(records=[project / "experiments"], repetitions=True)) == 6
    again = json.loads(checked("ml-repo", "calibrate", first.name, "--repeats", "2", "--json", cwd=project))
    assert len(again["repeats"]) == 5 and again["is_repeatable"] and len(list((project / "experiments").glob("fit-*"))) == 6

    for alpha in ("1.0001", "60"):
        checked("ml-repo", "run", "fit.ipynb", "-p", "alpha", alpha, "--quiet", cwd=project)
    near, far = sorted((project / "experiments").glob("fit-*"))[-2:]
    for other, verdict in ((near, "within the measured spread"), (far, "larger than the measured spread")):
        said = checked("ml-repo", "compare", first.name, other.name, cwd=project)
        assert f"{verdict} over seeds: ±" in said, said
        (difference,) = json.loads(checked("ml-repo", "compare", first.name, other.name, "--json", cwd=project))["differences"]
        assert difference["measured"]["verdict"] == verdict and difference["measured"]["n"] == 3


@pytest.mark.slow
def test_a_run_that_does_not_repeat_is_explained_and_not_excused(project):
    checked("ml-repo", "run", "chance.ipynb", "--quiet", cwd=project)
    first = max((project / "experiments").glob("chance-*"))
    said = checked("ml-repo", "calibrate", first.name, "--seeds", "1", "--no-switch", cwd=project)
    assert "other bits" in said and "repeats differ by" in said, said
    done = run("ml-repo", "verify", first.name, "--copies", "0", "--full", cwd=project)
    assert done.returncode == 2 and "of this run differ on this machine (up to" in done.stdout, done.stdout
    (item,) = [item for item in json.loads((first / "verdict.json").read_text())["items"] if item["name"] == "metric test_loss"]
    assert item["verdict"] == "differs" and "3 repeats" in item["detail"], item

    # a bitwise repeatable run with a forged record: the repeats say that they do not explain it
    checked("ml-repo", "run", "fit.ipynb", "--quiet", cwd=project)
    forged = max((project / "experiments").glob("fit-*"))
    checked("ml-repo", "calibrate", forged.name, "--seeds", "1", "--no-switch", "--repeats", "2", cwd=project)
    fields = json.loads((forged / "record.json").read_text())
    fields["metrics"][0]["value"] += 1e-3
    (forged / "record.json").write_text(json.dumps(fields))
    done = run("ml-repo", "verify", forged.name, "--copies", "0", "--full", cwd=project)
    assert done.returncode == 2 and "outside what 2 repeats of this run differ on this machine (not at all)" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_calibration_that_is_stopped_goes_on(project):
    slow = "import time\nfrom pathlib import Path\ntime.sleep(1)"
    write_notebook(project / "fit.ipynb", VALUES, slow, FIT)
    checked("ml-repo", "run", "fit.ipynb", "--quiet", cwd=project)
    first = max((project / "experiments").glob("fit-*"))
    words = [BIN / "ml-repo", "calibrate", first.name, "--repeats", "2", "--seeds", "2", "--no-switch"]
    process = subprocess.Popen(words, cwd=project, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               env=os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"})
    await_true(lambda: read_calibrations(project / "experiments"), "its first repeat")
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[0]
    (calibration,) = read_calibrations(project / "experiments")
    kept = len(calibration.repeats)
    assert process.returncode not in (0, None) and 1 <= kept < 3 and "Traceback" not in said, said
    said = run("ml-repo", "calibrate", first.name, "--repeats", "2", "--seeds", "2", "--no-switch", cwd=project)
    assert said.returncode == 0 and f"{kept + 1}/3" in said.stdout and "1/3" not in said.stdout.replace(f"{kept + 1}/3", ""), said.stdout
    (whole,) = read_calibrations(project / "experiments")
    assert whole.repeats[:kept] == calibration.repeats and len(whole.repeats) == 3
    assert {read_record(path)["state"] for path in (project / "experiments").glob("fit-*")} == {"completed"}


def test_what_cannot_be_calibrated_says_why(project):
    write_notebook(project / "plain.ipynb", "alpha: float = 1.0  # above 0\n", "assert alpha < 2")
    run("ml-repo", "run", "plain.ipynb", "-p", "alpha", "3", "--quiet", cwd=project)
    failed = run("ml-repo", "calibrate", "latest", cwd=project)
    assert failed.returncode == 2 and "is failed, so it has no results to calibrate" in failed.stdout, failed.stdout
    checked("ml-repo", "run", "plain.ipynb", "--quiet", cwd=project)
    said = checked("ml-repo", "calibrate", "latest", "--repeats", "2", cwd=project)
    assert "no parameter seed" in said and "no parameter deterministic" in said, said
