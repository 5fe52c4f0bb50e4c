"""Notebooks that run on another machine over plain ssh: a real sshd with a bare home, in a network of its own."""
import json
import os
import pwd
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import distribution
from importlib.metadata import version as version_of
from pathlib import Path

import psutil
import pytest
from conftest import LIMIT_S, await_true, checked, run
from packaging.requirements import Requirement
from servers import Slurm, SshServer
from test_record import ROOT, commit, git, make_repository, write_notebook
from test_resume import END, LOOP, VALUES
from test_study import postgresql  # noqa: F401, a fixture

from ml_repo.bundle.wheels import read_lock_lines
from ml_repo.provenance.repository import normalize_name
from ml_repo.records.reader import read_record
from ml_repo.records.signature import is_made_here
from ml_repo.remote.address import parse_address
from ml_repo.remote.connection import Connection
from ml_repo.remote.host_setup import read_host_facts, send_commit

pytestmark = pytest.mark.own_kernel

ADDRESS = "ssh://gpu1/~/project"


@pytest.fixture
def server(tmp_path):
    started = SshServer(tmp_path / "server")
    yield started
    started.stop()


@pytest.fixture
def repository(tmp_path) -> Path:
    (tmp_path / "repository" / "nbs").mkdir(parents=True)
    write_notebook(tmp_path / "repository" / "nbs" / "loop.ipynb", VALUES, LOOP, END)
    return make_repository(tmp_path / "repository")


def submit(server, repository, *words, **variables) -> str:
    """Start a run on the server; returns its id."""
    return checked("ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, *words, cwd=repository, ML_REPO_SSH=server.ssh, **variables).split()[-1]


def read_files(folder: Path) -> dict[str, bytes]:
    """The files of a record, without those that only belong to one machine."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)}


def find_there(server, name: str) -> Path:
    """The folder of a record on the server."""
    return server.home / "project" / "experiments" / name


def test_a_run_there_is_followed_and_comes_home(server, repository):
    if os.geteuid() == 0:
        assert server.is_separate, "root may have a network of its own, so the server has no way out of its loopback"
    (repository / "nbs" / "extra.py").write_text("FACTOR = 2\n")  # not committed
    name = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "8", "--note", "from afar", SECRET_OF_MINE="do-not-send-this-1")
    folder = repository / "experiments" / name
    assert read_record(folder)["state"] == "running"
    listed = json.loads(checked("ml-repo", "ls", "--json", cwd=repository, ML_REPO_SSH=server.ssh))
    assert [row["run"] for row in listed] == [name]
    said = checked("ml-repo", "logs", "-f", name, cwd=repository, ML_REPO_SSH=server.ssh)
    assert "the end" in said and not list((repository / "experiments" / ".remote").iterdir())
    record, there = read_record(folder), find_there(server, name)
    assert (record["state"], record["note"], record["parameters"]["epochs"]["used"]) == ("completed", "from afar", 8)
    assert read_files(folder) == read_files(there)
    assert b"FACTOR" in (folder / "code.patch").read_bytes() and record["code"]["commit"]
    assert len(list(there.parent.glob("loop-*"))) == 1
    texts = [path.read_bytes() for path in server.home.rglob("*") if path.is_file() and not path.is_symlink()]
    assert not any(b"do-not-send-this-1" in text for text in texts)
    assert run("ml-repo", "wait", name, cwd=repository).returncode == 0  # the server is not asked any more
    assert is_made_here(record)  # its code is what this clone has sent
    (folder / "code.patch").write_text("another patch\n")
    assert not is_made_here(read_record(folder))


@pytest.mark.parametrize("limit, epochs", [pytest.param(2, 8, marks=pytest.mark.slow), pytest.param(11, 90, marks=pytest.mark.slow)])
def test_a_connection_that_is_cut_loses_nothing_and_starts_nothing_twice(server, repository, limit, epochs):
    generator, cuts = random.Random(7), 0
    words = ["ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, "nbs/loop.ipynb", "-p", "epochs", str(epochs), "-p", "pause_s", "0.5"]
    variables = {**os.environ, "ML_REPO_SSH": server.ssh}

    def cut_while(process: subprocess.Popen, most_s: float, limit: int) -> None:
        nonlocal cuts
        for _ in range(limit):
            await_true(lambda: server.connections() or process.poll() is not None, "it is connected")
            with suppress(subprocess.TimeoutExpired):
                process.wait(generator.uniform(0.05, most_s))
                return
            cuts += server.cut() > 0

    started = subprocess.Popen(words, cwd=repository, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    cut_while(started, 2, limit // 4)
    said, problem = started.communicate(timeout=LIMIT_S)
    if started.returncode:  # then it says so, and what to do
        assert "gpu1" in problem, problem
        said = said or submit(server, repository, *words[6:])
    following = subprocess.Popen(["ml-repo", "logs", "-f", "latest"], cwd=repository, env=variables, stdout=subprocess.PIPE, text=True)
    cut_while(following, 1.5, limit)
    printed = following.communicate(timeout=LIMIT_S)[0]
    assert cuts >= min(limit, 10), cuts
    assert printed.count("the end") == 1
    there = [folder for folder in (server.home / "project" / "experiments").glob("loop-*")]
    here = [folder for folder in (repository / "experiments").glob("loop-*")]
    assert sorted(folder.name for folder in here) == sorted(folder.name for folder in there)
    for folder in there:
        checked("ml-repo", "wait", folder.name, cwd=repository, ML_REPO_SSH=server.ssh)
        assert read_files(repository / "experiments" / folder.name) == read_files(folder)
        steps = [line["step"] for line in read_record(folder).logged if line.get("step")]
        assert steps == list(range(1, epochs + 1))


def test_a_run_there_outlives_the_laptop_and_is_stopped_from_it(server, repository):
    name = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "500")
    server.cut()  # the laptop is closed
    there = find_there(server, name)
    steps = len(read_record(there).logged)
    await_true(lambda: len(read_record(there).logged) > steps + 3, "the run goes on")
    said = checked("ml-repo", "stop", name, cwd=repository, ML_REPO_SSH=server.ssh)
    assert "interrupted" in said
    folder = repository / "experiments" / name
    assert read_record(folder)["state"] == "interrupted" and read_files(folder) == read_files(there)
    assert (folder / "checkpoints").is_dir()
    steps = len(read_record(there).logged)
    assert checked("ml-repo", "resume", name, "--there", cwd=repository, ML_REPO_SSH=server.ssh).strip() == name
    await_true(lambda: read_record(there)["state"] == "running" and len(read_record(there).logged) > 2, "it goes on there")
    checked("ml-repo", "stop", name, cwd=repository, ML_REPO_SSH=server.ssh)
    logged = [line["step"] for line in read_record(folder).logged if line.get("step")]
    assert logged == list(range(1, len(logged) + 1)) and len(logged) >= steps - 1 and len(read_record(folder)["attempts"]) == 1


@pytest.mark.slow
def test_a_server_that_is_gone_leaves_what_was_seen(server, repository):
    name = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "500")
    server.cut()
    os.kill(server.process.pid, signal.SIGSTOP)  # it is there and does not answer
    try:
        listed = run("ml-repo", "ls", cwd=repository, ML_REPO_SSH=f"{server.ssh} -o ConnectTimeout=1")
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
    assert listed.returncode == 0 and name[-4:] in listed.stdout
    checked("ml-repo", "stop", name, cwd=repository, ML_REPO_SSH=server.ssh)


def test_host_keys_are_checked_as_ssh_does(server, repository):
    (server.folder / "known_hosts").write_text("")
    refused = run("ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, "nbs/loop.ipynb", cwd=repository, ML_REPO_SSH=server.ssh)
    assert refused.returncode == 2 and "Log in by hand" in refused.stdout and not list((repository / "experiments").glob("loop-*"))
    assert (server.folder / "known_hosts").read_text() == ""
    (server.folder / "authorized").write_text("")
    (server.folder / "known_hosts").write_text(f"gpu1 {' '.join((server.folder / 'host.pub').read_text().split()[:2])}\n")
    refused = run("ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, "nbs/loop.ipynb", cwd=repository, ML_REPO_SSH=server.ssh)
    assert refused.returncode == 2 and "ssh-copy-id" in refused.stdout


def test_a_commit_reaches_a_clone_that_a_shallow_one_was_pushed_to(server, repository, tmp_path, monkeypatch):
    monkeypatch.setenv("ML_REPO_SSH", server.ssh)
    older = git(repository, "rev-parse", "HEAD")
    commit(repository)
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", "shallow")
    connection = Connection(parse_address("ssh://gpu1/~/100%25 of it"))
    folder = read_host_facts(connection).folder
    assert send_commit(connection, folder, tmp_path / "shallow", git(repository, "rev-parse", "HEAD"))
    assert send_commit(connection, folder, repository, older) and not send_commit(connection, folder, repository, older)
    assert "pause_s" in git(Path(folder), "show", f"{older}:nbs/loop.ipynb")


@pytest.mark.skipif(Path(pwd.getpwuid(os.getuid()).pw_shell).name != "bash", reason="only bash reads ~/.bashrc for a command of ssh")
def test_a_login_that_prints_is_named(server, repository):
    (server.home / ".bashrc").write_text("echo all is present, loading complete\n")
    refused = run("ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, "nbs/loop.ipynb", cwd=repository, ML_REPO_SSH=server.ssh)
    assert refused.returncode == 2 and "prints 'all is present" in refused.stdout and not list((server.home).glob("project"))


READING = "import churn\nprint(churn.FACTOR, open('../data/x.csv').read())"


@pytest.mark.slow
def test_data_and_own_packages_go_along_when_asked(server, repository):
    (repository / "src" / "churn").mkdir(parents=True)
    (repository / "src" / "churn" / "__init__.py").write_text("FACTOR = 21\n")
    (repository / ".gitignore").write_text("/data/\n/experiments/\n/nbs/ignored.ipynb\n__pycache__/\n")
    (repository / "data").mkdir()
    (repository / "data" / "x.csv").write_text("1,2\n")
    write_notebook(repository / "nbs" / "read.ipynb", "lr: float = 0.1", READING)
    write_notebook(repository / "nbs" / "ignored.ipynb", "lr: float = 0.1", "print('ignored by git', lr)")
    commit(repository)
    own = {"PYTHONPATH": str(repository / "src")}
    words = ["ml-repo", "run", "--on", ADDRESS, "--python", sys.executable, "nbs/read.ipynb", "--cwd", "nbs"]
    first = run(*words, cwd=repository, ML_REPO_SSH=server.ssh, **own)
    assert "--send data/x.csv" in first.stdout, first.stdout
    assert run("ml-repo", "wait", "latest", cwd=repository, ML_REPO_SSH=server.ssh).returncode == 1
    second = checked(*words, "--send", "data", cwd=repository, ML_REPO_SSH=server.ssh, **own).split()[-1]
    checked("ml-repo", "wait", second, cwd=repository, ML_REPO_SSH=server.ssh)
    record = read_record(repository / "experiments" / second)
    assert "21 1,2" in (record.folder / "log.txt").read_text()
    assert [file["path"] for file in record["inputs"]["files"]] == ["data/x.csv"] and not record["code"].get("is_dirty")
    third = submit(server, repository, "nbs/ignored.ipynb")
    checked("ml-repo", "wait", third, cwd=repository, ML_REPO_SSH=server.ssh)
    assert "ignored by git 0.1" in (repository / "experiments" / third / "log.txt").read_text()


@pytest.mark.slow
def test_submodules_and_those_in_them_go_along(server, tmp_path):
    """Also where they are a part of the commit only, and a second time with a later commit of the inner one."""
    allowed = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.file.allow", "GIT_CONFIG_VALUE_0": "always"}
    for name, inner in (("inner", None), ("outer", "inner"), ("repository", "outer")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}_value.py").write_text("VALUE = 1\n")
        (folder / ".gitattributes").write_text("inner_value.py export-ignore\n")
        write_notebook(folder / "read.ipynb", "lr: float = 0.1", "import sys\nsys.path += ['outer', 'outer/inner']\nimport inner_value, outer_value\n"
                                                                 "print('values', outer_value.VALUE, inner_value.VALUE)")
        make_repository(folder)
        if inner:
            checked("git", "submodule", "--quiet", "add", tmp_path / inner, inner, cwd=folder, **allowed)
            checked("git", "submodule", "--quiet", "update", "--init", "--recursive", cwd=folder, **allowed)
            commit(folder)
    repository = tmp_path / "repository"
    name = submit(server, repository, "read.ipynb")
    checked("ml-repo", "wait", name, cwd=repository, ML_REPO_SSH=server.ssh)
    assert "values 1 1" in (repository / "experiments" / name / "log.txt").read_text()
    assert "identical" in checked("ml-repo", "verify", name, cwd=repository)
    (repository / "outer" / "outer_value.py").write_text("VALUE = 2\n")
    git(repository / "outer", "-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "--quiet", "--all", "--message", "Double it")
    git(repository, "add", "outer")  # not committed
    name = submit(server, repository, "read.ipynb")
    checked("ml-repo", "wait", name, cwd=repository, ML_REPO_SSH=server.ssh)
    assert "values 2 1" in (repository / "experiments" / name / "log.txt").read_text()
    assert "identical" in checked("ml-repo", "verify", name, cwd=repository)


def test_wrong_calls_say_what_to_do(server, repository):
    for words, said in ({"--on gpu1:x nbs/loop.ipynb": "Write it as ssh://", "nbs/loop.ipynb --send nbs": "Add --on",
                         f"--on {ADDRESS} nbs/loop.ipynb --grid seed=1,2": "--grid cannot go with --on",
                         f"--on {ADDRESS} nbs/loop.ipynb -p epohs 3": "epochs", f"--on {ADDRESS} nbs/loop.ipynb": "docker/requirements.txt",
                         f"--on {ADDRESS} nbs/loop.ipynb --env NO_SUCH_NAME": "export NO_SUCH_NAME",
                         f"--on {ADDRESS} nbs/loop.ipynb --python /no/python": "/no/python"}).items():
        refused = run("ml-repo", "run", *words.split(), cwd=repository, ML_REPO_SSH=server.ssh)
        assert refused.returncode == 2 and said in refused.stdout, (words, refused.stdout)
    assert not list((repository / "experiments").glob("*/record.json"))


@pytest.mark.slow
def test_a_bare_machine_gets_its_environment_from_the_lock(tmp_path, repository):
    """Without a way out of its network it takes the packages from a cache of uv; a machine with one asks the index."""
    uv = Path(sys.executable).with_name("uv")
    cache = checked(uv, "cache", "dir").strip()
    (repository / "docker").mkdir()
    (repository / "docker" / "requirements.txt").write_text((ROOT / "docker" / "requirements.txt").read_text())
    commit(repository)
    server = SshServer(tmp_path / "server", UV_CACHE_DIR=cache, UV_OFFLINE="1")
    try:
        made = checked("ml-repo", "run", "--on", ADDRESS, "nbs/loop.ipynb", cwd=repository, ML_REPO_SSH=server.ssh)
        again = checked("ml-repo", "run", "--on", ADDRESS, "nbs/loop.ipynb", "-p", "seed", "2", cwd=repository, ML_REPO_SSH=server.ssh)
        for name in (made.split()[-1], again.split()[-1]):
            assert run("ml-repo", "wait", name, cwd=repository, ML_REPO_SSH=server.ssh).returncode == 0
            assert "identical" in checked("ml-repo", "verify", name, cwd=repository)
        record = read_record(repository / "experiments" / made.split()[-1])
        assert record["packages"]["lock"] and record["packages"]["matches_lock"]
        assert len(list((server.home / ".cache" / "ml_repo" / "environments").iterdir())) == 1
    finally:
        server.stop()


@pytest.mark.slow
def test_a_machine_without_an_index_gets_wheels_from_here(tmp_path, repository):
    """Neither an index nor a cache of uv is there: the wheels are fetched here by hash, and a copy that is cut goes on."""
    versions, left = {"numpy": version_of("numpy")}, ["ml_repo"]
    while left:  # what this library needs, without the large packages of the example
        for need in map(Requirement, distribution(left.pop()).requires or ()):
            name = normalize_name(need.name)
            if name not in {*versions, "tensorflow", "mlflow", "jupyterlab", "nbdev", "keras-tuner"} and (
                    need.marker is None or need.marker.evaluate({"extra": ""})):
                versions[name] = version_of(name)
                left.append(name)
    lines = read_lock_lines((ROOT / "docker" / "requirements.txt").read_text(), versions)
    (repository / "docker").mkdir()
    (repository / "docker" / "requirements.txt").write_text("".join(f"{line}\n" for line in lines.values()))
    commit(repository)
    server = SshServer(tmp_path / "server", UV_CACHE_DIR=str(tmp_path / "empty"))
    words = ["ml-repo", "run", "--on", ADDRESS, "nbs/loop.ipynb"]
    if not server.is_separate:
        pytest.skip("NOT TESTED: the server cannot have a network of its own here, so it reaches the index.")
    try:
        started = subprocess.Popen(words, cwd=repository, env={**os.environ, "ML_REPO_SSH": server.ssh}, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        await_true(lambda: len(list(server.home.glob(".cache/ml_repo/environments/*/wheels/*.whl"))) > 4 or started.poll() is not None,
                   "some wheels are there", limit_s=5 * LIMIT_S)
        while started.poll() is None:
            server.cut()
            time.sleep(0.01)
        said = started.communicate()[0]
        assert started.returncode == 2 and "cannot be reached" in said and not list((repository / "experiments").glob("loop-*")), said
        said = checked(*words, cwd=repository, ML_REPO_SSH=server.ssh)
        name = said.split()[-1]
        assert run("ml-repo", "wait", name, cwd=repository, ML_REPO_SSH=server.ssh).returncode == 0
        record = read_record(repository / "experiments" / name)
        assert record["packages"]["matches_lock"] and not list(server.home.glob(".cache/ml_repo/environments/*/wheels"))
        assert "identical" in checked("ml-repo", "verify", name, cwd=repository)
    finally:
        server.stop()


@pytest.mark.slow
def test_runs_there_take_turns_and_follow_each_other(server, repository):
    first = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "12")
    second = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "2", "--after", first)
    third = submit(server, repository, "nbs/loop.ipynb", "-p", "epochs", "2", "--share", "0")
    assert run("ml-repo", "wait", third, second, first, cwd=repository, ML_REPO_SSH=server.ssh).returncode == 0
    records = {name: read_record(repository / "experiments" / name) for name in (first, second, third)}
    assert {record["state"] for record in records.values()} == {"completed"}
    assert records[first]["ended"] < records[second]["ended"]


@pytest.mark.slow
def test_slurm_is_the_queue_of_a_cluster(tmp_path, repository):
    """A real controller with one node: runs follow each other, are stopped, and go on after SLURM has taken their node."""
    slurm = Slurm(tmp_path / "slurm")
    server = SshServer(tmp_path / "server", is_separate=False, **slurm.variables)
    words = ["ml-repo", "run", "--on", "slurm://gpu1/~/project", "--python", sys.executable, "nbs/loop.ipynb"]
    try:
        first = checked(*words, "-p", "epochs", "10", cwd=repository, ML_REPO_SSH=server.ssh).split()[-1]
        second = checked(*words, "-p", "epochs", "400", "--after", first, "--on-kill", "resume", "--sbatch", "--comment=mine", cwd=repository,
                         ML_REPO_SSH=server.ssh).split()[-1]
        third = checked(*words, cwd=repository, ML_REPO_SSH=server.ssh).split()[-1]
        assert read_record(repository / "experiments" / second)["queued"]
        assert run("ml-repo", "wait", first, cwd=repository, ML_REPO_SSH=server.ssh).returncode == 0
        job = (find_there(server, second) / ".slurm").read_text().strip()
        await_true(lambda: len(read_record(find_there(server, second)).logged) > 5, "the second run goes on")
        assert "interrupted" in checked("ml-repo", "stop", third, cwd=repository, ML_REPO_SSH=server.ssh)
        subprocess.run(["scontrol", "requeue", job], check=True, env={**os.environ, **slurm.variables})  # as when somebody else's job needs the node
        await_true(lambda: read_record(find_there(server, second)).get("attempts"), "the run goes on in a second attempt", limit_s=3 * LIMIT_S)
        assert "interrupted" in checked("ml-repo", "stop", second, cwd=repository, ML_REPO_SSH=server.ssh)
        folder = repository / "experiments" / second
        steps = [line["step"] for line in read_record(folder).logged if line.get("step")]
        assert steps == list(range(1, len(steps) + 1)) and len(steps) > 5
        assert read_files(folder) == read_files(find_there(server, second))
    finally:
        server.stop()
        slurm.stop()


@pytest.mark.slow
def test_machines_carry_out_one_study(server, repository, postgresql):  # noqa: F811
    """Two clones on one server stand for two machines; they share nothing but the database."""
    words = ["ml-repo", "tune", "nbs/loop.ipynb", "--vary", "seed=0:1000", "-p", "epochs", "3", "--metric", "train_loss:lower", "--trials", "8",
             "--storage", postgresql, "--python", sys.executable]
    refused = run(*words[:-4], "--on", ADDRESS, cwd=repository, ML_REPO_SSH=server.ssh)
    assert refused.returncode == 2 and "--storage postgresql://" in " ".join(refused.stdout.split())
    said = checked(*words, "--on", "ssh://gpu1/~/first", "--on", "ssh://gpu1/~/second", cwd=repository, ML_REPO_SSH=server.ssh)
    assert said.count("takes part") == 2

    def ended() -> list[dict]:
        return [json.loads(file.read_text()) for file in server.home.glob("*/experiments/loop-*/record.json")]

    await_true(lambda: sum(record["state"] == "completed" for record in ended()) == 8, "eight trials have ended", limit_s=4 * LIMIT_S)
    by_machine = [len(list((server.home / name / "experiments").glob("loop-*"))) for name in ("first", "second")]
    assert sum(by_machine) == 8 and min(by_machine) >= 1, by_machine
    assert len({record["parameters"]["seed"]["used"] for record in ended()}) == 8
    assert not any("postgres" in " ".join(process.info["cmdline"] or []) and "tune" in (process.info["cmdline"] or [])
                   for process in psutil.process_iter(["cmdline"]))
