"""A record is a claim that is tested: it is run again as it was, and whatever is not the same is found, with its cause."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
from conftest import BIN, LIMIT_S, ROOT, checked, run
from test_causes import CELLS, ENVIRONMENT, FACTOR, FIRST, fill, git, install, started, write_notebook  # noqa: F401 (a fixture)
from test_record import Hand, make_repository
from test_record import write_notebook as write_cells

from ml_repo.provenance.machine import read_machine
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.verdict import EXIT_CODES, read_verdict
from ml_repo.results.diff import diff_runs
from ml_repo.results.search import find_runs
from ml_repo.verify.verify import verify_run


def copy_record(record: Path, folder: Path) -> Path:
    """Copy a record with its texts."""
    shutil.copytree(record.parent / ".store", folder / ".store", dirs_exist_ok=True)
    return Path(shutil.copytree(record, folder / record.name))


def read_bytes(folder: Path) -> dict[str, bytes]:
    """All files of a record but the verdict."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "verdict.json"}


def test_a_shipped_record_holds(shipped, tmp_path):
    """Identical bits on the kind of machine that made it; elsewhere a verdict that names the other processor."""
    latest = max(record for record in find_records(shipped) if read_record(record)["state"] == "completed")
    name, commit = latest.name, read_record(latest)["code"]["commit"]
    if run("git", "cat-file", "-e", f"{commit}^{{commit}}").returncode:
        pytest.skip(f"this clone has no history back to {commit[:12]}: git fetch --unshallow")
    folder = copy_record(latest, tmp_path / "experiments")
    before = read_bytes(folder)
    result = run("ml-repo", "verify", folder, "--no-keep", "--copies", "0", "--junit", tmp_path / "verify.xml")
    print(result.stdout)
    verdict = read_verdict(folder)
    assert read_bytes(folder) == before and len(find_records(folder.parent)) == 1
    assert result.returncode == EXIT_CODES[verdict["verdict"]], result.stdout
    suite = ElementTree.parse(tmp_path / "verify.xml").getroot()[0]
    assert suite.get("name") == name and int(suite.get("tests")) == len(verdict["items"]) > 20
    then, now = read_record(folder)["machine"], read_machine()
    if all(then[name] == now[name] for name in ("cpu", "cpu_flags")):  # a name such as AMD EPYC stands for several processors
        assert verdict["verdict"] == "identical", result.stdout
    else:
        assert verdict["verdict"] == "identical" or any(cause["kind"] == "cpu" for cause in verdict["causes"]), result.stdout
    assert "identical" in checked("ml-repo", "ls", "--records", folder.parent, "--columns", "verified") or verdict["verdict"] != "identical"
    assert verdict["verdict"] in checked("ml-repo", "show", folder)


@pytest.mark.slow
def test_no_shipped_record_differs(shipped, tmp_path):
    """On the kind of machine that made them they are identical, on another one within rounding, because of the processor."""
    now, told = read_machine(), {}
    for record in find_records(shipped):
        folder = copy_record(record, tmp_path / "experiments")
        result = run("ml-repo", "verify", folder, "--no-keep")
        verdict, then = read_verdict(folder), read_record(folder)["machine"]
        told[record.name] = verdict["verdict"], [cause["kind"] for cause in verdict["causes"]][:1]
        print(result.stdout)
        is_alike = all(then[name] == now[name] for name in ("cpu", "cpu_flags"))
        assert verdict["verdict"] == "identical" or not is_alike and verdict["verdict"].startswith("within") and told[record.name][1] == ["cpu"], result.stdout
    assert len(told) >= 10


def verify(root: Path, record: Path, *options: str, **environment: str) -> dict:
    """Verify a run as a user does; returns what --json prints, and checks the exit code."""
    path = os.pathsep.join([str(root / "site"), str(root / "project"), str(ROOT)])
    result = run("ml-repo", "verify", record, "--json", "--no-keep", *options, cwd=root / "project", stderr=subprocess.DEVNULL, **{
        "ML_REPO_RECORDS": str(record.parent), "PYTHONPATH": path, "JUPYTER_PATH": str(root / "jupyter")} | ENVIRONMENT | environment)
    (found,) = json.loads(result.stdout)
    assert result.returncode == found["exit_code"] == EXIT_CODES[found["verdict"]]
    return found


class Planted(NamedTuple):
    """Something that is not as it was when the run is repeated."""
    name: str
    verdict: str
    says: str = ""  # in the problem, or in the cause that comes first
    step: int | None = None  # the first at which the two runs part
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    edit: Callable[[Path, Path], object] = lambda root, record: None  # the project, the record
    is_quick: bool = False


def write(name: str, text: str) -> Callable[[Path, Path], object]:
    return lambda root, record: (root / "project" / name).write_text(text)


def change_json(**fields: object) -> Callable[[Path, Path], object]:
    """Change a record, as somebody would who wants a better number in it."""
    def edit(root: Path, record: Path) -> None:
        facts = json.loads((record / "record.json").read_text())
        (record / "record.json").write_text(json.dumps(facts | {key: value(facts[key]) for key, value in fields.items()}))
    return edit


def change_log(step: int, difference: float) -> Callable[[Path, Path], object]:
    def edit(root: Path, record: Path) -> None:
        lines = [json.loads(line) for line in (record / "metrics.jsonl").read_text().splitlines()]
        lines[step - 1]["values"]["loss"] += difference
        (record / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return edit


def change_output(before: str, after: str) -> Callable[[Path, Path], object]:
    def edit(root: Path, record: Path) -> None:
        path = next(record.glob("*.ipynb"))
        path.chmod(0o644)
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after))
    return edit


def better(metrics: list[dict]) -> list[dict]:
    return [metric | {"value": metric["value"] * 0.99} for metric in metrics]


def change_data(root: Path, record: Path) -> None:
    (root / "project/data/values.bin").write_bytes(FIRST)


def commit_all(root: Path, record: Path) -> None:
    write("helper.py", FACTOR.format("step"))(root, record)
    write_notebook(root / "project/nbs/train.ipynb", *CELLS[:4], "momentum = 0.9", *CELLS[5:])
    git(root, "commit", "--quiet", "--all", "--message", "Go on")


ANYWAY = ("--anyway",)
PLANTED = [
    Planted("nothing", "identical", is_quick=True),
    Planted("code of today is another", "identical", edit=commit_all, is_quick=True),
    Planted("module changed and not committed", "identical", edit=write("helper.py", FACTOR.format("step > 2"))),
    Planted("lock of today is another", "identical", edit=write("docker/requirements.txt", "numpy==2.0\n")),
    Planted("variable that is recorded is another", "identical", environment={"OMP_NUM_THREADS": "1"}),
    Planted("variable that was not set", "identical", environment={"XLA_FLAGS": "a"}),
    Planted("hash seed", "identical", environment={"PYTHONHASHSEED": "1"}),
    Planted("package that is not imported", "cannot be judged", "idle-library: 1.0 in the run, 2.0 now", edit=lambda root, record: install(root / "site", "idle_library", "2.0")),
    Planted("package that is not imported, anyway", "identical", options=ANYWAY, edit=lambda root, record: install(root / "site", "idle_library", "2.0")),
    Planted("package", "cannot be judged", "fake-library: 1.0 in the run, 1.1 now", edit=lambda root, record: install(root / "site", "fake_library", "1.1", "step > 7"), is_quick=True),
    Planted("package, anyway", "differs", "fake-library 1.0 → 1.1", 8, ANYWAY, edit=lambda root, record: install(root / "site", "fake_library", "1.1", "step > 7")),
    Planted("package by a little, anyway", "within tolerance", "fake-library 1.0 → 1.1", 8, ANYWAY, edit=lambda root, record: install(root / "site", "fake_library", "1.1", "1e-6 * (step > 7)")),
    Planted("byte of data", "cannot be judged", "data/values.bin is changed", edit=change_data, is_quick=True),
    Planted("byte of data, anyway", "differs", "data/values.bin has other content", 5, ANYWAY, edit=change_data),
    Planted("data is gone", "cannot be judged", "data/notes.bin is missing", edit=lambda root, record: (root / "project/data/notes.bin").unlink()),
    Planted("precision that no record holds", "within tolerance", "precision float64 → float32", 1, environment={"PROJECT_FLOAT": "float32"}),
    Planted("chance", "differs", "operations True → False", 2, environment={"PROJECT_CHANCE": "1", "PROJECT_LOOSE": "1"}),
    Planted("final metric was made better", "differs", edit=change_json(metrics=better)),
    Planted("curve was changed", "differs", step=4, edit=change_log(4, 0.01)),
    Planted("curve was changed in the last digit", "within tolerance", step=4, edit=change_log(4, 1e-15)),
    Planted("output was changed", "differs", edit=change_output("weight ", "weight -")),
    Planted("value was changed", "differs", edit=change_json(parameters=lambda old: old | {"lr": old["lr"] | {"used": 0.2}})),
    Planted("commit is gone", "cannot be judged", "Fetch it first", edit=change_json(code=lambda old: old | {"commit": "0" * 40})),
    Planted("notebook is gone", "cannot be judged", edit=lambda root, record: next(record.glob("*.ipynb")).unlink()),
    Planted("run was killed", "cannot be judged", "killed, so it has no result", edit=change_json(state=lambda old: "killed")),
    Planted("file of the store is gone", "cannot be judged", edit=lambda root, record: [path.unlink() for path in (record.parent / ".store").glob("*.txt")]),
]


def show_study_run(first: tuple[Path, Path], planted: Planted) -> str:
    """Plant a change, verify the run, and say what was not found as it should be."""
    root, original = first
    folder = root / "copies" / planted.name.replace(" ", "-").replace(",", "")
    shutil.copytree(original.parent / ".store", folder / ".store")
    record = Path(shutil.copytree(original, folder / original.name))
    try:
        planted.edit(root, record)
        before = read_bytes(record)
        found = verify(root, record, *planted.options, **planted.environment)
        wrong = [] if found["verdict"] == planted.verdict else [f"verdict {found['verdict']}: {[one for one in found['items'] if one['verdict'] != 'identical'][:3]} {found['problem']}"]
        said = found["problem"] or (f"{found['causes'][0]['text']}" if found["causes"] else "")
        if planted.says not in said:
            wrong.append(f"said {said}")
        if planted.step and not any(f"loss at step {planted.step}:" in line for line in found["parted"]):
            wrong.append(f"parted {found['parted']}")
        if read_bytes(record) != before:
            wrong.append("the record was changed")
        if bool(read_verdict(record)) != bool(found["rerun_s"]):
            wrong.append("a verdict was kept that is none")
        return "; ".join(wrong)
    finally:
        git(root, "reset", "--quiet", "--hard", "begin")
        fill(root)


@pytest.mark.parametrize("planted", [one for one in PLANTED if one.is_quick], ids=lambda one: one.name)
def test_what_is_not_as_it_was(started, planted):
    assert show_study_run(started, planted) == ""


@pytest.mark.slow
def test_all_that_is_not_as_it_was(started, capsys):
    found = {planted.name: show_study_run(started, planted) for planted in PLANTED if not planted.is_quick}
    with capsys.disabled():
        print("\n" + "\n".join(f"{name:<40}{wrong or 'right'}" for name, wrong in found.items()))
    assert not any(found.values())


def test_a_run_by_hand(tmp_path):
    """Cells that a person ran in another order are run from top to bottom, and the reader is told."""
    folder = make_repository(tmp_path / "repository")
    hand = Hand(folder / "explore.ipynb", "lr: float = 0.1", "from ml_repo.tracking.run import start_run\nrun = start_run()", "print(round(lr * 3, 3))", "run.log(split='test', loss=lr)")
    try:
        assert set(hand.run(0, 1, 3, 2)) == {"ok"}
    finally:
        (record,) = hand.leave()
    result = run("ml-repo", "verify", record["id"], "--no-keep", "--json", cwd=folder)
    (found,) = json.loads(result.stdout[result.stdout.index("["):])
    assert found["verdict"] == "identical" and any("order" in note for note in found["notes"]), found


UNSTEADY = "import random, time\ntime.sleep(wait_s)\nprint(random.random())"


@pytest.fixture(scope="module")
def unsteady(tmp_path_factory) -> Path:
    """The record of a run that never gives the same twice."""
    folder = tmp_path_factory.mktemp("unsteady") / "repository"
    folder.mkdir()
    write_cells(folder / "train.ipynb", "wait_s: float = 1.0  # seconds, at least 0", UNSTEADY)
    make_repository(folder)
    checked("ml-repo", "run", "train.ipynb", "--quiet", cwd=folder)
    return find_records(folder / "experiments")[0]


@pytest.mark.slow
def test_the_latest_run_is_no_repetition_that_was_kept(unsteady):
    """Who asks again after a verdict gets the run, and not its repetition."""
    for _ in range(2):
        result = run("ml-repo", "verify", "latest", "--keep", cwd=unsteady.parent)
        assert result.returncode == 2 and f"{unsteady.name}: differs" in result.stdout
    assert len(find_records(unsteady.parent)) == 3


@pytest.mark.slow
def test_a_verdict_on_chosen_kinds_is_not_taken_for_the_whole(unsteady):
    before = read_verdict(unsteady)
    result = run("ml-repo", "verify", unsteady, "--only", "state", cwd=unsteady.parent)
    assert result.returncode == 0 and "Only some items counted (state)" in result.stdout and read_verdict(unsteady) == before
    result = run("ml-repo", "verify", unsteady, "--only", "metrix", cwd=unsteady.parent)
    assert result.returncode == 3 and "metrix" in result.stdout
    result = run("ml-repo", "verify", unsteady, "--only", "weights", cwd=unsteady.parent)  # there are none
    assert result.returncode == 3 and "cannot be judged" in result.stdout and "Error" not in result.stdout


@pytest.mark.slow
def test_a_run_that_cannot_be_verified_does_not_stop_the_others(unsteady):
    broken = unsteady.parent / "broken-1"
    shutil.copytree(unsteady, broken)
    (broken / "record.json").write_text("{")
    result = run("sh", "-c", '"$@" 2> /dev/null', "sh", "ml-repo", "verify", "broken-1", unsteady.name, "--only", "state", "--json", cwd=unsteady.parent)
    assert [one["verdict"] for one in json.loads(result.stdout)] == ["cannot be judged", "identical"] and result.returncode == 3
    shutil.rmtree(broken)


@pytest.mark.parametrize(("number", "after_s"), [pytest.param(signal.SIGINT, 2.5, marks=pytest.mark.slow), (signal.SIGTERM, 2.5), pytest.param(signal.SIGHUP, 1.2, marks=pytest.mark.slow),
                                                 *(pytest.param(signal.SIGTERM, after_s / 4, marks=pytest.mark.slow) for after_s in range(2, 24))])
def test_a_signal_at_any_moment_leaves_nothing_and_is_no_verdict(unsteady, tmp_path, number, after_s):
    before = read_bytes(unsteady)
    command = ["ml-repo", "verify", str(unsteady), "--no-keep"]
    process = subprocess.Popen(command, cwd=unsteady.parent, env=os.environ | {"TMPDIR": str(tmp_path), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    time.sleep(after_s)
    process.send_signal(number)
    assert process.wait(LIMIT_S) in (130 if number == signal.SIGINT else -number, 2)  # 2 where it was faster
    assert list(tmp_path.iterdir()) == [] and checked("git", "worktree", "list", cwd=unsteady.parent).count("\n") == 1
    assert read_bytes(unsteady) == before


READ_ONCE = ("record.json", "metrics.jsonl", "train.ipynb")  # files of a record
_COUNTERS: list[Counter[tuple[str, str]]] = []  # those that are counting now


def _count_open(event: str, arguments: tuple) -> None:
    """Count that a file of a record is opened to be read; Python calls it for every event of the interpreter."""
    if _COUNTERS and event == "open" and isinstance(arguments[0], (str, bytes)):
        path, flags = Path(os.fsdecode(arguments[0])), arguments[2] or 0
        is_read = not flags & (os.O_WRONLY | os.O_RDWR)
        if is_read and path.name in READ_ONCE and (path.parent.parent / ".store").is_dir():
            for counter in _COUNTERS:
                counter[path.parent.name, path.name] += 1


sys.addaudithook(_count_open)  # it stays until the process ends, and does nothing while nobody counts


@contextmanager
def counted_reads() -> Iterator[Counter[tuple[str, str]]]:
    """Count how often this process reads the files of records: by name of the record and of the file."""
    counter: Counter[tuple[str, str]] = Counter()
    _COUNTERS.append(counter)
    try:
        yield counter
    finally:
        _COUNTERS.remove(counter)


LOGGING = """
import random
from ml_repo.tracking.run import start_run
run = start_run()
for step in range(3):
    run.log(step=step, loss=random.random() if is_unsteady else 1 / (step + 1))
print(step)
"""


@pytest.mark.parametrize(("is_unsteady", "verdict"), [("false", "identical"), ("true", "differs")])
def test_a_trip_reads_each_record_once(tmp_path, is_unsteady, verdict):
    """The run and its repetition are read once each, whatever is looked at: metrics, cells, where they part, causes."""
    folder = tmp_path / "repository"
    folder.mkdir()
    write_cells(folder / "train.ipynb", "is_unsteady: bool = False  # draw numbers without a seed", LOGGING)
    make_repository(folder)
    checked("ml-repo", "run", "train.ipynb", "-p", "is_unsteady", is_unsteady, "--quiet", cwd=folder)
    (record,) = find_records(folder / "experiments")
    find_runs(records=[record.parent])  # the index is built before, as `ml-repo verify latest` does to find the run
    with counted_reads() as counter:
        verification = verify_run(record, keep=True)
    assert verification.verdict == verdict, verification
    assert bool(verification.causes) == bool(verification.parted) == (verdict == "differs"), verification
    names = record.name, verification.kept
    assert counter == {(name, file): 1 for name in names for file in READ_ONCE}
    with counted_reads() as counter:
        diff_runs(record, record.parent / verification.kept)
    assert counter == {(name, file): 1 for name in names for file in ("record.json", "train.ipynb")}


def test_worktrees_are_gone(started):
    """Git keeps no entry of a checkout, and no folder is left."""
    assert git(started[0], "worktree", "list").count("\n") == 0
