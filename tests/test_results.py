"""Earlier results: the list stays right and quick whatever happens to the folders of records."""
import csv
import io
import json
import os
import pty
import random
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest
from conftest import BIN, ROOT, Executed, await_true, checked, copy_shipped

STATES = ("completed", "completed", "completed", "failed", "killed")


def make_record(home: Path, number: int, **facts) -> Path:
    """Write the record of a run without running anything."""
    folder = home / f"train-20260101T{number // 3600:02}{number // 60 % 60:02}{number % 60:02}Z-{number:04}"
    folder.mkdir(parents=True)
    accuracy = random.Random(number).uniform(0.9, 1)
    record = {"schema": "ml_repo/record/1", "id": folder.name, "experiment": "train", "notebook": "nbs/train.ipynb", "state": STATES[number % 5], "cause": None,
              "started": f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}.000Z", "ended": None, "duration_s": 12.5, "note": "", "tags": [], "parents": [],
              "host": {"name": "server", "boot": "b", "pid": 1}, "warnings": [], "parameters": {"lr": {"default": 0.1, "used": number / 1000}, "seed": {"default": 0, "used": number % 7}},
              "metrics": [{"name": "accuracy", "split": "validation", "value": accuracy, "direction": "higher", "step": None}]} | facts
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "train.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    return folder


@pytest.fixture
def home(tmp_path) -> Path:
    """A folder with ten records, in a repository of its own."""
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    for number in range(10):
        make_record(tmp_path / "experiments", number)
    return tmp_path / "experiments"


def listed(home: Path, *arguments: str, **environment: str) -> list[dict]:
    """What `ml-repo ls --json` lists."""
    result = subprocess.run([BIN / "ml-repo", "ls", "--json", *arguments], cwd=home.parent, env=os.environ | environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def names(home: Path, *arguments: str, **environment: str) -> set[str]:
    return {one["run"] for one in listed(home, *arguments, **environment)}


def on_disk(home: Path) -> set[str]:
    return {path.parent.name for path in home.glob("[!.]*/record.json")}


# Damage.

def spoil(folders: list[Path], outside: Path) -> dict[str, str]:
    """Damage twenty records in ten ways; the reason that is expected, by name of the run."""
    outside.mkdir()
    shutil.move(folders[0], outside / "elsewhere")
    folders[0].symlink_to(outside / "elsewhere")
    (folders[1] / "record.json").rename(outside / "record.json")
    (folders[1] / "record.json").symlink_to(outside / "record.json")
    reasons = {folders[0].name: "a link", folders[1].name: "a link"}

    def change(folder: Path, reason: str, **facts) -> None:
        fields = json.loads((folder / "record.json").read_text())
        (folder / "record.json").write_text(json.dumps(fields | facts))
        reasons[folder.name] = reason

    for folder in folders[2:6]:
        (folder / "record.json").write_text((folder / "record.json").read_text()[:200])
        reasons[folder.name] = "is not a record"
    for folder in folders[6:8]:
        change(folder, "notebook is missing", state="completed")
        (folder / "train.ipynb").unlink()
    for folder, facts, reason in zip(folders[8:17], (
            {"parameters": ["lr"]}, {"metrics": {"loss": 1}}, {"tags": "first"}, {"state": "done"}, {"started": 5}, {"duration_s": "long"},
            {"metrics": [{"name": "loss", "value": "low"}]}, {"schema": "ml_repo/record/7"}, {"schema": 1}), (
            "parameters must be object, not ['lr']", "metrics must be array", "tags must be array, not 'first'",
            "state must be one of", "started must be string, not 5", "duration_s must be number or null",
            "metrics[0].value must match", "Install a newer ml_repo", "has the schema 1")):
        change(folder, reason, **facts)
    for folder, content in zip(folders[17:20], (b"", b"\xff\xfe\x00", b"[1, 2]")):
        (folder / "record.json").write_bytes(content)
        reasons[folder.name] = "is not a record"
    return reasons


def test_damaged_records_are_named_and_the_others_listed(tmp_path):
    home = tmp_path / "experiments"
    folders = [make_record(home, number) for number in range(1000)]
    (tmp_path / "settings.ini").write_text("[DEFAULT]\n")
    reasons = spoil(random.Random(0).sample(folders, 20), tmp_path / "outside")
    assert len(reasons) == 20
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and ".index" not in path.name}
    for _ in range(2):  # without an index, and with one
        result = subprocess.run([BIN / "ml-repo", "ls", "--json"], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0
        assert {one["run"] for one in json.loads(result.stdout)} == {folder.name for folder in folders} - reasons.keys()
        said = {line.split(": ")[0].rpartition("/")[2]: line for line in result.stderr.splitlines() if "/train-" in line}
        assert said.keys() == reasons.keys()
        for name, reason in reasons.items():
            assert reason in said[name]
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file() and ".index" not in path.name}
    assert "20 records cannot be read" in checked("ml-repo", "ls", "lr < 0.5", "--limit", "5", cwd=tmp_path)
    assert "980" in checked("ml-repo", "ls", "--limit", "5", cwd=tmp_path)


# What happens to the folders without a word to us.

def test_the_list_follows_copies_removals_and_edits(home, tmp_path):
    assert names(home) == on_disk(home)
    elsewhere = make_record(tmp_path / "server", 77)
    shutil.copytree(elsewhere, home / elsewhere.name)  # as rsync -a does: with old dates
    shutil.rmtree(next(home.glob("train-*-0003")))
    assert names(home) == on_disk(home) and len(on_disk(home)) == 10
    file = next(home.glob("train-*-0004")) / "record.json"
    facts = file.stat()
    file.write_text(file.read_text().replace('"note": ""', '"note": "edited"').replace('"pid": 1', '"pid":1').replace(' "boot"', '"boot"').replace("nbs/train", "n/train").replace(" 12.5", "2.5"))
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert [one["run"][-4:] for one in listed(home, "note = edited")] == ["0004"]
    shutil.rmtree(home)
    home.mkdir()
    assert names(home) == set()


def test_the_list_follows_git_pull(tmp_path):
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    (origin / "experiments").mkdir(parents=True)
    (origin / "settings.ini").write_text("[DEFAULT]\n")
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost", "-c", "commit.gpgsign=false", "-C", str(origin)]
    make_record(origin / "experiments", 1)
    for command in (["init", "--quiet", "--initial-branch", "main"], ["add", "."], ["commit", "--quiet", "-m", "one"]):
        checked(*git, *command)
    checked("git", "clone", "--quiet", str(origin), str(clone))
    assert names(clone / "experiments") == on_disk(origin / "experiments")
    make_record(origin / "experiments", 2, tags=["new"])
    shutil.rmtree(next((origin / "experiments").glob("*-0001")))
    for command in (["add", "--all"], ["commit", "--quiet", "-m", "two"]):
        checked(*git, *command)
    checked("git", "-C", str(clone), "pull", "--quiet")
    assert names(clone / "experiments") == on_disk(origin / "experiments") == {one["run"] for one in listed(clone / "experiments", "tag = new")}


def test_many_readers_and_writers_at_once(home):
    done = Event()

    def write(first: int) -> None:
        for number in range(first, first + 150):
            folder = make_record(home, number)
            if number % 3 == 0:
                shutil.rmtree(folder)
            time.sleep(0.01)

    def read(_: int) -> int:
        count = 0
        while count < 2 or not done.is_set():
            assert names(home) >= {f"train-20260101T000{0}0{one}Z-000{one}" for one in range(10)}
            count += 1
        return count

    with ThreadPoolExecutor(5) as pool:
        writers = [pool.submit(write, first) for first in (1000, 5000)]
        readers = [pool.submit(read, one) for one in range(3)]
        try:
            assert all(one.result() is None for one in writers)
        finally:
            done.set()
        assert sum(one.result() for one in readers) >= 6
    assert names(home) == on_disk(home) and len(on_disk(home)) > 100
    assert names(home, XDG_CACHE_HOME=str(home.parent / "cache")) == on_disk(home) and not (home.parent / "cache").exists(), "the index in the folder is in use"


def test_a_killed_reader_leaves_an_index_that_works(home):
    for number in range(100, 700):
        make_record(home, number)
    for delay_s in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
        (home / ".index.sqlite").unlink(missing_ok=True)
        process = subprocess.Popen([BIN / "ml-repo", "ls"], cwd=home.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay_s)
        process.kill()
        process.wait()
        assert names(home) == on_disk(home)


FIND = "from ml_repo import find_runs; runs = find_runs(wait={}); print(len(runs), runs.unread)"


def numbers(home: Path) -> dict[str, int]:
    """The runs in the index, by their number: a record that was read twice has a later one."""
    base = sqlite3.connect(home / ".index.sqlite")
    try:
        return dict(base.execute("SELECT run, number FROM runs"))
    except sqlite3.OperationalError:  # not made yet
        return {}
    finally:
        base.close()


def test_a_first_index_goes_on_where_it_was_and_others_get_what_is_there(home):
    for number in range(10, 9000):
        make_record(home, number)
    first = subprocess.Popen([sys.executable, "-c", FIND.format(False)], cwd=home.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    await_true(lambda: len(numbers(home)) >= 2000, "two thousand records are read")
    first.send_signal(signal.SIGSTOP)
    known = numbers(home)
    assert 2000 <= len(known) < 9000
    text = checked("ml-repo", "ls", cwd=home.parent)
    assert f"{9000 - len(known):,} more records are not read yet, and another process is reading them" in " ".join(text.split()), text
    assert checked(sys.executable, "-c", FIND.format(False), cwd=home.parent).split() == [str(len(known)), str(9000 - len(known))]
    assert numbers(home) == known
    others = [subprocess.Popen([sys.executable, "-c", FIND.format(True)], cwd=home.parent, text=True, stdout=subprocess.PIPE) for _ in range(2)]
    time.sleep(1)
    assert [one.poll() for one in others] == [None, None], "they wait for the one that reads"
    first.kill()
    assert [one.communicate()[0].split() for one in others] == [["9000", "0"]] * 2
    assert numbers(home).items() >= known.items() and sorted(numbers(home).values()) == list(range(1, 9001)), "each record was read once"


def test_a_run_whose_process_is_gone_is_listed_as_killed(home):
    host = json.loads(checked(sys.executable, "-c", "import json; from ml_repo.records.record import read_host; print(json.dumps(read_host()))"))
    make_record(home, 50, state="running", host=host | {"pid": 999999})
    make_record(home, 51, state="running", host={"name": "elsewhere", "boot": "x", "machine": "y", "pid": 5})
    found = {one["run"][-4:]: one["state"] for one in listed(home)}
    assert (found["0050"], found["0051"]) == ("killed", "running")
    assert [one["run"][-4:] for one in listed(home, "state = running")] == ["0051"]


# Where records lie.

def test_records_lie_where_settings_environment_or_option_say(home, tmp_path):
    other, third = tmp_path / "other", tmp_path / "third"
    make_record(other, 20)
    make_record(third, 30)
    assert names(home, "--records", str(other), "--records", str(third)) == on_disk(other) | on_disk(third)
    assert names(home, ML_REPO_RECORDS=f"{home}{os.pathsep}other") == on_disk(home) | on_disk(other)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nrecords = third\npapermill_engine = ml_repo\n")
    assert names(home) == on_disk(third)
    table = checked("ml-repo", "ls", "--records", "other", "--records", "third", cwd=tmp_path)
    assert f"{other}" in table and f"{third}" in table
    notebook = {"cells": [{"cell_type": "code", "source": "lr: float = 0.1", "metadata": {"tags": ["parameters"]}, "outputs": [], "execution_count": None, "id": "a"}],
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "tiny.ipynb").write_text(json.dumps(notebook))
    checked("papermill", "tiny.ipynb", "out.ipynb", "-p", "lr", "0.5", cwd=tmp_path)
    assert [one["parameters"] for one in listed(home, "experiment = tiny")] == [{"lr": 0.5}]
    assert len(list(third.glob("tiny-*"))) == 1 and not list(home.glob("tiny-*"))
    checked("papermill", "tiny.ipynb", "out.ipynb", cwd=tmp_path, ML_REPO_RECORDS="fourth/deep")
    assert len(list((tmp_path / "fourth" / "deep").glob("tiny-*"))) == 1 and "artifacts" in (tmp_path / "fourth" / "deep" / ".gitignore").read_text()


# What a person sees, and a program.

def in_terminal(command: list[str], cwd: Path, columns: int) -> str:
    """Run a command in a terminal of that width, and return what it showed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(command, cwd=cwd, stdout=follower, stderr=follower, stdin=follower, env=os.environ | {"COLUMNS": str(columns), "TERM": "xterm"})
    os.close(follower)
    shown = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        shown += part
    process.wait()
    os.close(leader)
    return shown.decode()


def test_a_table_fits_a_terminal_and_is_whole_in_a_pipe(home):
    make_record(home, 60, note="a long note " * 20, parameters={f"parameter_{number}": {"default": number, "used": number} for number in range(20)})
    shown = in_terminal([str(BIN / "ml-repo"), "ls"], home.parent, 80)
    assert max(len(line) for line in shown.splitlines() if not line.startswith("   ")) <= 80
    assert "\n0060 " in shown and "val_accuracy" in shown.splitlines()[0] and "Not shown for want of room" in shown
    piped = checked("ml-repo", "ls", cwd=home.parent)
    assert "\x1b" not in piped and "Not shown" not in piped
    assert len([line for line in piped.splitlines() if line.startswith("train-")]) == 11 and "parameter_19" in piped
    head = subprocess.run(f"{BIN / 'ml-repo'} ls | head -1", shell=True, cwd=home.parent, capture_output=True, text=True)
    assert head.stderr == ""


def test_control_letters_of_a_record_do_not_reach_the_terminal(home):
    make_record(home, 61, note="\x1b[2J\x1b]0;owned\x07", parameters={"lr\x1b[31m": {"default": 1, "used": "a\x1b[5m"}}, tags=["\x1b[1m"])
    for command in (["ls"], ["show", "0061"], ["compare", "0061", "0001"], ["ls", "--seeds"]):
        assert "\x1b" not in checked("ml-repo", *command, cwd=home.parent)


def test_csv_and_json_hold_everything(home, tmp_path):
    make_record(home, 62, metrics=[{"name": "accuracy", "split": "validation", "value": "nan", "direction": "higher"}])
    rows = list(csv.DictReader(io.StringIO(checked("ml-repo", "ls", "--csv", cwd=home.parent))))
    assert len(rows) == 11 and {"run", "state", "started", "lr", "seed", "val_accuracy", "folder"} <= set(rows[0])
    assert next(row["val_accuracy"] for row in rows if row["run"].endswith("0062")) == "nan"
    assert {one["run"]: one["metrics"].get("val_accuracy") for one in listed(home)}["train-20260101T000102Z-0062"] == "nan"
    for name in ("runs.csv", "runs.json", "runs.parquet"):
        checked("ml-repo", "export", name, cwd=home.parent)
        assert (home.parent / name).stat().st_size > 1000


def test_a_shell_completes_runs(home):
    words = {"_ML_REPO_COMPLETE": "bash_complete", "COMP_CWORD": "2"}
    found = checked("ml-repo", cwd=home.parent, **words, COMP_WORDS="ml-repo show train-20260101T000003").split()
    assert found == ["plain,train-20260101T000003Z-0003"]
    assert checked("ml-repo", cwd=home.parent, **words, COMP_WORDS="ml-repo show 0007").split() == ["plain,train-20260101T000007Z-0007"]
    assert "plain,compare" in checked("ml-repo", cwd=home.parent, _ML_REPO_COMPLETE="bash_complete", COMP_CWORD="1", COMP_WORDS="ml-repo com").split()
    script = f"eval \"$({BIN}/ml-repo completion bash)\" && complete -p ml-repo"
    assert "_ml_repo_completion" in checked("bash", "-c", script, cwd=home.parent)


@pytest.mark.parametrize("command", [["ls"], ["ls", "lr < 1", "--sort", "val_accuracy"], ["ls", "--json"], ["ls", "--csv"], ["ls", "--seeds"], ["show"], ["show", "best:val_accuracy"],
                                     ["best", "val_accuracy"], ["compare", "0001", "0002"], ["--help"], ["ls", "--help"]], ids=" ".join)
def test_nothing_heavy_is_imported_to_look(home, command):
    program = """
import sys
from ml_repo.cli.app import main
try:
    main(sys.argv[1:], prog_name="ml-repo")
finally:
    heavy = {"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "papermill", "mlflow", "nbdev", "nbformat", "nbconvert", "IPython", "jupyter_client", "requests", "psutil"}
    print("loaded:", *sorted(heavy & set(sys.modules)))
"""
    said = checked(sys.executable, "-c", program, *command, cwd=home.parent)
    assert said.splitlines()[-1].strip() == "loaded:"


# The guide, and the notebook of a run.

def test_the_results_notebook_runs_headless_on_the_shipped_records(shipped, tmp_path):
    out = tmp_path / "report.ipynb"
    checked("papermill", "--engine", "nbclient", "nbs/results.ipynb", out, "-p", "metric", "test_accuracy", "-p", "best", "2", cwd=ROOT, ML_REPO_RECORDS=str(shipped))
    report = Executed(out)
    assert len(report.figures()) >= 3 and "test_accuracy" in report.text()


@pytest.mark.own_kernel  # its libraries set variables that a fork would report
def test_the_results_notebook_has_a_record_of_its_own(tmp_path):
    project = tmp_path / "project"
    (project / "nbs").mkdir(parents=True)
    (project / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    shutil.copy(ROOT / "nbs" / "results.ipynb", project / "nbs")
    copy_shipped(project / "experiments")
    checked("papermill", "nbs/results.ipynb", "report.ipynb", "-p", "condition", "experiment = step-size", cwd=project)
    record = json.loads(next((project / "experiments").glob("results-*/record.json")).read_text())
    assert record["state"] == "completed" and len(record["inputs"]["files"]) > 10
    assert [warning for warning in record["warnings"] if "git init" not in warning] == []


def test_open_finds_a_running_server_and_else_makes_a_page(home, tmp_path):
    page = checked("ml-repo", "open", "0001", "--print", cwd=home.parent, XDG_CACHE_HOME=str(tmp_path / "cache")).strip()
    assert page.startswith("file://") and "Content-Security-Policy" in Path(page.removeprefix("file://")).read_text()
    runtime = tmp_path / "runtime"
    server = subprocess.Popen([BIN / "jupyter", "server", "--no-browser", "--allow-root", "--port=0", f"--ServerApp.root_dir={home.parent}", "--IdentityProvider.token=abc"],
                              env=os.environ | {"JUPYTER_RUNTIME_DIR": str(runtime)}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_true(lambda: list(runtime.glob("jpserver-*.json")), "the server")
        said = checked("ml-repo", "open", "0001", "--print", cwd=home.parent, JUPYTER_RUNTIME_DIR=str(runtime)).strip()
        assert said.startswith("http://") and "lab/tree/experiments/train-20260101T000001Z-0001/train.ipynb?token=abc" in said
    finally:
        server.terminate()
        server.wait()
