"""MLflow shows what the records say: live, again after any loss, and without a training ever noticing."""
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from conftest import BIN, await_true, run
from test_record import make_repository, write_notebook

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "ERROR"}
from ml_repo.execution.mlflow_process import find_mirror, name_embedded
from ml_repo.integrations.mlflow_writer import Store
from ml_repo.records.reader import find_records, read_record

pytestmark = pytest.mark.own_kernel


LIVE = "[DEFAULT]\npapermill_engine = ml_repo\nmlflow_mirror = live\n"
QUIET = "[DEFAULT]\npapermill_engine = ml_repo\n"
CONTRACT = 'epochs: int = 3  # lines, at least 1\npause_s: float = 0.0  # between two lines, seconds\nlr: float = 0.1  # step size\nfails: bool = False  # at the end\nlong: str = ""  # any text\n'
LINES = """
import time
from ml_repo.tracking.run import start_run, note_facts
run = start_run()
note_facts("data", digits={"sha256": "ab" * 32})
run.artifact_path("loss.png").write_bytes(b"no real picture")
for epoch in range(1, epochs + 1):
    run.log(step=epoch, split="validation", direction="higher", accuracy=1 - 1 / (epoch + 1))
    run.log(step=epoch, split="train", loss=float("nan") if epoch == 2 else float("inf") if epoch == 3 else 1 / epoch)
    time.sleep(pause_s)
assert not fails, "as it was asked to"
"""


@pytest.fixture(autouse=True)
def no_other_mlflow(monkeypatch) -> None:
    """What this machine says of MLflow does not count here."""
    for name in ("MLFLOW_TRACKING_URI", "ML_REPO_MIRROR", "MLFLOW_REGISTRY_URI"):
        monkeypatch.delenv(name, raising=False)


def make_project(folder: Path, settings: str = LIVE) -> Path:
    root = make_repository(folder, settings)
    write_notebook(root / "count.ipynb", CONTRACT, LINES)
    return root


@pytest.fixture
def project(tmp_path) -> Iterator[Path]:
    """A repository that shows its runs live; its mirror is stopped at the end."""
    root = make_project(tmp_path / "project")
    yield root
    stop_mirror(root / "experiments")


def list_mirrors(home: Path) -> list[int]:
    """The processes that mirror a folder of records."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = file.read_bytes().split(b"\0")
            if b"from ml_repo.integrations.mlflow_sync import main; main()" in words and str(home).encode() in words:
                found.append(int(file.parent.name))
    return found


def stop_mirror(home: Path) -> None:
    for pid in list_mirrors(home):
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def ml_repo(root: Path, *arguments: str, code: int = 0, **environment: str) -> str:
    result = run("ml-repo", *arguments, cwd=root, **environment)
    assert result.returncode == code, result.stdout
    return result.stdout


def count(root: Path, *arguments: str, code: int = 0, **environment: str) -> Path:
    """Run the notebook; returns the folder of its record."""
    ml_repo(root, "run", "count.ipynb", "--quiet", *arguments, code=code, **environment)
    return max(find_records(root / "experiments"), key=lambda folder: read_record(folder)["started"])


def open_client(uri: str):
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


def list_runs(client) -> dict:
    """All runs of MLflow, by the id of their record."""
    from mlflow.exceptions import MlflowException

    try:
        experiments = [one.experiment_id for one in client.search_experiments()]
        return {one.data.tags["ml_repo.run"]: one for one in client.search_runs(experiments, max_results=1000) if "ml_repo.run" in one.data.tags}
    except MlflowException:
        return {}


def check(client, folder: Path) -> None:
    """MLflow's own client finds of a record what the record says."""
    record, seen = read_record(folder), list_runs(client)[folder.name]
    assert seen.info.status == {"completed": "FINISHED", "failed": "FAILED"}.get(record["state"], "KILLED")
    assert seen.data.tags["ml_repo.state"] == record["state"] and seen.data.tags["mlflow.source.git.commit"] == record["code"]["commit"]
    assert seen.data.params["lr"] == str(record["parameters"]["lr"].get("used", 0.1))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for key, split, name in (("val_accuracy", "validation", "accuracy"), ("train_loss", "train", "loss")):
        wanted = [(line["step"], float(line["values"][name])) for line in lines if line.get("split") == split]
        got = sorted((point.step, point.value) for point in client.get_metric_history(seen.info.run_id, key))
        assert len(got) == len(wanted)
        for (step, value), (other, read) in zip(wanted, got):
            assert step == other and (read == value or (math.isnan(read) and math.isnan(value)) or (math.isinf(value) and read > 1.7e308)), (key, step, value, read)
    assert {"record.json", "count.ipynb", "metrics.jsonl"} <= {file.path for file in client.list_artifacts(seen.info.run_id)}
    assert Path(client.download_artifacts(seen.info.run_id, "record.json")).read_bytes() == (folder / "record.json").read_bytes()
    if record["state"] == "completed":
        assert client.list_artifacts(seen.info.run_id, "artifacts")[0].path == "artifacts/loss.png"
        assert seen.inputs.dataset_inputs[0].dataset.name == "digits"
        assert "system/run_memory_gb" in seen.data.metrics


def is_unharmed(folder: Path) -> bool:
    """Whether a run went as it would have without MLflow."""
    record = read_record(folder)
    return record["state"] == "completed" and record["warnings"] == ["The metric loss (train) was not finite 2 time(s)."]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextmanager
def serve(folder: Path, port: int) -> Iterator[subprocess.Popen]:
    """MLflow's own server, on loopback."""
    folder.mkdir(exist_ok=True)
    command = [BIN / "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.sqlite",
               "--artifacts-destination", str(folder / "files")]
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with open(folder / "server.log", "ab") as words:
        process = subprocess.Popen(command, cwd=folder, stdout=words, stderr=words, env=environment, start_new_session=True)
    try:
        await_true(lambda: answers(port), f"mlflow server: {(folder / 'server.log').read_text()[-2000:]}")
        yield process
    finally:
        end(process)


def answers(port: int) -> bool:
    import urllib.request

    with suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
    return False


def end(process: subprocess.Popen) -> None:
    """End a server with its workers, as a crash of the machine would."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_run_is_in_mlflow_while_it_is_going_and_as_it_ended(project):
    home = project / "experiments"
    folder = home / ml_repo(project, "run", "count.ipynb", "--detach", "-p", "epochs", "400", "-p", "pause_s", "0.5", "-p", "lr", "0.01").strip()
    client = await_true(lambda: (home / ".mlflow" / "mlflow.sqlite").exists() and open_client(name_embedded(home)), "the store")
    seen = await_true(lambda: list_runs(client).get(folder.name), "the run")
    assert seen.info.status == "RUNNING" and seen.data.params["lr"] == "0.01" and seen.data.tags["ml_repo.state"] == "running"

    def steps() -> int:
        return len(client.get_metric_history(seen.info.run_id, "val_accuracy"))

    first = await_true(steps, "a first point")
    await_true(lambda: steps() > first, "the curve to grow")
    assert read_record(folder)["state"] == "running"
    assert "artifacts" in [file.path for file in client.list_artifacts(seen.info.run_id)], "the figure is there while the run goes on"

    ml_repo(project, "stop", folder.name)
    await_true(lambda: list_runs(client)[folder.name].info.status == "KILLED", "the end")
    assert read_record(folder)["state"] == "interrupted"
    await_true(lambda: "ml_repo.mirrored" in list_runs(client)[folder.name].data.tags, "the digest")
    check(client, folder)
    assert "count.html" in [file.path for file in client.list_artifacts(seen.info.run_id)], "the notebook as a page"
    assert not (home / ".mlflow" / "mirror.log").read_text()
    assert "experiments/.mlflow" not in run("git", "status", "--porcelain", "--untracked-files=all", cwd=project).stdout


@pytest.mark.slow
def test_syncing_twice_changes_nothing_and_a_lost_store_is_rebuilt(tmp_path):
    project = make_project(tmp_path / "project", QUIET)
    good, bad = count(project, "--note", "a try", "--tag", "first"), count(project, "-p", "fails", "True", "-p", "long", "é" * 9000, code=1)
    home, uri = project / "experiments", name_embedded(project / "experiments")
    assert not (home / ".mlflow").exists(), "nobody has asked for it"

    assert "2" in next(line for line in ml_repo(project, "sync", "mlflow").splitlines() if "brought up to date" in line)
    client = Store(uri, home).client
    for folder in (good, bad):
        check(client, folder)
    runs = list_runs(client)
    assert runs[good.name].data.tags["mlflow.note.content"] == "a try" and runs[good.name].data.tags["ml_repo.tags"] == "first"
    assert len(runs[bad.name].data.params["long"]) == 6000 and "9,000 characters" in runs[bad.name].data.params["long"]
    assert "as it was asked to" in runs[bad.name].data.tags["ml_repo.cause"]
    before = dump(home)

    ml_repo(project, "sync", "mlflow")
    assert dump(home) == before, "a second sync wrote something"

    ml_repo(project, "note", good.name, "another")
    ml_repo(project, "sync", "mlflow", "state = completed")
    assert list_runs(client)[good.name].data.tags["mlflow.note.content"] == "another"

    shutil.rmtree(home / ".mlflow")
    ml_repo(project, "sync", "mlflow")
    client = Store(uri, home).client
    for folder in (good, bad):
        check(client, folder)


def dump(home: Path) -> list[tuple]:
    """All that MLflow's database holds, except for its own bookkeeping."""
    import sqlite3

    with sqlite3.connect(home / ".mlflow" / "mlflow.sqlite") as base:
        return [row for table in ("runs", "params", "tags", "metrics", "latest_metrics", "inputs", "datasets", "experiments") for row in sorted(base.execute(f"select * from {table}"), key=repr)]


@pytest.mark.slow
def test_a_killed_run_does_not_stay_running(project):
    home = project / "experiments"
    folder = home / ml_repo(project, "run", "count.ipynb", "--detach", "-p", "epochs", "400", "-p", "pause_s", "0.5").strip()
    client = await_true(lambda: (home / ".mlflow" / "mlflow.sqlite").exists() and open_client(name_embedded(home)), "the store")
    await_true(lambda: list_runs(client).get(folder.name), "the run")
    os.kill(read_record(folder)["host"]["pid"], signal.SIGKILL)
    await_true(lambda: list_runs(client)[folder.name].info.status == "KILLED", "the end")
    assert read_record(folder)["cause"]["kind"] == "supervisor gone"


@pytest.mark.slow
def test_the_store_is_deleted_in_the_middle_of_a_run(project):
    home = project / "experiments"
    folder = home / ml_repo(project, "run", "count.ipynb", "--detach", "-p", "epochs", "30", "-p", "pause_s", "0.4").strip()
    await_true(lambda: (home / ".mlflow" / "mlflow.sqlite").exists(), "the store")
    shutil.rmtree(home / ".mlflow", ignore_errors=True)  # it is being written
    ml_repo(project, "wait", folder.name)
    assert is_unharmed(folder)
    ml_repo(project, "sync", "mlflow")
    check(Store(name_embedded(home), home).client, folder)


@pytest.mark.slow
def test_twenty_runs_at_once_have_one_mirror(project):
    home = project / "experiments"
    folders = [home / ml_repo(project, "run", "count.ipynb", "--detach", "-p", "epochs", "20", "-p", "pause_s", "0.2", "-p", "lr", str(number)).strip() for number in range(20)]
    most = 0
    while any(read_record(folder)["state"] == "running" for folder in folders):
        most = max(most, len(list_mirrors(home)))
        time.sleep(0.5)
    assert most == 1
    client = open_client(name_embedded(home))
    await_true(lambda: sum("ml_repo.mirrored" in one.data.tags for one in list_runs(client).values()) == 20, "all runs")
    for folder in folders:
        assert read_record(folder)["state"] == "completed"
        check(client, folder)
    assert "locked" not in (home / ".mlflow" / "mirror.log").read_text()


@pytest.mark.slow
def test_a_sync_and_a_mirror_at_the_same_time_make_one_run(tmp_path):
    project = make_project(tmp_path / "project", QUIET)
    for number in range(3):
        count(project, "-p", "lr", str(number))
    home = project / "experiments"
    programs = [[BIN / "ml-repo", "sync", "mlflow"]] * 3
    processes = [subprocess.Popen(program, cwd=project, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for program in programs]
    printed = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], printed
    client = Store(name_embedded(home), home).client
    experiments = [one.experiment_id for one in client.search_experiments()]
    assert len(client.search_runs(experiments)) == 3


@pytest.mark.slow
def test_a_server_has_it_live_and_its_crash_costs_nothing(tmp_path):
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    project = make_project(tmp_path / "project", LIVE + f"tracking_uri = {uri}\n")
    home = project / "experiments"
    try:
        with serve(tmp_path / "server", port) as server:
            client = open_client(uri)
            first = count(project)
            await_true(lambda: "ml_repo.mirrored" in getattr(list_runs(client).get(first.name), "data", type("", (), {"tags": {}})).tags, "the first run")
            check(client, first)
            folder = home / ml_repo(project, "run", "count.ipynb", "--detach", "-p", "epochs", "30", "-p", "pause_s", "0.3").strip()
            await_true(lambda: list_runs(client).get(folder.name), "the second run")
            end(server)
        ml_repo(project, "wait", folder.name)
        assert is_unharmed(folder)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 60
        ml_repo(project, "sync", "mlflow", code=2)
        with serve(tmp_path / "server", port):
            ml_repo(project, "sync", "mlflow")
            check(open_client(uri), folder)
    finally:
        stop_mirror(home)


@pytest.mark.slow
def test_a_record_comes_back_from_a_server_as_it_was(tmp_path):
    project, other = make_project(tmp_path / "project", QUIET), make_project(tmp_path / "other", QUIET)
    folders = [count(project), count(project, "-p", "fails", "True", code=1)]
    port = free_port()
    with serve(tmp_path / "server", port):
        uri = f"http://127.0.0.1:{port}"
        ml_repo(project, "sync", "mlflow", uri)
        ml_repo(other, "import", "mlflow", uri)
        again = ml_repo(other, "import", "mlflow", uri)
    assert "2 there already" in again
    for folder in folders:
        copy = other / "experiments" / folder.name
        for name in ("record.json", "metrics.jsonl", "usage.jsonl", "count.ipynb", "log.txt"):
            assert not (folder / name).exists() or (copy / name).read_bytes() == (folder / name).read_bytes(), name
        assert read_record(copy) == read_record(folder)
    assert folders[0].name in ml_repo(other, "ls")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk of its own can only be mounted by root")
def test_a_full_disk_for_the_store(tmp_path):
    project = make_project(tmp_path / "project")
    place = project / "experiments" / ".mlflow"
    place.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(place)], capture_output=True).returncode:
        pytest.skip("root, but nothing can be mounted here: a full disk was not tried")
    try:
        folder = count(project, "-p", "epochs", "20", "-p", "pause_s", "0.3")
        assert is_unharmed(folder)
        await_true(lambda: "mirror.log" in os.listdir(place) and "disk" in (place / "mirror.log").read_text(), "a word on the disk")
    finally:
        stop_mirror(project / "experiments")
        time.sleep(0.5)
        subprocess.run(["umount", "--lazy", str(place)], check=True)
    ml_repo(project, "sync", "mlflow")
    check(Store(name_embedded(project / "experiments"), project / "experiments").client, folder)


def test_a_server_that_hangs_does_not_hold_a_run_up(tmp_path):
    with socket.socket() as silent:  # takes connections, and never says a word
        silent.bind(("127.0.0.1", 0))
        silent.listen(100)
        project = make_project(tmp_path / "project", LIVE + f"tracking_uri = http://127.0.0.1:{silent.getsockname()[1]}\n")
        try:
            folder = count(project)  # it comes back, though nobody will ever answer
            assert read_record(folder)["state"] == "completed"
            await_true(lambda: find_mirror(project / "experiments"), "a mirror that still waits for an answer")
        finally:
            stop_mirror(project / "experiments")


@pytest.mark.slow
def test_the_mirror_ends_itself(tmp_path, monkeypatch):
    project = make_project(tmp_path / "project", QUIET)
    folder = count(project)
    program = f"from ml_repo.integrations.mlflow_sync import mirror_live; mirror_live({str(project)!r}, {str(folder.parent)!r}, linger_s=1)"
    assert run(sys.executable, "-c", program, cwd=project).returncode == 0
    assert not find_mirror(folder.parent)
    check(open_client(name_embedded(folder.parent)), folder)


@pytest.mark.slow
def test_a_model_is_registered_when_its_run_has_ended(tmp_path):
    project = make_repository(tmp_path / "project", LIVE + "mlflow_models = live\n")
    write_notebook(project / "fit.ipynb", "units: int = 2  # at least 1\n", """
import keras
from ml_repo.tracking.run import start_run
run = start_run()
keras.Sequential([keras.Input((3,)), keras.layers.Dense(units)]).save(run.artifact_path("model.keras"))
""")
    home = project / "experiments"
    try:
        ml_repo(project, "run", "fit.ipynb", "--quiet", CUDA_VISIBLE_DEVICES="-1")
        folder = find_records(home)[0]
        client = await_true(lambda: (home / ".mlflow" / "mlflow.sqlite").exists() and open_client(name_embedded(home)), "the store")
        await_true(lambda: "ml_repo.model" in getattr(list_runs(client).get(folder.name), "data", type("", (), {"tags": {}})).tags, f"the model: {(home / '.mlflow' / 'mirror.log').read_text()}")
        experiment = read_record(folder)["experiment"]
        version = client.get_model_version(experiment, "1")
        assert version.run_id == list_runs(client)[folder.name].info.run_id
        program = f"import mlflow, numpy; mlflow.set_tracking_uri({name_embedded(home)!r}); model = mlflow.tensorflow.load_model('models:/{experiment}/1'); print(model.predict(numpy.ones((4, 3)), verbose=0).shape)"
        assert "(4, 2)" in run(sys.executable, "-c", program, cwd=project, CUDA_VISIBLE_DEVICES="-1").stdout
        await_true(lambda: not list_mirrors(home), "the end of the mirror")
    finally:
        stop_mirror(home)


def test_a_training_does_not_import_mlflow(tmp_path):
    project = make_repository(tmp_path / "project", LIVE)
    write_notebook(project / "look.ipynb", "lr: float = 0.1  # step size\n", "from ml_repo.tracking.run import start_run\nimport sys\nrun = start_run()\nassert 'mlflow' not in sys.modules")
    try:
        ml_repo(project, "run", "look.ipynb", "--quiet")
        program = "import sys, papermill, ml_repo.execution.engine; print('mlflow' in sys.modules)"
        assert run(sys.executable, "-c", program).stdout.strip() == "False", "the supervisor would import it"
    finally:
        stop_mirror(project / "experiments")
