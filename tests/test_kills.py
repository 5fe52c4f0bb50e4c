"""Runs that come to a bad end: real processes, killed in every way at random moments, and what their records say then."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import nbformat
import psutil
import pytest
from conftest import BIN, LIMIT_S, await_true

from ml_repo.core.files import read_lines
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.schema import RECORD_SCHEMA

pytestmark = pytest.mark.own_process

SEED = int(os.environ.get("KILL_SEED", random.SystemRandom().randrange(10**6)))
ENVIRONMENT = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
TICK_S = 0.05
LOSS_LIMIT_S = 1.0  # of what was printed, that a kill may cost where each process has a processor
PAPERMILL = (sys.executable, "-m", "papermill")

PARAMETERS = """truth: str = ''  # file that takes what is printed, beside the record
ticks: int = 12  # lines a long cell prints
exit_at: int = -1  # tick at which the kernel leaves without a word
grow_at: int = -1  # tick from which the kernel takes memory without an end
stubborn: bool = False  # whether the kernel ignores SIGINT
until: str = ''  # go on until this file exists"""
PREPARE = f"""import os, signal, time
from ml_repo.tracking.run import start_run
run, total, held = start_run(), 0, []
if stubborn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
paper = os.open(truth, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def tick(pause=True):
    global total
    total += 1
    if stubborn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if total == exit_at:
        os._exit(3)
    while -1 < grow_at <= total:
        held.append(b'x' * 10_000_000)
        time.sleep(0.02)
    line = f'tick {{total}} {{time.time():.3f}}'
    run.log(step=total, ticks=total)
    print(line, flush=True)
    os.write(paper, (line + '\\n').encode())
    if pause:
        time.sleep({TICK_S})
"""
LONG = "for _ in range(ticks): tick()"
CELLS = (PREPARE, LONG, *["tick(False)"] * 12, LONG, "while until and not os.path.exists(until): tick()", "os.write(paper, b'end\\n')")


def write_repository(root: Path, *cells: str, name: str = "count.ipynb", parameters: str = PARAMETERS) -> Path:
    """Write a repository that asks for records, with one notebook in it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    sources = [nbformat.v4.new_code_cell(source) for source in (parameters, *(cells or CELLS))]
    sources[0].metadata["tags"] = ["parameters"]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=sources, metadata={"kernelspec": spec}), root / name)
    return root / name


@dataclass
class Shot:
    """One run and the way it is to end."""

    kind: str  # a key of KINDS
    phase: str  # "start", "cells" or "end"
    share: float  # of the phase that has passed when it happens, 0 to 1
    number: int  # of the run
    root: Path  # of the repository
    process: subprocess.Popen | None = None
    at: float | None = None  # when it happened; None when the run was over already
    kernel: int | None = None  # its process
    facts: dict = field(default_factory=dict)

    @property
    def truth(self) -> Path:
        return self.root / f"truth-{self.number}.txt"

    @property
    def output(self) -> Path:
        return self.root / f"out-{self.number}.ipynb"

    def lines(self) -> list[tuple[int, float]]:
        """What the notebook really printed, as tick and time."""
        text = self.truth.read_text() if self.truth.exists() else ""
        return [(int(line.split()[1]), float(line.split()[2])) for line in text.splitlines() if line.startswith("tick")]

    def is_done(self) -> bool:
        """Whether the last cell came to its end."""
        return self.truth.exists() and self.truth.read_text().endswith("end\n")

    def record(self) -> Path | None:
        found = [path.parent for path in self.root.glob("experiments/*/record.json") if str(self.truth) in path.read_text()]
        assert len(found) < 2
        return found[0] if found else None

    def start(self, *before: str, **values: object) -> None:
        given = [part for name, value in {"truth": self.truth, **values}.items() for part in ("-p", name, str(value))]
        self.process = subprocess.Popen([*before, *PAPERMILL, "count.ipynb", self.output.name, *given], cwd=self.root, env=ENVIRONMENT,
                                        stdin=subprocess.DEVNULL, stdout=open(self.root / f"said-{self.number}.txt", "w"),
                                        stderr=subprocess.STDOUT, start_new_session=True)

    def said(self) -> str:
        return (self.root / f"said-{self.number}.txt").read_text()


def wait_for(happened: Callable[[], object], shot: Shot, limit_s: float = LIMIT_S) -> object:
    """Wait until something happened or the run is over."""
    since = time.monotonic()
    while not (seen := happened()) and shot.process.poll() is None:
        assert time.monotonic() - since < limit_s, f"{shot.kind}: nothing happened in {limit_s} s:\n{shot.said()}"
        time.sleep(0.005)
    return seen


def find_kernel(shot: Shot) -> int | None:
    with suppress(psutil.Error):
        for child in psutil.Process(shot.process.pid).children(recursive=True):
            if "ipykernel_launcher" in " ".join(child.cmdline()):
                return child.pid
    return None


def wait_for_phase(shot: Shot) -> None:
    """Wait for the moment of the shot: in a phase, after its share of the time."""
    if shot.phase == "start":  # papermill is imported, the record opened, the kernel started
        pause = 2.5 * shot.share
        if shot.kind.startswith("kernel"):
            wait_for(lambda: find_kernel(shot), shot)
            pause = 0.5 * shot.share
    elif shot.phase == "cells":
        wait_for(shot.lines, shot)
        pause = 2.0 * shot.share
    else:
        wait_for(shot.is_done, shot)
        pause = 0.4 * shot.share
    with suppress(subprocess.TimeoutExpired):
        shot.kernel = find_kernel(shot)
        shot.process.wait(pause)
    shot.kernel = shot.kernel or find_kernel(shot)


def send_to_kernel(number: int) -> Callable[[Shot], None]:
    def send(shot: Shot) -> None:
        if shot.kernel is not None:
            os.kill(shot.kernel, number)
    return send


def send_to_papermill(number: int, group: bool = False) -> Callable[[Shot], None]:
    return lambda shot: (os.killpg if group else os.kill)(shot.process.pid, number)


KINDS: dict[str, Callable[[Shot], None]] = {
    "kernel SIGKILL": send_to_kernel(signal.SIGKILL),
    "kernel SIGTERM": send_to_kernel(signal.SIGTERM),
    "os._exit": lambda shot: None,
    "papermill SIGKILL": send_to_papermill(signal.SIGKILL),
    **{f"{signal.Signals(number).name}{' group' if group else ''}": send_to_papermill(number, group)
       for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP) for group in (False, True)},
    "SIGTERM stubborn": send_to_papermill(signal.SIGTERM),
    "out of memory": lambda shot: None,
}


# --- groups with a limit of memory


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Path]:
    """Make a group of processes with a limit; skip where the system does not let us."""
    root = Path("/sys/fs/cgroup")
    old = (root / "memory" / "memory.limit_in_bytes").exists()
    folder = (root / "memory" if old else root) / f"ml-repo-test-{os.getpid()}-{random.randrange(10**6)}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if old else "memory.max")).write_text(str(limit_bytes))
        with suppress(OSError):
            (folder / ("memory.memsw.limit_in_bytes" if old else "memory.swap.max")).write_text(str(limit_bytes if old else 0))
    except OSError as error:
        with suppress(OSError):
            folder.rmdir()
        pytest.skip(f"OUT OF MEMORY IS NOT TESTED: no memory cgroup can be made here ({error}).")
    try:
        yield folder
    finally:
        for _ in range(50):
            with suppress(OSError):
                folder.rmdir()
                break
            time.sleep(0.1)


# --- one shot and what must hold after it


def fire(shot: Shot) -> Shot:
    """Start a run, end it at its moment, and judge what is left."""
    choice = random.Random(f"{SEED} {shot.number}")
    values: dict[str, object] = {"stubborn": True} if "stubborn" in shot.kind else {}
    with memory_limit(400_000_000) if shot.kind == "out of memory" else suppress() as group:
        if shot.kind == "os._exit":
            values["exit_at"] = choice.randint(1, 36)
        if group is not None:
            values["grow_at"] = choice.randint(1, 36)
        before = ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh") if group is not None else ()
        shot.start(*before, **values)
        if shot.kind in ("os._exit", "out of memory"):
            wait_for(lambda: False, shot)
        else:
            wait_for_phase(shot)
            if shot.process.poll() is None:
                shot.at = time.time()
                with suppress(ProcessLookupError):
                    KINDS[shot.kind](shot)
        shot.process.wait(LIMIT_S)
    judge(shot)
    return shot


def expected(shot: Shot, has_record: bool) -> set[tuple[str | None, int]]:
    """Say with which states and exit codes the run may have ended."""
    if shot.kind == "os._exit" or shot.kind == "out of memory":
        return {("killed", 138)}
    if shot.at is None:
        return {("completed", 0)}
    ends: set[tuple[str | None, int]] = {("completed", 0)} if shot.is_done() else set()
    if shot.kind.startswith("kernel"):
        return ends | ({("killed", 138)} if shot.kernel is not None else {("completed", 0)})
    number = signal.SIGKILL if shot.kind == "papermill SIGKILL" else signal.Signals[shot.kind.split()[0]]
    code = 130 if number == signal.SIGINT else -number
    if not has_record:
        return {(None, one) for one in ((1, 130, -number) if number == signal.SIGINT else (code,))}
    if shot.is_done():  # too late; the rest is papermill's own and Python's
        ends |= {("completed", one) for one in ((code, 1, -number) if number == signal.SIGINT else (code,))}
    return ends | {("killed" if number == signal.SIGKILL else "interrupted", code)}


def wait_until_gone(shot: Shot, told: str) -> None:
    """The kernel ends with its run."""
    with suppress(psutil.NoSuchProcess):
        await_true(lambda: shot.kernel is None or psutil.Process(shot.kernel).status() == psutil.STATUS_ZOMBIE, f"the end of the kernel: {told}")


def judge(shot: Shot) -> None:
    """Compare what the record says with what happened."""
    where = f"{shot.kind}, {shot.phase} {shot.share:.2f}, run {shot.number}"
    folder, code = shot.record(), shot.process.returncode
    told = f"{where}: exit {code}, said:\n{shot.said()[-1500:]}"
    record = folder and await_true(lambda: (read := read_record(folder))["state"] != "running" and read, f"the end of the record: {told}")  # a program that was just starting holds its lock until it has begun
    wait_until_gone(shot, told)
    assert (record and record["state"], code) in expected(shot, bool(folder)), f"state {record and record['state']} {record and record['cause']} {told}"
    if folder is None:
        return
    raw = json.loads((folder / "record.json").read_text())
    jsonschema.validate(raw, RECORD_SCHEMA)
    assert raw["state"] == record["state"] != "running"
    judge_cause(shot, record, told)
    judge_notebook(shot, record, folder / "count.ipynb", told)
    if shot.output.exists():
        nbformat.validate(nbformat.read(shot.output, 4))
    assert not [*folder.rglob("*.tmp")], told
    kept = [line["values"]["ticks"] for line in read_lines(folder / "metrics.jsonl")]
    assert kept == list(range(1, len(kept) + 1)) and len(kept) >= len(shot.lines()), told
    if kept:
        assert [(one["name"], one["value"]) for one in record["metrics"]] == [("ticks", kept[-1])], told
    judge_loss(shot, folder, told)


def judge_cause(shot: Shot, record: dict, told: str) -> None:
    cause = record["cause"]
    if record["state"] == "completed":
        assert cause is None and shot.is_done(), told
        return
    wanted = {"kernel SIGKILL": "SIGKILL", "kernel SIGTERM": "SIGTERM", "out of memory": "SIGKILL"}
    if shot.kind in wanted:
        assert cause.get("signal") == wanted[shot.kind], f"{cause} {told}"
    elif shot.kind == "os._exit":
        assert cause["exit_status"] == 3, f"{cause} {told}"
    elif record["state"] == "interrupted":
        assert cause["signal"] == shot.kind.split()[0], f"{cause} {told}"
    else:
        assert cause["kind"] == "supervisor gone", f"{cause} {told}"
    assert shot.kind != "out of memory" or cause["kind"] == "out of memory", f"{cause} {told}"


def judge_notebook(shot: Shot, record: dict, path: Path, told: str) -> None:
    """No cell may claim more than it did, and the one that was running says what came."""
    if not path.exists():  # killed before the first write
        assert record["state"] == "killed" and record["cause"]["kind"] == "supervisor gone" and not shot.lines(), told
        return
    notebook = nbformat.read(path, 4)
    nbformat.validate(notebook)
    states = [cell.metadata.papermill.status for cell in notebook.cells]
    done = states.index(next((state for state in states if state != "completed"), states[-1])) if set(states) != {"completed"} else len(states)
    assert set(states[:done]) <= {"completed"} and set(states[done + 1:]) <= {"pending"}, f"{states} {told}"
    if record["state"] == "completed" or (done == len(states) and shot.kind == "papermill SIGKILL"):  # the latter while it was closed
        assert set(states) == {"completed"} and shot.is_done(), f"{states} {told}"
        return
    assert notebook.metadata.papermill.exception, told
    assert "running" not in states, f"{states} {told}"
    begun, ended = shot.lines(), [int(line.split()[1]) for cell in notebook.cells[:done] for output in cell.get("outputs", [])
                                  for line in output.get("text", "").splitlines() if line.startswith("tick")]
    assert ended == [tick for tick, _ in begun][:len(ended)], told
    if states[done] in ("killed", "interrupted") and notebook.cells[done].outputs:
        last = notebook.cells[done].outputs[-1]
        assert last.output_type == "error" and last.ename in ("KernelKilled", "Killed", "Interrupted", "KeyboardInterrupt"), f"{last} {told}"
    assert states[done] in ("killed", "interrupted", "pending"), f"{states} {told}"


def judge_loss(shot: Shot, folder: Path, told: str) -> None:
    """What was printed more than a second before the end is in the log and in the notebook."""
    until = shot.at if shot.at is not None and shot.kind == "papermill SIGKILL" else float("inf")
    printed = [time_s for _, time_s in shot.lines() if time_s <= until]
    log = (folder / "log.txt").read_text() if (folder / "log.txt").exists() else ""
    notebook = (folder / "count.ipynb").read_text() if (folder / "count.ipynb").exists() else ""
    for name, text in (("log", log), ("notebook", notebook)):
        lost = [time_s for time_s in printed if f" {time_s:.3f}" not in text]
        shot.facts[name] = max(printed) - min(lost) + TICK_S if lost else 0.0
        assert shot.facts[name] <= LOSS_LIMIT_S * max(1, os.getloadavg()[0] / os.cpu_count()), f"{len(lost)} lines are not in the {name}, {shot.facts[name]:.2f} s: {told}"


def draw(kinds: dict[str, int], root: Path, phases: tuple[str, ...] = ("start", "cells", "end")) -> list[Shot]:
    """Draw random moments: for each kind a number of them, spread over the phases."""
    choice, shots = random.Random(SEED), []
    for kind, count in kinds.items():
        for one in range(count):
            phase = "cells" if kind in ("os._exit", "out of memory") else phases[one % len(phases)]
            shots.append(Shot(kind, phase, choice.random(), len(shots), root))
    choice.shuffle(shots)
    return shots


def shoot(shots: list[Shot], workers: int) -> None:
    """Fire all shots, several at a time, beside a run that nobody touches; print what came of them."""
    root, stop = shots[0].root, shots[0].root / "stop"
    write_repository(root)
    bystander = Shot("bystander", "cells", 0, 10_000, root)
    bystander.start(until=stop)
    wait_for(bystander.lines, bystander)
    rows: dict[str, list] = {}

    def attempt(shot: Shot) -> str | None:
        try:
            fire(shot)
        except (AssertionError, Exception) as error:
            return f"{type(error).__name__}: {error}"

    def read_all() -> str | None:
        """Read all records again and again, as a person who looks at them does meanwhile."""
        try:
            while not stop.exists():
                for folder in find_records(root / "experiments"):
                    jsonschema.validate({key: value for key, value in read_record(folder).items()}, RECORD_SCHEMA)
                time.sleep(0.05)
        except Exception as error:
            return f"a reader got {type(error).__name__}: {error}"

    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as reader:
        reading = reader.submit(read_all)
        problems = list(pool.map(attempt, shots))
        stop.touch()
    problems.append(reading.result())
    for shot, problem in zip(shots, problems):
        rows.setdefault(shot.kind, []).append((problem, shot.facts.get("log", 0), shot.facts.get("notebook", 0)))
    print(f"\nseed {SEED}\n{'kind':20} {'moments':>8} {'right':>6} {'lost log':>9} {'lost notebook':>14}")
    for kind, found in sorted(rows.items()):
        print(f"{kind:20} {len(found):8} {sum(one[0] is None for one in found):6} {max(one[1] for one in found):8.2f}s {max(one[2] for one in found):13.2f}s")
    bystander.process.wait(LIMIT_S)
    judge(bystander)
    wrong = [problem for problem in problems if problem]
    assert not wrong, f"seed {SEED}: {len(wrong)} of {len(shots)} are wrong\n\n" + "\n\n".join(wrong)


def can_limit_memory() -> bool:
    try:
        with memory_limit(10**9):
            return True
    except pytest.skip.Exception as reason:
        print(reason)
        return False


def test_a_few_random_ends(tmp_path):
    kinds = dict.fromkeys(("kernel SIGKILL", "os._exit", "papermill SIGKILL", "SIGTERM", "SIGINT group", "SIGHUP"), 1)
    shots = draw(kinds, tmp_path / "one", ("cells",)) + draw({"SIGTERM": 1, "papermill SIGKILL": 1}, tmp_path / "one", ("start", "end"))
    for number, shot in enumerate(shots):
        shot.number = number
    shoot(shots, 3)


@pytest.mark.slow
def test_every_end_at_random_moments(tmp_path, capsys):
    kinds = dict.fromkeys(KINDS, 6)
    if not can_limit_memory():
        del kinds["out of memory"]
    with capsys.disabled():
        shoot(draw(kinds, tmp_path / "all"), 4)


def test_out_of_memory_is_named(tmp_path):
    with memory_limit(10**9):
        pass
    write_repository(tmp_path)
    fire(Shot("out of memory", "cells", 0.5, 0, tmp_path))


# --- odd ends


STARTED = "open('started', 'w').close()\n"
WAIT = f"{STARTED}import time\nfor second in range(600): print(second, flush=True); time.sleep(0.1)"
RECORD = "import os; folder = os.environ['ML_REPO_RUN']\n"
CHILD = "import subprocess; open('child', 'w').write(str(subprocess.Popen(['sleep', '60']).pid))\n"


def odd(root: Path, *cells: str, act: Callable[[int], None] | None = None) -> tuple[int, dict, list[str], str]:
    """Run cells, do something to the process of papermill in the middle, and give exit code, record, marks and what was said."""
    write_repository(root, *cells, name="odd.ipynb", parameters="lr: float = 0.1")
    with open(root / "said.txt", "w") as said:
        process = subprocess.Popen([*PAPERMILL, "odd.ipynb", "out.ipynb"], cwd=root, env=ENVIRONMENT, stdin=subprocess.DEVNULL,
                                   stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
    while act is not None and not (root / "started").exists() and process.poll() is None:
        time.sleep(0.01)
    if act is not None:
        time.sleep(0.3)
        act(process.pid)
    code = process.wait(LIMIT_S)
    found = [path.parent for path in root.glob("experiments/odd-*/record.json")]
    record = read_record(found[0]) if found else {"state": None, "cause": None}
    marks = [cell.metadata.papermill.status for cell in nbformat.read(found[0] / "odd.ipynb", 4).cells] if found else []
    return code, record, marks, (root / "said.txt").read_text()


def storm(pid: int) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        os.kill(pid, number)
        time.sleep(0.02)


def stop_kernel_and_end(pid: int) -> None:
    for child in psutil.Process(pid).children():
        child.suspend()
    os.kill(pid, signal.SIGTERM)


def test_a_storm_of_signals(tmp_path):
    code, record, marks, _ = odd(tmp_path, WAIT, act=storm)
    assert (code, record["state"], record["cause"]["signal"], marks) == (-15, "interrupted", "SIGTERM", ["completed", "interrupted"])


@pytest.mark.slow
def test_a_kernel_that_stands_still(tmp_path):
    code, record, marks, _ = odd(tmp_path, WAIT, act=stop_kernel_and_end)
    assert (code, record["state"], marks) == (-15, "interrupted", ["completed", "interrupted"])


def test_children_of_a_killed_kernel_do_not_stay(tmp_path):
    code, record, marks, _ = odd(tmp_path, f"{CHILD}import os; os.kill(os.getpid(), 9)", "1")
    assert (code, record["state"], marks) == (138, "killed", ["completed", "killed", "pending"])
    child = int((tmp_path / "child").read_text())
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_an_error_that_the_kernel_cannot_send(tmp_path):
    code, record, marks, _ = odd(tmp_path, "raise ValueError('\\ud83d')", "1")
    assert (code, record["state"], marks) == (1, "failed", ["completed", "failed", "pending"])
    assert record["cause"]["cell"] == 2
    assert not [warning for warning in record["warnings"] if "no commit" not in warning]


@pytest.mark.slow
def test_a_notebook_that_deletes_its_record(tmp_path):
    code, _, _, said = odd(tmp_path, f"{RECORD}import shutil; shutil.rmtree(folder)", "print('the last line')")
    assert code == 1 and "its record is not complete" in said and "Traceback" not in said, said
    assert "the last line" in (tmp_path / "out.ipynb").read_text()


@pytest.mark.slow
def test_a_hundred_thousand_prints(tmp_path):
    """Nothing is lost, and a cell whose outputs are still on their way has not failed."""
    code, record, marks, _ = odd(tmp_path, "for number in range(100_000): print(f'\\r{number}', end='', flush=True)")
    assert (code, record["state"], marks) == (0, "completed", ["completed"] * 2)
    assert (record.folder / "log.txt").read_bytes().decode() == "".join(f"\r{number}" for number in range(100_000))


def test_prints_wait_for_a_supervisor_that_stands_still(tmp_path):
    """A machine may be so busy that nobody reads for seconds; the outputs are all there afterwards."""
    def pause(pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(pid, signal.SIGCONT)

    code, record, marks, _ = odd(tmp_path, f"{STARTED}import time; time.sleep(0.6)\nfor number in range(6_000): print(number, 'x' * 700, flush=True)", act=pause)
    assert (code, record["state"], marks) == (0, "completed", ["completed"] * 2)
    assert (record.folder / "log.txt").read_text() == "".join(f"{number} {'x' * 700}\n" for number in range(6_000))


@pytest.mark.slow
def test_a_run_inside_of_a_run(tmp_path):
    """Each has its own record, and each knows its own end."""
    write_repository(tmp_path, "from ml_repo.tracking.run import start_run; start_run().log(inner=1)", WAIT, name="inner.ipynb", parameters="lr: float = 0.1")
    outer = "from ml_repo.tracking.run import start_run; start_run().log(outer=1)\nimport papermill; papermill.execute_notebook('inner.ipynb', 'inner-out.ipynb')"
    code, record, marks, _ = odd(tmp_path, outer, act=lambda pid: os.kill(pid, signal.SIGTERM))
    inner = read_record(next(tmp_path.glob("experiments/inner-*")))
    assert (code, record["state"], marks, inner["state"]) == (-15, "interrupted", ["completed", "interrupted"], "interrupted")
    assert [one["name"] for one in record["metrics"]] == ["outer"] and [one["name"] for one in inner["metrics"]] == ["inner"]


# --- no room, no rights, no place


def find_mounter() -> list[str]:
    """Find how a small disk can be mounted here; skip where it cannot."""
    for command in (["unshare", "-rm"], ["unshare", "-m"]):
        if shutil.which("unshare") and subprocess.run([*command, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode == 0:
            return command
    pytest.skip("FULL AND READ-ONLY DISKS ARE NOT TESTED: no file system can be mounted here.")


def run_on_small_disk(root: Path, size_kb: int, output: str, option: str = "", **values: object) -> tuple[int, str]:
    """Run the notebook with `experiments/` on a disk of `size_kb`, and copy it out afterwards."""
    given = " ".join(f"-p {name} {value}" for name, value in values.items())
    script = f"""mount -t tmpfs -o size={size_kb}k,nr_inodes=200 none {root}/experiments || exit 99
        {option}
        cd {root}; {' '.join(PAPERMILL)} count.ipynb {output} --no-progress-bar {given}; code=$?
        df -k {root}/experiments | tail -1
        cp -a {root}/experiments/. {root}/kept; exit $code"""
    (root / "experiments").mkdir(exist_ok=True)
    (root / "home").mkdir(exist_ok=True)
    result = subprocess.run([*find_mounter(), "sh", "-c", script], env=ENVIRONMENT | {"HOME": str(root / "home")}, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, timeout=LIMIT_S)
    return result.returncode, result.stdout


def check_small_disk(root: Path, size_kb: int, on_disk: bool) -> str:
    """Run on a small disk and make sure that nothing there claims what is not so."""
    write_repository(root)
    code, said = run_on_small_disk(root, size_kb, "experiments/out.ipynb" if on_disk else "out.ipynb", truth=root / "truth.txt", ticks=3)
    told = f"{size_kb} kB, output {'there' if on_disk else 'elsewhere'}: exit {code}, said:\n{said}"
    assert code in (0, 1, 2) and "Traceback" not in said, told
    for path in (root / "kept").rglob("*"):
        assert path.suffix != ".tmp", f"{path} {told}"
        if path.suffix == ".ipynb" and path.is_file():
            nbformat.validate(nbformat.read(path, 4))
    records = [*(root / "kept").glob("*/record.json")]
    for path in records:
        jsonschema.validate(json.loads(path.read_text()), RECORD_SCHEMA)
    if code == 2:
        assert "cannot be written" in said and not (root / "truth.txt").exists(), told
        return "refused"
    assert (root / "truth.txt").read_text().endswith("end\n"), told  # the run itself went to its end
    state = json.loads(records[0].read_text())["state"]
    kept = [path for folder in (root / "kept", root) for path in folder.rglob("*.ipynb") if path.name != "count.ipynb" or path.parent.name.startswith("count-")]
    whole = [path for path in kept if path.read_text().count("tick 18 ")]
    assert whole, f"the executed notebook is nowhere: {kept} {told}"
    if code == 0:
        assert state == "completed" and read_record(records[0].parent)["metrics"][0]["value"] == 18, told
        return "completed"
    assert "The run ended as completed, but its record is not complete" in said or "its record is complete, but the executed notebook cannot be written" in said, told
    return f"told ({state})"


SIZES_KB = (4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56, 60, 64, 72, 80, 96, 128)


@pytest.mark.parametrize("size_kb", [8, 40, 80, pytest.param(None, marks=pytest.mark.slow)])
def test_a_full_disk(tmp_path, size_kb):
    cases = [(size, there) for size in SIZES_KB for there in (False, True)] if size_kb is None else [(size_kb, True)]
    find_mounter()
    with ThreadPoolExecutor(3) as pool:
        jobs = [(case, pool.submit(check_small_disk, tmp_path / f"{case[0]}-{case[1]}", *case)) for case in cases]
    problems = [str(job.exception()) for _, job in jobs if job.exception()]
    for (size, there), job in jobs:
        print(f"{size:4} kB, output {'there' if there else 'elsewhere'}: {job.exception() and 'WRONG' or job.result()}")
    assert not problems, "\n\n".join(problems)


def test_a_place_that_cannot_be_written(tmp_path):
    write_repository(tmp_path)
    truth = tmp_path / "truth.txt"
    code, said = run_on_small_disk(tmp_path, 1000, "out.ipynb", option=f"mount -o remount,ro {tmp_path}/experiments", truth=truth)
    assert code == 2 and "cannot be written" in said and "Traceback" not in said, said
    result = subprocess.run([*PAPERMILL, "count.ipynb", "nowhere/out.ipynb", "-p", "truth", truth], cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True)
    assert result.returncode == 2 and "mkdir -p" in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert not truth.exists() and not [*tmp_path.glob("experiments/*/record.json")]


# --- many at once


MANY = """
import json, sys, threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from ml_repo.execution.launch import run_notebook

def one(number):
    with room:
        return run_notebook("one.ipynb", {"value": number}, quiet=True)["state"]

def work(process, threads, at_once):
    global room
    room = threading.BoundedSemaphore(at_once)
    with ThreadPoolExecutor(threads) as pool:
        states = list(pool.map(one, range(process * threads, (process + 1) * threads)))
    assert set(states) == {"completed"}, states

if __name__ == "__main__":
    processes, threads, at_once = map(int, sys.argv[1:])
    workers = [get_context("spawn").Process(target=work, args=(number, threads, at_once)) for number in range(processes)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    sys.exit(max(abs(worker.exitcode) for worker in workers))
"""


@pytest.mark.parametrize(("processes", "threads", "at_once"), [(2, 4, 2), pytest.param(10, 20, 2, marks=pytest.mark.slow)])
def test_many_at_once_are_not_mixed_up(tmp_path, processes, threads, at_once):
    """Each of the runs finds its own value in its parameters, its output and its metrics."""
    write_repository(tmp_path, "from ml_repo.tracking.run import start_run\nstart_run().log(value=value)\nprint('value', value)",
                     name="one.ipynb", parameters="value: int = -1  # the number of the run")
    (tmp_path / "many.py").write_text(MANY)
    result = subprocess.run([sys.executable, "many.py", str(processes), str(threads), str(at_once)], cwd=tmp_path, env=ENVIRONMENT, text=True, capture_output=True)
    assert result.returncode == 0, result.stderr[-3000:]
    found = []
    for path in tmp_path.glob("experiments/*/record.json"):
        record = read_record(path.parent)
        jsonschema.validate(dict(record), RECORD_SCHEMA)
        value = record["parameters"]["value"]["used"]
        assert record["state"] == "completed" and record["parameters"]["value"]["given"] == value == record["metrics"][0]["value"]
        assert (path.parent / "log.txt").read_text() == f"value {value}\n"
        assert f"value {value}\\n" in (path.parent / "one.ipynb").read_text()
        found.append(value)
    assert sorted(found) == list(range(processes * threads))


def test_a_copy_on_another_machine_is_left_alone(tmp_path):
    """A running record that was copied elsewhere cannot be judged there; after a restart of its own machine it can."""
    write_repository(tmp_path)
    shot = Shot("papermill SIGKILL", "cells", 0, 0, tmp_path)
    shot.start()
    wait_for(shot.lines, shot)
    shot.process.kill()
    shot.process.wait()
    folder = shot.record()
    record = json.loads((folder / "record.json").read_text())
    assert record["state"] == "running"
    copies = {}
    for name, host in {"elsewhere": {"name": "gpu-server", "boot": "another"}, "restarted": {"boot": "another"}}.items():
        copies[name] = tmp_path / name / folder.name
        shutil.copytree(folder, copies[name])
        (copies[name] / "record.json").write_text(json.dumps(record | {"host": record["host"] | host}))
    before = (copies["elsewhere"] / "record.json").read_bytes()
    seen = read_record(copies["elsewhere"])
    assert (seen["state"], seen["elsewhere"]) == ("running", True) and seen["seen"] > record["started"]
    assert (copies["elsewhere"] / "record.json").read_bytes() == before
    assert read_record(copies["restarted"])["state"] == read_record(folder)["state"] == "killed"
