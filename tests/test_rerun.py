"""A run is made again as it was: its files, its module, its data; and refused before it starts where it cannot be."""
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import LIMIT_S, ROOT, checked
from test_record import git, make_repository, read_records, write_notebook

from ml_repo.core.content_store import store_text
from ml_repo.records.reader import Record, find_records, read_record
from ml_repo.reproduce.environments import EnvironmentDiffers, make_venv
from ml_repo.reproduce.rerun import rerun_run

CONTRACT = "lr: float = 0.1  # step size, above 0\nwait_s: float = 0.0  # seconds, at least 0\napi_key: str = ''"
WORK = """
import os, sys, time
import helper
from pathlib import Path
time.sleep(wait_s)
print("helper", helper.VALUE, Path(helper.__file__).parent == Path.cwd(), open("data/prices.csv").read().strip(), sorted(os.listdir("data")))
Path("written.txt").write_text("by the run")
from ml_repo.tracking.run import start_run
start_run().log(split="test", result=lr * helper.VALUE)
"""


def make_project(folder: Path, top: Path | None = None) -> Path:
    """A repository with a module, data that git ignores, and changes of every kind; `top` is a larger repository around it."""
    folder.mkdir(parents=True)
    write_notebook(folder / "train.ipynb", CONTRACT, WORK)
    (folder / "helper.py").write_text("VALUE = 1\n")
    if top is None:
        make_repository(folder)
    else:
        (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
        (folder / ".gitignore").write_text("/data/\n")
        make_repository(top, "[DEFAULT]\n")
    (folder / "helper.py").write_text("VALUE = 2\n")
    (folder / "untracked.bin").write_bytes(bytes(range(256)))
    (folder / "data").mkdir()
    (folder / "data" / "prices.csv").write_text("1,2\n")
    return folder


def run_once(folder: Path, *arguments: str, notebook: str = "train.ipynb") -> Record:
    """Run the notebook of a project as a user would."""
    known = set(find_records(folder / "experiments"))
    checked("ml-repo", "run", notebook, *arguments, "--quiet", cwd=folder)
    return read_record((set(find_records(folder / "experiments")) - known).pop())


def result(record: Record) -> float:
    """What the notebook measured."""
    return record["metrics"][0]["value"]


def printed(record: Record) -> str:
    """What the notebook printed."""
    return (record.folder / "log.txt").read_text()


def worktrees(folder: Path) -> int:
    """How many working trees the repository of a folder has."""
    return len(git(folder, "worktree", "list").splitlines())


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> Record:
    """A run of a dirty tree; afterwards the code of today is another."""
    folder = make_project(tmp_path_factory.mktemp("project") / "repository")
    record = run_once(folder, "-p", "lr", "0.5")
    assert result(record) == 1.0 and record["code"]["is_dirty"]
    (folder / "helper.py").write_text("VALUE = 3\n")
    (folder / "untracked.bin").unlink()
    return record


def test_a_run_is_made_again_as_it_was(first):
    again = rerun_run(first.folder, note="once more", tags=["second"])
    assert (again["state"], result(again)) == ("completed", 1.0)
    assert printed(again) == printed(first) and "helper 2 True" in printed(again)
    assert again["code"]["tree"] == first["code"]["tree"] and again["code"]["modules"] == first["code"]["modules"]
    assert (again["parents"], again["launched_by"], again["folder"], again["note"], again["tags"]) == ([first["id"]], "rerun", ".", "once more", ["second"])
    assert (again["experiment"], again["source_sha256"], again["inputs"]) == (first["experiment"], first["source_sha256"], first["inputs"])
    assert again["warnings"] == [] and again["rerun"] == {"of": first["id"], "code": "recorded", "is_exact": True, "environment": "this one", "changed": []}
    assert again["parameters"]["lr"] == first["parameters"]["lr"]
    assert again.folder.parent == first.folder.parent and worktrees(first.folder) == 1
    assert {one["id"] for one in read_records(first.folder.parent.parent)} >= {first["id"], again["id"]}  # both are valid


def test_chosen_parameters_are_changed(first):
    again = rerun_run(first.folder, {"lr": 0.25})
    assert result(again) == 0.5 and again["rerun"]["changed"] == ["lr"]


def test_today_is_asked_for_on_purpose(first):
    again = rerun_run(first.folder, here=True)
    assert result(again) == 1.5 and again["rerun"]["code"] == "today's" and "today" in again["warnings"][0]


def test_a_changed_byte_of_the_data_is_found_before_anything_starts(first):
    file, count = first.folder.parent.parent / "data" / "prices.csv", len(find_records(first.folder.parent))
    file.write_text("1,3\n")
    try:
        with pytest.raises(ValueError, match="data/prices.csv is changed"):
            rerun_run(first.folder)
        assert len(find_records(first.folder.parent)) == count
        assert "The input data/prices.csv is changed." in rerun_run(first.folder, anyway=True)["warnings"]
    finally:
        file.write_text("1,2\n")


def test_two_at_once(first):
    code = f"import sys; from ml_repo.reproduce.rerun import rerun_run; print(rerun_run({str(first.folder)!r})['state'])"
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: checked(sys.executable, "-c", code).strip(), range(2))) == ["completed"] * 2
    assert worktrees(first.folder) == 1


def test_a_values_error_is_told(first):
    with pytest.raises(ValueError, match="no parameter lrr"):
        rerun_run(first.folder, {"lrr": 1})


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_removes_the_worktree_and_is_in_the_record(first, number, tmp_path):
    known = set(find_records(first.folder.parent))
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from ml_repo.reproduce.rerun import rerun_run; rerun_run({str(first.folder)!r}, {{'wait_s': 600.0}})"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    while not (new := set(find_records(first.folder.parent)) - known):
        time.sleep(0.05)
    assert list(tmp_path.glob("ml-repo-rerun-*"))
    time.sleep(1)
    process.send_signal(number)
    assert process.wait(LIMIT_S) == -number
    assert read_record(new.pop())["state"] == "interrupted"
    assert not list(tmp_path.glob("ml-repo-rerun-*")) and worktrees(first.folder) == 1


@pytest.mark.slow
def test_what_a_killed_rerun_leaves_is_removed_by_the_next(first, tmp_path, monkeypatch):
    known = set(find_records(first.folder.parent))
    code = f"from ml_repo.reproduce.rerun import rerun_run; rerun_run({str(first.folder)!r}, {{'wait_s': 600.0}})"
    process = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    while not (new := set(find_records(first.folder.parent)) - known):
        time.sleep(0.05)
    process.kill()
    process.wait()
    record = new.pop()
    for _ in range(100):
        if read_record(record)["state"] != "running":
            break
        time.sleep(0.1)
    assert read_record(record)["state"] == "interrupted" and worktrees(first.folder) == 2
    time.sleep(1)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert rerun_run(first.folder)["state"] == "completed"
    assert not list(tmp_path.glob("ml-repo-rerun-*")) and worktrees(first.folder) == 1


@pytest.mark.slow
def test_a_project_within_a_repository_that_was_moved(tmp_path):
    record = run_once(make_project(tmp_path / "before" / "part", top=tmp_path / "before"))
    (tmp_path / "before").rename(tmp_path / "after")
    record = read_record(tmp_path / "after" / "part" / "experiments" / record["id"])
    again = rerun_run(record.folder)
    assert again["code"]["tree"] == record["code"]["tree"] and printed(again) == printed(record) and again["notebook"] == "train.ipynb"


@pytest.mark.slow
def test_line_ends_and_a_submodule_are_those_of_the_run(tmp_path):
    """Git keeps texts with other line ends than lie in the folder, and a worktree has no files of a submodule."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "constants.py").write_text("VALUE = 5\n")
    make_repository(tmp_path / "library")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / ".gitattributes").write_text("* text=auto\n")
    (folder / "prices.csv").write_bytes(b"1,2\r\n")
    write_notebook(folder / "train.ipynb", CONTRACT, "from library.constants import VALUE\nprint(VALUE, open('prices.csv', 'rb').read())")
    make_repository(folder)
    git(folder, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "library"), "library")
    git(folder, "commit", "--quiet", "--all", "--message", "Add a library")
    record = run_once(folder)
    assert "5 b'1,2\\r\\n'" in printed(record)
    again = rerun_run(record.folder)
    assert printed(again) == printed(record) and again["rerun"]["is_exact"] and again["code"]["tree"] == record["code"]["tree"]
    shutil.rmtree(folder / "library")
    with pytest.raises(ValueError, match="git submodule update"):
        rerun_run(record.folder)


@pytest.mark.slow
def test_a_notebook_from_elsewhere_and_a_working_folder(tmp_path):
    folder = make_project(tmp_path / "repository")
    (folder / "nbs").mkdir()
    (folder / "nbs" / "helper.py").write_text("VALUE = 7\n")
    (folder / "nbs" / "data").symlink_to("../data")
    write_notebook(folder / "nbs" / "other.ipynb", CONTRACT, WORK.replace('Path(helper.__file__).parent == Path.cwd()', 'Path.cwd().name'))
    checked("papermill", "other.ipynb", str(tmp_path / "out.ipynb"), cwd=folder / "nbs")
    record = read_record(find_records(folder / "experiments")[0])
    assert record["folder"] == "nbs"
    again = rerun_run(record.folder)
    assert printed(again) == printed(record) and printed(again).startswith("helper 7 nbs")

    write_notebook(tmp_path / "elsewhere.ipynb", CONTRACT, WORK)
    checked("papermill", "--engine", "ml_repo", str(tmp_path / "elsewhere.ipynb"), str(tmp_path / "out.ipynb"), cwd=folder)
    record = read_record(find_records(folder / "experiments")[0])
    assert record["notebook"] == "elsewhere.ipynb"
    (tmp_path / "elsewhere.ipynb").unlink()
    again = rerun_run(record.folder)
    assert again["rerun"]["is_exact"] and again["source_sha256"] == record["source_sha256"]
    assert again["code"]["tree"] == record["code"]["tree"] and printed(again) == printed(record)


def test_a_missing_commit_a_secret_and_a_redacted_patch(tmp_path):
    folder = make_project(tmp_path / "repository")
    (folder / "settings.env").write_text("DB_PASS" + "=hunter2hunter2hunter2\n")
    record = run_once(folder, "-p", "api_key", "correct7horse8battery")
    with pytest.raises(ValueError, match="-p api_key VALUE"):
        rerun_run(record.folder)
    again = rerun_run(record.folder, {"api_key": "correct7horse8battery"})
    assert not again["rerun"]["is_exact"] and "Secrets were taken out of the patch" in again["warnings"][0]
    shutil.rmtree(folder / ".git")
    make_repository(folder)
    with pytest.raises(ValueError, match="Fetch it first"):
        rerun_run(record.folder, {"api_key": "x"})


def test_another_environment_is_refused(first):
    fields = json.loads((first.folder / "record.json").read_text())
    other = first.folder.parent / "other-1"
    shutil.copytree(first.folder, other)
    fields["packages"] |= {"list": store_text(first.folder.parent, "numpy==1.0\n"), "loaded": store_text(first.folder.parent, "numpy\n")}
    (other / "record.json").write_text(json.dumps(fields | {"id": "other-1"}))
    with pytest.raises(EnvironmentDiffers, match="numpy: 1.0 in the run"):
        rerun_run(other)
    again = rerun_run(other, anyway=True)
    assert again["rerun"]["environment"] == "anyway" and "numpy" in again["warnings"][0]
    shutil.rmtree(other)


def test_an_environment_is_made_from_a_lock(tmp_path):
    lines = (ROOT / "docker" / "requirements.txt").read_text().split("\n")
    start = next(number for number, line in enumerate(lines) if line.startswith("six=="))
    end = next(number for number, line in enumerate(lines[start + 1:], start + 1) if not line.startswith(" "))
    record = Record(tmp_path / "experiments" / "train-1", {"id": "train-1"})
    record["packages"] = {"lock": store_text(tmp_path / "experiments", "\n".join(lines[start:end]) + "\n")}
    python = make_venv(record, tmp_path / "venvs")
    assert checked(python, "-c", "import six; print(six.__version__)", PYTHONPATH="").strip() == lines[start].split("==")[1].split()[0]
    before = python.stat().st_mtime
    assert make_venv(record, tmp_path / "venvs") == python and python.stat().st_mtime == before
    record["packages"] = {"lock": store_text(tmp_path / "experiments", "\n".join(lines[start:end]).replace("sha256:4", "sha256:5").replace("sha256:f", "sha256:e") + "\n")}
    with pytest.raises(ValueError, match="cannot be installed"):
        make_venv(record, tmp_path / "venvs")
