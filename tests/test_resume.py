"""Runs that are killed at any moment go on in their own record, and end as if nothing had happened."""
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest
from conftest import LIMIT_S, await_true, checked, needs_example, run
from test_record import make_repository, write_notebook

from ml_repo.records.reader import read_record
from ml_repo.tracking.checkpoint import load_checkpoint

pytestmark = pytest.mark.own_kernel

VALUES = "epochs: int = 12  # at least 1\npause_s: float = 0.2  # seconds, at least 0\nseed: int = 0  # at least 0\n"
LOOP = """
import random, time
from pathlib import Path
import numpy as np
from ml_repo.tracking.loop import checkpointed
from ml_repo.tracking.run import start_run
run = start_run()
run.log(begun=1)
random.seed(seed)
generator, state = np.random.default_rng(seed), {"weights": np.zeros(3)}
for epoch in checkpointed(range(epochs), share=1000, generator=generator, state=state):  # a checkpoint is always due
    while Path(f".git/hold-{epoch}").exists():
        time.sleep(0.02)
    state["weights"] = state["weights"] * 0.9 + generator.normal(size=3) * random.random()
    run.log(step=epoch + 1, split="train", loss=float(abs(state["weights"]).sum()))
    time.sleep(pause_s)
"""
END = """
import hashlib
run.log_fact("weights", loop=hashlib.sha256(state["weights"].tobytes()).hexdigest())
print("the end")
"""
KERAS = """
import os, time
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras, numpy as np
from ml_repo.project.training import prepare_keras
prepare_keras(seed)
generator = np.random.default_rng(0)
x = generator.random((512, 12, 12, 1)).astype("float32")
y = (x.mean((1, 2, 3)) * 100).astype("float32")
model = keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1), keras.layers.Conv2D(4, 3, activation="relu"),
                          keras.layers.BatchNormalization(), keras.layers.Flatten(), keras.layers.Dropout(0.4), keras.layers.Dense(1)])
model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 400)), "mse", metrics=["mae"])

class Pause(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        time.sleep(pause_s / 16)

history = model.fit(x, y, batch_size=32, validation_split=0.25, epochs=epochs, verbose=0,
                    callbacks=[Pause(), keras.callbacks.EarlyStopping(patience=6, restore_best_weights=True)])
"""
KERAS_END = """
from ml_repo.core.hashing import hash_weights
from ml_repo.tracking.run import start_run
start_run().log_fact("weights", model=hash_weights(model.weights))
print(len(history.history["loss"]))
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository with a loop, committed."""
    write_notebook(tmp_path / "loop.ipynb", VALUES, LOOP, END)
    return make_repository(tmp_path)


def begin(project: Path, *words: str, notebook: str = "loop.ipynb") -> Path:
    """Start a run in the background; the folder of its record."""
    return project / "experiments" / checked("ml-repo", "run", notebook, "--detach", *words, cwd=project).split()[0]


def kept(folder: Path) -> int:
    """The last epoch with a checkpoint."""
    return max((int(path.name) for path in folder.glob("checkpoints/fit-001/[0-9]*")), default=0)


@pytest.fixture
def held(project) -> Iterator[Path]:
    """While this file is there, the loop waits after its seventh epoch."""
    file = project / ".git" / "hold-7"
    file.touch()
    yield file
    file.unlink(missing_ok=True)


def end(folder: Path, how: str) -> None:
    """End a run: its kernel, all of its processes at once, or by a signal that it may answer."""
    supervisor = psutil.Process(json.loads((folder / "record.json").read_text())["host"]["pid"])
    family = [*supervisor.children(recursive=True), supervisor]
    if how == "SIGTERM":
        supervisor.terminate()
    elif how == "kernel":
        supervisor.children()[0].kill()
    else:
        for process in family:
            process.suspend()
        for process in family:
            process.kill()
        if how == "power":
            lose_power(folder)
    psutil.wait_procs(family, LIMIT_S)


def lose_power(folder: Path) -> None:
    """Leave what a disk has after a power cut: of the newest checkpoint its length alone, and of the log what was brought to the disk, with some more."""
    newest, safe = sorted(folder.glob("checkpoints/fit-*/[0-9]*"))[-1:], 0
    for path in newest:
        safe = load_checkpoint(path)["lines"]["end_byte"]
        path.write_bytes(bytes(path.stat().st_size))
    for name, least in (("metrics.jsonl", safe), ("log.txt", 0)):
        if (folder / name).exists():
            os.truncate(folder / name, random.Random(safe).randint(least, (folder / name).stat().st_size))


def curve(folder: Path, split: str = "train") -> list:
    """Steps and values, as the record has them."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["values"]) for line in lines if line.get("split") == split]


def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(project, held):
    held.unlink()
    whole = begin(project)
    checked("ml-repo", "wait", whole.name, cwd=project)
    wanted = read_record(whole)
    assert not (whole / "checkpoints").exists() and not (whole / ".training").exists(), "nothing is left to go on with"
    for how in ("kernel", "all", "SIGTERM"):
        held.touch()
        killed = begin(project, "--note", "the long one")
        await_true(lambda: kept(killed) > 4, "a checkpoint")
        last = kept(killed)
        end(killed, how)
        held.unlink()
        assert read_record(killed)["state"] == ("interrupted" if how == "SIGTERM" else "killed")
        if how == "SIGTERM":
            assert "SIGTERM" in read_record(killed)["cause"]["text"]
        said = checked("ml-repo", "resume", killed.name, cwd=project)
        record = read_record(killed)
        assert "the end" in said and f"2: {record['attempts'][0]['state']} after" in said, said
        assert (record["state"], record["weights"], record["note"]) == ("completed", wanted["weights"], "the long one")
        assert record["attempts"][0]["state"] != "completed" and record["started"] < record["resumed"]
        assert curve(killed) == curve(whole), "each epoch once, with the same values"
        assert len([line for line in (killed / "metrics.jsonl").read_text().splitlines() if "begun" in line]) == 1
        before = [json.loads(line)["step"] for line in (killed / "attempts/1/metrics.jsonl").read_text().splitlines() if "step" in line]
        assert max(before) >= last and not (killed / "checkpoints").exists()
    said = run("ml-repo", "resume", whole.name, cwd=project)
    assert said.returncode == 2 and "has completed" in said.stdout and "ml-repo rerun" in said.stdout


def test_a_run_whose_code_has_changed_goes_on_with_its_own(project, held):
    killed = begin(project)
    await_true(lambda: kept(killed) > 2, "a checkpoint")
    end(killed, "all")
    held.unlink()
    write_notebook(project / "loop.ipynb", VALUES, LOOP.replace("0.9", "0.8"), END.replace("the end", "another end"))
    assert "the end" in checked("ml-repo", "resume", "latest", cwd=project)
    assert "another end" not in (killed / "log.txt").read_text() and len(curve(killed)) == 12
    checked("ml-repo", "verify", killed.name, cwd=project)


def test_a_run_in_the_background_goes_on_by_itself(project, held):
    held.unlink()
    write_notebook(project / "weak.ipynb", VALUES, LOOP, "from pathlib import Path\nplace = Path('tries.txt')\n"
                   "tries = int(place.read_text()) + 1 if place.exists() else 1\nplace.write_text(str(tries))\n"
                   "assert tries > 2, 'too weak'")
    weak = begin(project, "--retries", "3", "-p", "pause_s", "0", notebook="weak.ipynb")
    await_true(lambda: read_record(weak)["state"] == "completed", lambda: f"its end: {read_record(weak)['state']}")
    assert [one["state"] for one in read_record(weak)["attempts"]] == ["failed", "failed"]
    write_notebook(project / "loop.ipynb", VALUES, LOOP.replace("random.seed(seed)\n", "").replace(" * random.random()", ""), END)  # it draws from its own generator alone
    held.touch()
    killed = begin(project, "--on-kill", "resume")
    await_true(lambda: kept(killed) > 2, "a checkpoint")
    end_of = psutil.Process(json.loads((killed / "record.json").read_text())["host"]["pid"]).children()[0]
    end_of.kill()
    held.unlink()
    await_true(lambda: read_record(killed)["state"] == "completed", "its end")
    assert [one["cause"]["kind"] for one in read_record(killed)["attempts"]] == ["kernel died"] and len(curve(killed)) == 12
    assert not [warning for warning in read_record(killed)["warnings"] if "other bits" in warning], "nobody has drawn from the other generators"
    said = run("ml-repo", "run", "loop.ipynb", "--retries", "3", cwd=project)
    assert said.returncode == 2 and "Add --detach" in said.stdout


@pytest.mark.slow
def test_a_run_that_is_resumed_and_stopped_again_shows_each_epoch_once(project, held):
    """Also where it is stopped before its training goes on, and where its second attempt has written half a line."""
    slow = "import time\nfrom pathlib import Path\nif Path('slow').exists():\n    time.sleep(600)"
    write_notebook(project / "loop.ipynb", VALUES, slow, LOOP, END)
    later = project / ".git" / "hold-10"
    later.touch()
    killed = begin(project, "-p", "pause_s", "0.4")
    await_true(lambda: kept(killed) > 3, "a checkpoint")
    end(killed, "all")
    held.unlink()
    first = curve(killed)
    (project / "slow").touch()
    for how in ("SIGTERM", "all"):
        checked("ml-repo", "resume", killed.name, "--detach", cwd=project)
        await_true(lambda: (killed / "loop.ipynb").exists() and read_record(killed)["state"] == "running", "a further attempt")
        time.sleep(1)
        end(killed, how)
        assert read_record(killed)["state"] in ("interrupted", "killed")
        assert curve(killed) == first
    (project / "slow").unlink()
    checked("ml-repo", "resume", killed.name, "--detach", cwd=project)
    await_true(lambda: len(curve(killed)) > len(first) + 1 if (killed / "metrics.jsonl").exists() else False, "further epochs")
    end(killed, "kernel")
    later.unlink()
    await_true(lambda: read_record(killed)["state"] == "killed", "its end")
    steps = [step for step, _ in curve(killed)]
    assert steps == sorted(set(steps)) and len(steps) > len(first)
    checked("ml-repo", "resume", killed.name, "--quiet", cwd=project)
    times = [json.loads(line)["time_s"] for line in (killed / "metrics.jsonl").read_text().splitlines() if "step" in line]
    assert times == sorted(times) and [step for step, _ in curve(killed)] == list(range(1, 13))
    assert times[-1] > 12 * 0.4 and len(read_record(killed)["attempts"]) == 4


def test_a_loop_that_begins_with_other_bits_begins_anew_and_says_so(project, held):
    write_notebook(project / "loop.ipynb", VALUES, LOOP.replace("random.seed(seed)\n", "random.seed(time.time())\n"
                   "np.random.rand()\nrandom.random()\n"), END)
    killed = begin(project)
    await_true(lambda: kept(killed) > 3, "a checkpoint")
    end(killed, "all")
    held.unlink()
    checked("ml-repo", "resume", killed.name, "--quiet", cwd=project)
    record = read_record(killed)
    said = " ".join(record["warnings"])
    assert "begins with other bits: the random state of python and the random state of numpy differ" in said, said
    assert [step for step, _ in curve(killed)] == list(range(1, 13)) and record["state"] == "completed"


def test_resuming_in_the_background_answers_when_it_goes_on_or_is_refused(project, held):
    killed = begin(project)
    await_true(lambda: kept(killed) > 2, "a checkpoint")
    said = run("ml-repo", "resume", killed.name, "--detach", cwd=project)
    assert said.returncode == 2 and "is running" in said.stdout
    end(killed, "all")
    assert checked("ml-repo", "resume", killed.name, "--detach", cwd=project).strip() == killed.name
    assert read_record(killed)["state"] == "running"
    held.unlink()
    checked("ml-repo", "wait", killed.name, cwd=project)
    await_true(lambda: not list(killed.glob(".supervisor*")), "that nothing said is left")
    assert read_record(killed)["state"] == "completed" and len(curve(killed)) == 12


def test_a_cell_that_is_marked_is_restored_and_not_executed(project):
    slow = "import numpy as np\nfrom pathlib import Path\ndef count(path):\n    path.write_text(path.read_text() + 'x' if path.exists() else 'x')\n" \
           "count(Path('times.txt'))\ntable = np.random.default_rng(seed).normal(size=5)\nprint('read', len(table))"
    other = "handle = open('/dev/null')\nprint('opened')"
    check = "import os, signal\nfrom pathlib import Path\nprint(round(float(table.sum()), 6), count.__name__)\nif not Path('go').exists():\n    os.kill(os.getpid(), signal.SIGKILL)"
    notebook = write_notebook(project / "cells.ipynb", VALUES, slow, other, check)
    content = json.loads(notebook.read_text())
    for cell in content["cells"][1:3]:
        cell["metadata"]["tags"] = ["restore"]
    notebook.write_text(json.dumps(content))
    assert run("ml-repo", "run", "cells.ipynb", "--quiet", cwd=project).returncode != 0
    (project / "go").touch()
    checked("ml-repo", "resume", "latest", "--quiet", cwd=project)
    folder = max((project / "experiments").glob("cells-*"))
    record, executed = read_record(folder), json.loads((folder / "cells.ipynb").read_text())
    assert (record["state"], (project / "times.txt").read_text()) == ("completed", "x"), "executed once"
    printed = ["".join(output.get("text", "")) for cell in executed["cells"] for output in cell.get("outputs", [])]
    assert printed == ["read 5\n", "opened\n", f"{np.random.default_rng(0).normal(size=5).sum():.6f} count\n"]
    assert ["handle cannot be kept" in warning for warning in record["warnings"] if "cannot be kept" in warning] == [True]


@needs_example
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_twenty_kills_of_a_training_end_in_its_bits(tmp_path, monkeypatch, backend):
    if find_spec(backend) is None:
        pytest.skip(f"NOT TESTED: {backend} is not installed here, so no run was killed with it.")
    monkeypatch.setenv("KERAS_BACKEND", backend)
    write_notebook(tmp_path / "fit.ipynb", VALUES.replace("12", "20"), KERAS, KERAS_END)
    project = make_repository(tmp_path)
    whole = begin(project, notebook="fit.ipynb")
    checked("ml-repo", "wait", whole.name, cwd=project)
    wanted, chance, outcomes = read_record(whole), random.Random(os.environ.get("ML_REPO_TEST_SEED", "25")), []
    assert wanted["determinism"]["backend"] == backend and wanted["weights"]
    ends, used = Counter(), 0
    times = [json.loads(line)["time_s"] for line in (whole / "metrics.jsonl").read_text().splitlines()]
    long_s = times[-1] - times[0]
    kills = int(os.environ.get("ML_REPO_TEST_KILLS", "20"))
    for number in range(kills):
        while True:
            killed = begin(project, notebook="fit.ipynb")
            await_true(lambda: (killed / "metrics.jsonl").exists(), "its first epoch")
            time.sleep(chance.uniform(0, 0.8 * long_s))
            with suppress(psutil.NoSuchProcess, IndexError):
                end(killed, ("kernel", "all", "SIGTERM", "power")[number % 4])
            await_true(lambda: read_record(killed)["state"] != "running", "its end")
            if read_record(killed)["state"] != "completed":  # else it was too fast
                break
        ends[("kernel", "all", "SIGTERM", "power")[number % 4]] += 1
        used += (kept_before := kept(killed) > 0)
        checked("ml-repo", "resume", killed.name, "--quiet", cwd=project)
        record = read_record(killed)
        assert len(record["attempts"]) == 1 and record["state"] == "completed"
        assert not record["warnings"], record["warnings"]
        times = [json.loads(line)["time_s"] for line in (killed / "metrics.jsonl").read_text().splitlines()]
        assert times == sorted(times), "the clock goes on"
        print(backend, number, ends, "went on" if kept_before else "began anew", flush=True)
        outcomes.append((record["weights"] == wanted["weights"], curve(killed) == curve(whole), curve(killed, "validation") == curve(whole, "validation")))
    print(f"{backend}: {dict(ends)}, of which {used} went on from a checkpoint")
    assert outcomes == [(True, True, True)] * kills and used >= kills // 4
