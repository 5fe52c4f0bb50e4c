"""A study gives the same trials whoever is faster, and loses none whatever is killed."""
import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import jsonschema
import psutil
import pytest
from conftest import BIN, LIMIT_S, await_true, run
from test_record import ASKING, make_repository, write_notebook

from ml_repo.core.files import read_lines
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.schema import RECORD_SCHEMA
from ml_repo.study.trial_log import read_trials

CONTRACT = """
x: float = 0.5  # where we are, at least 0, at most 1
kind: str = "a"  # one of a, b
units: int = 8  # at least 1
epochs: int = 3  # at least 1
pause_s: float = 0.0  # before each epoch, at least 0
fails: bool = False
seed: int = 0  # at least 0
"""
BOWL = """
import time
from ml_repo.tracking.run import start_run
run = start_run()
top = 1 - abs(x - 0.3) - 0.1 * (kind == "b") - abs(units - 20) / 1000 + seed / 10000
for epoch in range(1, epochs + 1):
    time.sleep(pause_s)
    run.log(step=epoch, split="validation", direction="higher", accuracy=top * epoch / epochs)
    run.log(step=epoch, split="train", direction="lower", loss=units * (1 + x) / epoch)
assert not fails, "as it was asked to"
"""
SPACE = ("--vary", "x=0:1", "--vary", "kind=a,b", "--vary", "units=8:64:4")
METRIC = ("--metric", "val_accuracy")


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository with one light notebook."""
    write_notebook(tmp_path / "bowl.ipynb", CONTRACT, BOWL)
    return make_repository(tmp_path, ASKING)


def ml_repo(root: Path, *words: str, code: int = 0, **environment: str) -> str:
    result = run("ml-repo", *words, cwd=root, **environment)
    assert result.returncode == code, result.stdout
    return result.stdout


def tune(root: Path, *words: str, name: str = "bowl", code: int = 0) -> str:
    return ml_repo(root, "tune", "bowl.ipynb", "--name", name, *words, code=code)


def start(root: Path, *words: str) -> subprocess.Popen:
    """Start a command in a session of its own; what it prints goes into a file."""
    with open(root.parent / f"{root.name}.{time.monotonic_ns()}.txt", "w") as log:
        variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
        return subprocess.Popen([str(BIN / "ml-repo"), *words], cwd=root, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def study_folder(root: Path, name: str = "bowl") -> Path:
    return root / "experiments" / ".studies" / name


def read_values(root: Path, name: str = "bowl") -> list[dict]:
    return [one.values for one in read_trials(study_folder(root, name))]


def read_runs(root: Path, name: str = "bowl") -> list[dict]:
    """The records of a study, each as the schema says."""
    records = [read_record(folder) for folder in find_records(root / "experiments")]
    for record in records:
        jsonschema.validate({key: value for key, value in record.items() if key not in ("seen", "elsewhere")}, RECORD_SCHEMA)
    return [one for one in records if one.get("study", {}).get("name") == name]


def list_processes(root: Path) -> list[psutil.Process]:
    """Processes that have to do with a repository: they work in it, or name it."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.pid != os.getpid() and (str(root) in " ".join(one.cmdline()) or one.cwd() == str(root)):
                found.append(one)
    return found


# ---------------------------------------------------------------- what is refused

@pytest.mark.parametrize("words, why", [
    (("--vary", "xx=0:1", *METRIC, "--trials", "3"), "Did you mean x?"),
    (("--vary", "x=0:2", *METRIC, "--trials", "3"), "at most 1"),
    (("--vary", "units=1.5:3", *METRIC, "--trials", "3"), "whole"),
    (("--vary", "x=0:1", "--trials", "3"), "--metric val_accuracy"),
    (("--vary", "x=0:1", *METRIC), "has no end"),
    (("--vary", "x=0:1", "--metric", "goodness", "--trials", "3"), "goodness:higher"),
    (("--vary", "x=0:1", *METRIC, "--trials", "3", "-p", "pause_s", "-1"), "at least 0"),
    (("--vary", "x=0:1", *METRIC, "--trials", "3", "--pruner", "medain"), "Did you mean median?"),
])
def test_wrong_studies_are_refused_before_anything_runs(project, words, why):
    text = tune(project, *words, code=2)
    assert why in text and len(text.strip().splitlines()) == 1
    assert not (project / "experiments").exists()


# ---------------------------------------------------------------- the same trials

@pytest.mark.parametrize("sampler, pruner", [
    ("tpe", "median"),
    *(pytest.param(sampler, pruner, marks=pytest.mark.slow) for sampler, pruner in
      (("random", None), ("cmaes", None), ("quasi-random", None), ("grid", None), ("tpe", "hyperband"), ("random", "asha"), ("cmaes", "median")))])
def test_one_worker_and_four_give_the_same_trials(project, sampler, pruner):
    space = ("--vary", "x=0:1:0.25", "--vary", "kind=a,b") if sampler == "grid" else SPACE
    words = (*space, *METRIC, "--sampler", sampler, "--trials", "9", "-p", "epochs", "4", *(("--pruner", pruner) if pruner else ()))
    tune(project, *words, name="one")
    tune(project, *words, name="four", *("--workers", "4"))
    one, four = (read_trials(study_folder(project, name)) for name in ("one", "four"))
    assert [trial.number for trial in one] == list(range(9))
    describe = lambda trial: (trial.number, trial.values, trial.state, trial.objectives, trial.steps)
    assert [describe(trial) for trial in one] == [describe(trial) for trial in four]
    assert {trial.state for trial in one} <= {"complete", "pruned"}
    assert len({str(trial.values) for trial in one}) == 9
    assert len(read_runs(project, "one")) == len(read_runs(project, "four")) == 9


def test_a_file_says_all_that_a_command_can(project):
    (project / "study.yaml").write_text("""
notebook: bowl.ipynb
name: file
metrics: {val_accuracy: higher, train_loss: lower}
sampler: random
trials: 8
seeds: 2
constraints: ["units * x < 20"]
vary:
  kind: [a, b]
  units: {low: 8, high: 64, log: true}
  x: {range: "0:1", when: {kind: b}}
parameters: {epochs: 2, seed: 5}
""")
    ml_repo(project, "tune", "-f", "study.yaml", "--workers", "2")
    trials = read_trials(study_folder(project, "file"))
    assert [one.number for one in trials] == list(range(8))
    assert all(("x" in one.values) == (one.values["kind"] == "b") and one.values["units"] * one.values.get("x", 0) < 20 for one in trials)
    for trial in trials:
        runs = [read_record(project / "experiments" / name) for name in trial.runs]
        assert [one["parameters"]["seed"]["used"] for one in runs] == [5, 6]
        finals = [{metric["name"]: metric["value"] for metric in one["metrics"]} for one in runs]
        assert trial.objectives == [sum(one["accuracy"] for one in finals) / 2, sum(one["loss"] for one in finals) / 2]
    best = json.loads(ml_repo(project, "study", "best", "file", "--json"))
    assert 1 <= len(best) <= 8 and all(one["state"] == "complete" for one in best)


# ---------------------------------------------------------------- ends

@pytest.mark.slow
def test_a_trial_that_is_given_up_is_stopped_and_says_so(project):
    (project / "study.yaml").write_text("notebook: bowl.ipynb\nname: pruned\nmetric: val_accuracy\nsampler: grid\nlag: 1\npruner: {name: median, n_startup_trials: 2}\n"
                                        "vary: {x: [0.3, 0.35, 0.9, 1.0]}\nparameters: {epochs: 12, pause_s: 0.25}\n")
    text = ml_repo(project, "tune", "-f", "study.yaml")
    trials, records = read_trials(study_folder(project, "pruned")), read_runs(project, "pruned")
    assert [one.state for one in trials] == ["complete", "complete", "pruned", "pruned"] and "pruned at step 1" in text
    assert [(one["state"], (one["cause"] or {}).get("kind")) for one in records] == [("completed", None)] * 2 + [("interrupted", "pruned")] * 2
    assert records[3]["study"]["outcome"]["state"] == "pruned" and "median" in records[3]["cause"]["text"]
    assert max(metric["step"] for metric in records[3]["metrics"]) < 12 and max(trials[3].steps) == 1


def test_one_failed_trial_does_not_stop_the_others(project):
    text = tune(project, "--vary", "fails=False,True", "--vary", "x=0.1,0.2", *METRIC, "--sampler", "grid", "--workers", "2")
    assert Counter(one.state for one in read_trials(study_folder(project))) == {"complete": 2, "failed": 2}
    assert "as it was asked to" in text and "2 failed" in text
    again = tune(project, "--vary", "fails=False,True", "--vary", "x=0.1,0.2", *METRIC, "--sampler", "grid")
    assert "4 done" in again and len(read_runs(project)) == 4


@pytest.mark.slow
def test_time_and_cost_end_a_study_and_it_goes_on_later(project):
    words = ("--vary", "x=0:1", *METRIC, "--sampler", "random", "-p", "pause_s", "0.5")
    tune(project, *words, "--timeout", "4")
    timed = len(read_trials(study_folder(project)))
    assert 1 <= timed <= 8
    ml_repo(project, "study", "resume", "bowl", "--timeout", "1000", "--max-cost", "processor:0.1")
    assert timed <= len(read_trials(study_folder(project))) <= timed + 1


def test_a_batch_needs_no_metric(project):
    ml_repo(project, "run", "bowl.ipynb", "--grid", "x=0.1,0.2", "--seeds", "2", "--workers", "2", "--tag", "batch", "-p", "seed", "7")
    records = [read_record(folder) for folder in find_records(project / "experiments")]
    assert sorted((one["parameters"]["x"]["used"], one["parameters"]["seed"]["used"]) for one in records) == [(0.1, 7), (0.1, 8), (0.2, 7), (0.2, 8)]
    assert {(one["experiment"], one["state"], *one["tags"]) for one in records} == {("bowl", "completed", "batch")}
    assert "is a batch" in ml_repo(project, "study", "best", "bowl", code=2)


# ---------------------------------------------------------------- a trial on its own

@pytest.mark.slow
def test_any_trial_can_be_verified_alone(project):
    tune(project, *SPACE, *METRIC, "--trials", "3", "--threads", "1", "--workers", "2")
    record = read_runs(project)[1]
    assert record["environment"]["OMP_NUM_THREADS"] == "1" and record["machine"]["threads"] == 1
    assert {name: record["parameters"][name]["used"] for name in record["study"]["values"]} == record["study"]["values"]
    assert "identical" in ml_repo(project, "verify", record["id"])
    assert len(read_runs(project)) == 3  # what verifies is no trial


# ---------------------------------------------------------------- stopped and killed

TRIALS = 6
SLOW = (*SPACE, *METRIC, "--trials", str(TRIALS), "-p", "epochs", "4", "-p", "pause_s", "0.15")


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> list[dict]:
    """The values of the trials, of a study that nobody disturbs."""
    root = tmp_path_factory.mktemp("expected")
    write_notebook(root / "bowl.ipynb", CONTRACT, BOWL)
    make_repository(root, ASKING)
    tune(root, *SLOW)
    return read_values(root)


def check_whole(root: Path, expected: list[dict], name: str = "bowl") -> None:
    """No trial is lost, none is there twice, and the records are right."""
    lines = [line["number"] for line in read_lines(study_folder(root, name) / "trials.jsonl")]
    assert sorted(lines) == list(range(len(expected)))
    trials = read_trials(study_folder(root, name))
    assert [one.state for one in trials] == ["complete"] * len(expected)
    assert [one.values for one in trials] == expected
    for trial in trials:
        values = {"kind": "a", "x": 0.5, "units": 8} | trial.values
        assert trial.objectives == [1 - abs(values["x"] - 0.3) - 0.1 * (values["kind"] == "b") - abs(values["units"] - 20) / 1000]
    records = read_runs(root, name)
    assert {one["state"] for one in records} <= {"completed", "interrupted", "killed"}
    finished = Counter(one["study"]["trial"] for one in records if one["state"] == "completed")
    assert finished == {number: 1 for number in range(len(expected))}
    assert {one["id"] for one in records if one["state"] == "completed"} == {run for trial in trials for run in trial.runs}
    assert all(one["study"].get("outcome", {}).get("state", "unfinished") == "unfinished" for one in records if one["state"] != "completed")


def check_nobody_is_left(root: Path) -> None:
    await_true(lambda: not list_processes(root), f"no process is left: {list_processes(root)}")


def test_ctrl_c_leaves_a_study_that_goes_on(project, expected):
    driver = start(project, "tune", "bowl.ipynb", "--name", "bowl", *SLOW, "--workers", "2")
    await_true(lambda: len(read_lines(study_folder(project) / "runs.jsonl")) >= 3, "three runs")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(LIMIT_S) == 130
    assert len(read_trials(study_folder(project))) < TRIALS
    assert {one["state"] for one in read_runs(project)} <= {"completed", "interrupted"}
    assert not (list((study_folder(project) / ".drivers").iterdir()))
    check_nobody_is_left(project)
    ml_repo(project, "study", "resume", "bowl")
    check_whole(project, expected)


@pytest.mark.slow
def test_stop_reaches_the_driver(project, expected):
    driver = start(project, "tune", "bowl.ipynb", "--name", "bowl", *SLOW)
    await_true(lambda: len(read_lines(study_folder(project) / "runs.jsonl")) >= 2, "two runs")
    ml_repo(project, "study", "stop", "bowl")
    assert driver.wait(LIMIT_S) == 130
    ml_repo(project, "study", "resume", "bowl", "--workers", "3")
    check_whole(project, expected)


def find_victim(driver: subprocess.Popen, kind: str) -> psutil.Process | None:
    """A process of a kind: the driver, a worker, a kernel (warm or cold)."""
    with suppress(psutil.Error):
        if kind == "driver":
            return psutil.Process(driver.pid)
        family = psutil.Process(driver.pid).children(recursive=True)
        mark = {"worker": "ml_repo.study.workers", "kernel": "ipykernel_launcher", "warm": "ml_repo.warm.server"}[kind]
        found = [one for one in family if mark in " ".join(one.cmdline())]
        if kind == "kernel":
            warm = [one.pid for one in family if "ml_repo.warm.server" in " ".join(one.cmdline())]
            found += [one for one in family if one.ppid() in warm and os.getsid(one.pid) == one.pid and one.pid not in warm]
        return random.choice(found) if found else None


def disturb(root: Path, kind: str, seed: int, *words: str) -> bool:
    """Carry a study out, and kill something in the middle; go on where nobody does. Says whether something was killed."""
    chance = random.Random(seed)
    driver = start(root, "tune", "bowl.ipynb", "--name", "bowl", *SLOW, *words)
    if seed % 4:  # else perhaps before anything has begun
        await_true(lambda: read_lines(study_folder(root) / "runs.jsonl"), "a run")
    moment = time.monotonic() + chance.uniform(0.1, 2.5)
    while time.monotonic() < moment and driver.poll() is None:
        time.sleep(0.01)
    victim = find_victim(driver, kind)
    if victim is not None:
        with suppress(psutil.Error):
            victim.kill()
    code = driver.wait(LIMIT_S)
    if kind == "driver":
        ml_repo(root, "study", "resume", "bowl", *words) if study_folder(root).is_dir() and (study_folder(root) / "study.yaml").is_file() else tune(root, *SLOW, *words)
    else:
        assert code == 0, [file.read_text() for file in root.parent.glob(f"{root.name}.*.txt")]
    return victim is not None


@pytest.mark.parametrize("kind, seed", [("driver", 1), pytest.param("worker", 2, marks=pytest.mark.slow), pytest.param("kernel", 3, marks=pytest.mark.slow),
                                        *(pytest.param(("driver", "worker", "kernel", "warm", "driver")[number % 5], 100 + number, marks=pytest.mark.slow) for number in range(32))])
def test_no_trial_is_lost_and_none_is_there_twice_when_something_is_killed(project, expected, kind, seed):
    killed = disturb(project, kind, seed, "--workers", str(1 + seed % 2), *(("--cold",) if seed % 3 == 0 else ()))
    check_whole(project, expected)
    print(f"{kind} killed: {killed}; runs that did not end: {sum(one['state'] != 'completed' for one in read_runs(project))}")
    assert killed or seed > 100
    check_nobody_is_left(project)


@pytest.mark.slow
def test_a_trial_that_kills_its_kernel_each_time_is_given_up(project):
    write_notebook(project / "bowl.ipynb", CONTRACT, "import os\nif fails:\n    os.kill(os.getpid(), 9)", BOWL.replace("assert not fails", "#"))
    tune(project, "--vary", "fails=True,False", *METRIC, "--sampler", "grid")
    trials = read_trials(study_folder(project))
    assert [one.state for one in trials] == ["failed", "complete"] and "Given up after 2 attempts" in trials[0].text
    assert sorted(one["state"] for one in read_runs(project)) == ["completed", "killed", "killed"]


# ---------------------------------------------------------------- views that are lost

@pytest.mark.slow
def test_a_lost_or_damaged_storage_is_made_again(project, expected):
    tune(project, *SLOW)
    folder, runs = study_folder(project), len(read_runs(project))
    journal = (folder / ".journal").read_bytes()
    (folder / ".journal").write_bytes(journal[:len(journal) // 2] + b'{"op\n' + journal[len(journal) // 2:])
    assert "made again from the records" in tune(project, *SLOW)
    assert list(folder.glob(".journal.damaged-*"))
    (folder / ".journal").unlink()
    text = ml_repo(project, "study", "resume", "bowl", "--trials", str(TRIALS + 1))
    assert f"{TRIALS} trials were put in again" in text
    assert read_values(project)[:TRIALS] == expected and len(read_runs(project)) == runs + 1


@pytest.mark.parametrize("sampler, pruner", [pytest.param("cmaes", "asha", marks=pytest.mark.slow), pytest.param("tpe", "hyperband", marks=pytest.mark.slow)])
def test_a_lost_folder_is_made_again_from_the_records(project, sampler, pruner):
    words = (*SPACE, *METRIC, "--sampler", sampler, "--pruner", pruner, "-p", "epochs", "6")
    tune(project, *words, "--trials", "7", "--workers", "2", name="whole")
    tune(project, *words, "--trials", "5", "--workers", "2", name="lost")
    shutil.rmtree(study_folder(project, "lost"))
    text = tune(project, *words, "--trials", "7", name="lost")
    assert "5 trials were put in again" in text
    describe = lambda trial: (trial.number, trial.values, trial.state, trial.objectives, trial.steps)
    if pruner == "asha":
        assert [describe(one) for one in read_trials(study_folder(project, "lost"))] == [describe(one) for one in read_trials(study_folder(project, "whole"))]
    assert len(read_runs(project, "lost")) == 7


# ---------------------------------------------------------------- several drivers

def carry_out_together(roots: list[Path], *words: str) -> None:
    drivers = [start(root, "tune", "bowl.ipynb", "--name", "bowl", *SLOW, *words) for root in roots]
    for driver, root in zip(drivers, roots):
        assert driver.wait(LIMIT_S) == 0, [file.read_text() for file in root.parent.glob(f"{root.name}.*.txt")]


@pytest.mark.slow
def test_two_drivers_share_a_folder(project, expected):
    carry_out_together([project, project])
    trials = read_trials(study_folder(project))
    assert [one.values for one in trials] == expected
    assert Counter(one["study"]["trial"] for one in read_runs(project)) == {number: 1 for number in range(TRIALS)}


def copy_project(project: Path, place: Path) -> Path:
    shutil.copytree(project, place)
    return place


@pytest.mark.slow
def test_two_machines_share_a_sqlite_file(project, expected, tmp_path_factory):
    check_two_machines(project, expected, tmp_path_factory.mktemp("machines"), f"sqlite:///{tmp_path_factory.mktemp('database')}/studies.db")


def check_two_machines(project: Path, expected: list[dict], place: Path, address: str) -> None:
    """Two repositories, each with records of its own, do one study; in a second one, one of the drivers is killed."""
    machines = [copy_project(project, place / name) for name in ("first", "second")]
    carry_out_together(machines, "--storage", address)
    trials = [read_trials(study_folder(machine)) for machine in machines]
    assert [one.values for one in trials[0]] == [one.values for one in trials[1]] == expected
    runs = [run for machine in machines for run in read_runs(machine)]
    assert Counter(one["study"]["trial"] for one in runs) == {number: 1 for number in range(TRIALS)}
    assert all(len(read_runs(machine)) > 0 for machine in machines)

    words = ("tune", "bowl.ipynb", "--name", "again", *SLOW, "--storage", address)
    first, second = (start(machine, *words) for machine in machines)
    await_true(lambda: len(read_runs(machines[0], "again")) >= 2, "two runs")
    first.kill()
    assert first.wait(LIMIT_S) != 0 and second.wait(LIMIT_S) == 0
    trials = read_trials(study_folder(machines[1], "again"))
    assert [one.values for one in trials] == expected and [one.state for one in trials] == ["complete"] * TRIALS
    runs = [run for machine in machines for run in read_runs(machine, "again")]
    assert Counter(run for trial in trials for run in trial.runs).most_common(1)[0][1] == 1
    assert {run for trial in trials for run in trial.runs} <= {one["id"] for one in runs if one["state"] == "completed"}


@pytest.fixture(scope="module")
def postgresql(tmp_path_factory) -> str:
    """A real server, as another user since it refuses root; on a socket of its own, without a network."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders and os.getuid() == 0 and shutil.which("apt-get"):
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"], timeout=300, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not folders:
        pytest.skip("PostgreSQL is not installed, and could not be: apt-get install postgresql")
    binaries, place = folders[-1], Path("/tmp") / f"ml-postgres-{os.getpid()}"
    place.mkdir(mode=0o755)
    user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
    if user:
        shutil.chown(place, "postgres")
    call = lambda *words: subprocess.run([*user, *map(str, words)], check=True, cwd="/", timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    call(binaries / "initdb", "-D", place / "data", "-U", "studies", "--auth=trust", "-N")
    call(binaries / "pg_ctl", "-D", place / "data", "-w", "-l", place / "log.txt", "-o", f"-c listen_addresses='' -k {place} -F", "start")
    try:
        call(binaries / "createdb", "-h", place, "-U", "studies", "studies")
        yield f"postgresql://studies@/studies?host={place}"
    finally:
        call(binaries / "pg_ctl", "-D", place / "data", "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.slow
def test_two_machines_share_a_server(project, expected, tmp_path_factory, postgresql):
    check_two_machines(project, expected, tmp_path_factory.mktemp("machines"), postgresql)


# ---------------------------------------------------------------- looking

def test_listing_studies_imports_nothing_heavy(project):
    tune(project, "--vary", "x=0.1,0.2", *METRIC, "--sampler", "grid")
    program = ("import sys; sys.argv = ['ml-repo', 'study', {!r}, *{!r}]; from ml_repo.cli.app import main\ntry:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
               "print('heavy:', *({{'optuna', 'papermill', 'tensorflow', 'mlflow', 'pandas', 'nbformat', 'numpy'}} & set(sys.modules)))")
    for command, words in (("ls", []), ("show", ["bowl"]), ("best", ["bowl", "--json"])):
        text = run("python", "-c", program.format(command, words), cwd=project).stdout
        assert text.rstrip().endswith("heavy:"), text
    assert "bowl" in ml_repo(project, "study", "ls")
