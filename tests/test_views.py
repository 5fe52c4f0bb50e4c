"""The views: real servers, started and ended in every way, and looked at in a browser."""
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path

import psutil
import pytest
from browser import CHROMIUM, FIND, Browser
from conftest import BIN, LIMIT_S, checked, run
from test_record import git, write_notebook

from ml_repo.integrations.mlflow_mapping import shorten_id
from ml_repo.integrations.servers import find_port
from ml_repo.integrations.tensorboard_writer import EventFile
from ml_repo.records.record import open_record
from ml_repo.tracking.run import Run

QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
needs_browser = pytest.mark.skipif(not CHROMIUM, reason="needs Chromium")
pytestmark = [pytest.mark.own_kernel, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def add_run(home: Path, lr: float, optimizer: str, end: str = "completed") -> str:
    """A run of five steps, without a kernel."""
    record = open_record(home, "nbs/train.ipynb", experiment="step-size",
                         parameters={"lr": {"default": 0.003, "given": lr, "used": lr}, "optimizer": {"used": optimizer}, "epochs": {"used": 5}})
    (record.folder / "train.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    log = Run(record.folder)
    for step in range(1, 6):
        log.log(step=step, split="train", loss=lr / step)
        log.log(step=step, split="validation", loss=2 * lr / step)
    if end:
        record.close(end, metrics=[{"name": "accuracy", "split": "test", "value": 1 - lr, "direction": "higher"}, {"name": "fit_duration_s", "value": 3.5}])
    return record.folder.name


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository with four runs."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    (folder / "nbs").mkdir()
    (folder / "nbs/results.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    checked("git", "init", "--quiet", cwd=folder)
    for lr, optimizer, end in ((0.1, "sgd", "completed"), (0.01, "adam", "completed"), (0.001, "adam", "failed"), (0.03, "adam", "completed")):
        add_run(folder / "experiments", lr, optimizer, end)
    return folder


def snapshot(home: Path) -> dict[str, tuple[int, bytes]]:
    """Every file of every record, with its time."""
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for folder in home.glob("[!.]*") for path in folder.rglob("*") if path.is_file()}


class Ui:
    """`ml-repo ui` as a person starts it."""

    def __init__(self, folder: Path, *words: str, count: int = 1, before: tuple[str, ...] = (), **environment: str):
        self.log = folder / f"ui-{time.monotonic_ns()}.txt"
        self.place = Path(tempfile.mkdtemp())  # for its temporary files, so that nobody else's are counted
        variables = {key: value for key, value in os.environ.items() if key != "SSH_CONNECTION"} | QUIET | {"TMPDIR": str(self.place)} | environment
        with self.log.open("w") as file:
            self.process = subprocess.Popen([*before, str(BIN / "ml-repo"), "ui", *words], cwd=folder, env=variables, stdout=file, stderr=file)
        end = time.monotonic() + LIMIT_S
        while "Ctrl-C" not in self.printed() and self.process.poll() is None:
            assert time.monotonic() < end, self.printed()
            time.sleep(0.1)
        self.links = [line.split()[1] for line in self.printed().splitlines() if " http://" in line]
        assert len(self.links) == count, self.printed()

    def printed(self) -> str:
        return self.log.read_text()

    def ask(self, path: str, body: dict | None = None):
        """What the first view answers."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.links[0].removesuffix("training") + path, data, {"Content-Type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=LIMIT_S) as answer:
            return json.load(answer)

    def await_runs(self, count: int) -> dict:
        """The scalars of TensorBoard, once it has read `count` runs to their end."""
        end = time.monotonic() + LIMIT_S
        while True:
            tags = self.ask("data/plugin/scalars/tags")
            if sum("test_accuracy" in found for found in tags.values()) >= count:
                return tags
            assert time.monotonic() < end, tags
            time.sleep(0.3)

    def list_left(self) -> list[Path]:
        """The folders of views that are there."""
        return list(self.place.glob("ml_repo-views-*"))

    def family(self) -> list[psutil.Process]:
        """All processes that belong to it; those of the servers are no children of each other, but of this one."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        assert found
        return found

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_S)


def await_end(processes: list[psutil.Process], patience_s: float = LIMIT_S) -> None:
    _, alive = psutil.wait_procs(processes, patience_s)
    assert not alive, alive


PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYPgPAAEEAQBC8HT8AAAAAElFTkSuQmCC")


def add_artifacts(folder: Path) -> None:
    """A figure, a model of one layer, and an event file of its own."""
    (folder / "artifacts/loss.png").write_bytes(PNG)
    layer = {"class_name": "Dense", "config": {"name": "head", "dtype": "float32"}}
    with zipfile.ZipFile(folder / "artifacts/model.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"name": "net", "layers": [layer]}}))
    own = EventFile(folder / "artifacts/tensorboard/train", "events.out.tfevents.1.host.v2")
    own.add(1e9, 1, tag="epoch_loss", simple_value=0.5)
    own.close()


def test_figures_layers_and_own_events_are_shown(tmp_path):
    home = tmp_path / "experiments"
    name = add_run(home, 0.5, "sgd")
    add_artifacts(home / name)
    before = snapshot(home)
    ui = Ui(tmp_path, "tensorboard", "--records", str(home))
    try:
        short = shorten_id(name)
        ui.await_runs(1)
        end = time.monotonic() + LIMIT_S
        while "epoch_loss" not in ui.ask("data/plugin/scalars/tags").get(f"{short}/tensorboard/train", ()):  # it reads one folder after the other
            assert time.monotonic() < end
            time.sleep(0.3)
        assert list(ui.ask("data/plugin/images/tags")[short]) == ["artifacts/loss.png"]
        assert ui.ask("data/plugin/graphs/info")[short]["run_graph"] is True
        assert list(ui.ask("data/plugin/text/tags")[short]) == ["record"]
    finally:
        assert ui.end() == 0
    assert snapshot(home) == before


def test_tensorboard_shows_runs_that_wrote_no_events(project):
    home = project / "experiments"
    before = snapshot(home)
    ui = Ui(project, "tensorboard")
    tags = ui.await_runs(4)
    try:
        names = {shorten_id(name): name for name in os.listdir(home) if name.startswith("train-")}
        assert set(tags) == set(names) and all({"train_loss", "val_loss"} <= set(tags[short]) for short in names)
        short = min(tags)
        points = ui.ask(f"data/plugin/scalars/scalars?run={short}&tag=train_loss")
        logged = [json.loads(line)["values"]["loss"] for line in (home / names[short] / "metrics.jsonl").read_text().splitlines() if '"train"' in line]
        assert [step for _, step, _ in points] == [1, 2, 3, 4, 5] and [value for *_, value in points] == pytest.approx(logged, rel=1e-6)

        about = ui.ask("experiment/defaultExperimentId/data/plugin/hparams/experiment", {})
        assert [one["name"] for one in about["hparamInfos"]] == ["lr", "optimizer", "epochs"], "those that differ come first"
        assert [one["name"]["tag"] for one in about["metricInfos"]] == ["test_accuracy", "train_loss", "val_loss", "without direction/fit_duration_s"]
        groups = ui.ask("experiment/defaultExperimentId/data/plugin/hparams/session_groups",
                        {"colParams": [{"hparam": "lr", "includeInResult": True}, {"metric": {"tag": "test_accuracy", "group": ""}}], "startIndex": 0, "sliceSize": 10,
                         "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]})
        rows = groups["sessionGroups"]
        assert sorted((one["hparams"]["lr"], round(one["metricValues"][0]["value"], 6)) for one in rows) == [
            (0.001, 0.999), (0.01, 0.99), (0.03, 0.97), (0.1, 0.9)]
        assert sorted(one["sessions"][0]["status"] for one in rows) == ["STATUS_FAILURE"] + ["STATUS_SUCCESS"] * 3
        family = ui.family()
    finally:
        assert ui.end() == 0
    await_end(family)
    assert snapshot(home) == before and not ui.list_left()


@pytest.mark.slow
def test_a_filter_chooses_and_a_running_run_is_followed(project, tmp_path):
    home = tmp_path / "experiments"
    add_run(home, 0.5, "sgd")
    add_run(home, 0.25, "adam")
    name = add_run(home, 0.125, "adam", end="")
    ui = Ui(tmp_path, "tensorboard", "optimizer = adam", "--records", str(home))
    try:
        tags = ui.await_runs(1)
        assert len(tags) == 2 and shorten_id(name) in tags
        with (home / name / "metrics.jsonl").open("a") as file:
            file.write('{"time_s": 9, "step": 6, "split": "train", "values": {"loss": 0.0625}}\n')
        end = time.monotonic() + LIMIT_S
        while (points := ui.ask(f"data/plugin/scalars/scalars?run={shorten_id(name)}&tag=train_loss"))[-1][1] != 6:
            assert time.monotonic() < end, points
            time.sleep(0.5)
    finally:
        assert ui.end(signal.SIGINT) == 0


def test_what_cannot_be_shown_is_said_in_one_line(project):
    result = run("ml-repo", "ui", "lr > 7", cwd=project)
    assert result.returncode == 2 and result.stdout == "Error: No run matches 'lr > 7', so there is nothing to show. `ml-repo ls` lists the runs.\n"
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = run("ml-repo", "ui", "tensorboard", "--port", str(other.getsockname()[1]), cwd=project)
    assert result.returncode == 2 and "is taken by another program" in result.stdout and "Traceback" not in result.stdout


def test_over_ssh_it_prints_the_tunnel(project):
    ui = Ui(project, "tensorboard", "--open", SSH_CONNECTION="192.0.2.7 50122 192.0.2.1 2222")
    port = ui.links[0].rstrip("/").rpartition(":")[2]
    assert f"ssh -N -L {port}:127.0.0.1:{port} -p 2222 " in ui.printed() and ui.printed().split("On your own")[1].count("@192.0.2.1\n") == 1
    assert {one.laddr.ip for process in ui.family() for one in process.net_connections() if one.status == "LISTEN"} == {"127.0.0.1"}
    assert ui.end(signal.SIGHUP) == 0


@pytest.mark.parametrize("view", ["tensorboard", pytest.param("all", marks=pytest.mark.slow)])
def test_nothing_is_left_when_it_is_killed(project, view):
    ui = Ui(project, view, count=3 if view == "all" else 1)
    family = ui.family()
    assert ui.end(signal.SIGKILL) == -signal.SIGKILL
    await_end(family)
    end = time.monotonic() + LIMIT_S
    while ui.list_left():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_it_ends_with_the_one_who_started_it(project):
    """A shell that is killed, as by a terminal that is gone without a word."""
    ui = Ui(project, "tensorboard", before=("sh", "-c", '"$@"; true', "sh"))
    family = ui.family()
    assert ui.end(signal.SIGKILL) == -signal.SIGKILL
    await_end(family)


@pytest.mark.slow
def test_both_views_with_one_command(project):
    before = snapshot(project / "experiments")
    ui = Ui(project, "optimizer = adam", count=2)
    try:
        ui.await_runs(3)
        ui.links = ui.links[1:]
        end = time.monotonic() + LIMIT_S
        while len(found := ui.ask("ajax-api/2.0/mlflow/runs/search", {"experiment_ids": ["1"], "max_results": 10}).get("runs", [])) < 3:
            assert time.monotonic() < end, found
            time.sleep(0.5)
        family = ui.family()
    finally:
        assert ui.end() == 0
    await_end(family)
    assert snapshot(project / "experiments") == before


def save(browser: Browser, name: str, folder: Path) -> None:
    """Keep a picture, to be looked at; ML_REPO_PICTURES says where."""
    browser.shoot(Path(os.environ.get("ML_REPO_PICTURES", folder)) / name)


@needs_browser
@pytest.mark.slow
def test_tensorboard_in_a_browser(project, tmp_path):
    ui, browser = Ui(project, "tensorboard"), Browser()
    try:
        ui.await_runs(4)
        browser.open(ui.links[0] + "#scalars")
        browser.wait("loss")
        time.sleep(3)
        save(browser, "scalars.png", tmp_path)
        browser.open("about:blank")
        browser.open(ui.links[0] + "#hparams")
        browser.wait("test_accuracy")
        browser.click("Parallel Coordinates View")
        time.sleep(3)
        assert browser.ask("document.querySelectorAll('*').length") and "optimizer" in browser.text()
        save(browser, "parallel.png", tmp_path)
    finally:
        browser.close()
        assert ui.end() == 0


@needs_browser
@pytest.mark.slow
def test_mlflow_in_a_browser(tmp_path):
    """The link leads to the runs; they are sorted and compared by hand, and the curve of a run that is going grows."""
    home = tmp_path / "experiments"
    for lr, optimizer in ((0.1, "sgd"), (0.01, "adam"), (0.03, "adam")):
        add_run(home, lr, optimizer)
    name = add_run(home, 0.125, "adam", end="")
    ui, browser = Ui(tmp_path, "mlflow", "--records", str(home)), Browser()
    try:
        browser.open(ui.links[0])
        browser.wait("step-size")
        browser.press("step-size")
        browser.wait("4 matching runs")
        time.sleep(2)
        browser.press("Sort: Created")
        time.sleep(2)
        browser.press("val_loss")
        time.sleep(3)
        save(browser, "mlflow-sorted.png", tmp_path)
        column = browser.ask("[...document.querySelectorAll('.ag-center-cols-container [role=row]')].sort((a, b) => a.rowIndex - b.rowIndex).map(row => [row.getBoundingClientRect().y, row.textContent.trim()])")
        values = [float(text.rpartition("-")[2]) for _, text in sorted(column) if text]
        assert values == sorted(values, reverse=True) and len(values) == 4, column

        browser.press_at(*browser.ask("(() => { const box = [...document.querySelectorAll('input[type=checkbox]')].map(one => one.getBoundingClientRect()).find(box => box.width); return [box.x + 5, box.y + 5]; })()"))
        time.sleep(1)
        browser.press("Compare")
        browser.wait("Comparing 4 Runs")
        time.sleep(3)
        save(browser, "mlflow-compared.png", tmp_path)

        browser.open(ui.links[0])
        browser.wait("step-size")
        browser.press("step-size")
        browser.wait(f"train-{name[-4:]}")
        time.sleep(2)
        browser.press(f"train-{name[-4:]}")
        browser.wait("Model metrics")
        time.sleep(1)
        browser.press("Model metrics")
        end = time.monotonic() + LIMIT_S
        while last_step(browser) != 5:
            assert time.monotonic() < end, browser.text()
            time.sleep(0.5)
        with (home / name / "metrics.jsonl").open("a") as file:
            file.writelines(json.dumps({"time_s": step, "step": step, "split": "train", "values": {"loss": 0.125 / step}}) + "\n" for step in range(6, 31))
        end = time.monotonic() + LIMIT_S
        while last_step(browser) != 30:  # MLflow asks again by itself while a run is going
            assert time.monotonic() < end, f"the curve has not grown: {last_step(browser)}"
            time.sleep(1)
        save(browser, "mlflow-grown.png", tmp_path)
    finally:
        browser.close()
        assert ui.end() == 0


def last_step(browser: Browser) -> float:
    """The largest step of a curve in the charts of MLflow, which plotly keeps beside what it draws."""
    return browser.ask("Math.max(-1, ...[...document.querySelectorAll('.js-plotly-plot')].flatMap(one => (one.data || []).flatMap(line => Array.from(line.x || []))).filter(Number.isFinite))")


@contextmanager
def jupyterlab(project: Path, place: Path, base: str = "/") -> Iterator[tuple[subprocess.Popen, str]]:
    """A JupyterLab with the token `secret`, and where it is."""
    port = find_port(8899)
    command = [str(BIN / "jupyter"), "lab", "--no-browser", "--allow-root", f"--port={port}", "--IdentityProvider.token=secret", f"--ServerApp.base_url={base}"]
    environment = os.environ | QUIET | {"PATH": f"{BIN}:{os.environ['PATH']}", "JUPYTERLAB_WORKSPACES_DIR": str(place)}
    with (place / "lab.txt").open("w") as log:
        lab = subprocess.Popen(command, cwd=project, env=environment, stdout=log, stderr=log)
    try:
        link, end = f"http://127.0.0.1:{port}{base}", time.monotonic() + LIMIT_S
        while True:
            try:
                urllib.request.urlopen(link + "api", timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < end and lab.poll() is None, (place / "lab.txt").read_text()
                time.sleep(0.3)
        yield lab, link
    finally:
        lab.send_signal(signal.SIGTERM)
        lab.wait(LIMIT_S)


@needs_browser
@pytest.mark.slow
def test_tiles_in_jupyterlab(project, tmp_path):
    tiles = {entry.name for entry in entry_points(group="jupyter_serverproxy_servers")}
    if not {"mlflow", "tensorboard", "results"} <= tiles:
        pytest.skip("this environment was made before setup.py had tiles: run make test")
    browser = Browser()
    try:
        with jupyterlab(project, tmp_path) as (lab, link):
            assert "/login?" in urllib.request.urlopen(link + "tensorboard/data/environment", timeout=LIMIT_S).url, "without the token there is no view"
            browser.open(link + "lab?token=secret")
            browser.wait("MLflow")
            time.sleep(2)
            save(browser, "launcher.png", tmp_path)
            for title, sign in (("TensorBoard", "test_accuracy"), ("MLflow", "step-size")):
                browser.press(title, "p, .jp-LauncherCard-label *")
                browser.wait(sign)
                time.sleep(3)
                save(browser, f"lab-{title}.png", tmp_path)
                browser.open(link + "lab?reset")
                browser.wait("MLflow")
            browser.press("Results", "p, .jp-LauncherCard-label *")
            count = len(list((project / "experiments").glob("*/record.json")))
            browser.wait(f"{count} of {count} runs")
            name = add_run(project / "experiments", 0.5, "sgd")  # the proxy lets the stream of events through
            browser.wait(f"{count + 1} of {count + 1} runs")
            save(browser, "lab-Results.png", tmp_path)
            shutil.rmtree(project / "experiments" / name)
            family = psutil.Process(lab.pid).children(recursive=True)
    finally:
        browser.close()
    await_end(family)


@needs_browser
@pytest.mark.slow
def test_runs_in_a_sidebar_of_jupyterlab(tmp_path):
    """The runs beside the notebook, and the open notebook run headless with other values, by a click."""
    project = tmp_path / "project"
    (project / "nbs").mkdir(parents=True)
    (project / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    write_notebook(project / "nbs/count.ipynb", "lr: float = 0.5  # step size, above 0\n", "print(lr)")
    git(project, "init", "--quiet")
    add_run(project / "experiments", 0.25, "sgd")
    browser = Browser()
    try:
        with jupyterlab(project, tmp_path) as (lab, link):
            browser.open(link + "lab/tree/nbs/count.ipynb?token=secret")
            browser.wait("step size")
            end, tab = time.monotonic() + LIMIT_S, "document.querySelector('li[data-id=ml-repo-runs]')"
            while not (box := browser.ask(f"(() => {{ const box = {tab}?.getBoundingClientRect(); return box ? [box.x + box.width / 2, box.y + box.height / 2] : null; }})()")):
                assert time.monotonic() < end, browser.text()[-2000:]
                time.sleep(0.3)
            browser.press_at(*box)
            browser.wait("1 of 1 runs")
            browser.ask("document.querySelector('[data-jp-item-name=ml-repo-run] button, [data-jp-item-name=ml-repo-run] jp-button').click()")
            browser.wait("step size, above 0, default 0.5")
            save(browser, "lab-sidebar.png", tmp_path)
            browser.ask(f"""(() => {{ const field = {FIND}.find(one => one.matches?.('input[name=lr]')); field.value = '0.125'; field.form.requestSubmit(); return 1; }})()""")
            browser.wait("Started: ")
            while not any(json.loads(path.read_text())["state"] == "completed" and json.loads(path.read_text())["notebook"] == "nbs/count.ipynb" for path in project.glob("experiments/count-*/record.json")):
                assert time.monotonic() < end
                time.sleep(0.3)
            browser.wait("2 of 2 runs")
            wide, link_to = f"{FIND}.some(one => one.tagName === 'IFRAME' && one.clientWidth > 400 && one.contentDocument?.querySelector('[data-act=verify]'))", f"{FIND}.find(one => one.matches?.('#body a.id'))"
            assert not browser.ask(wide)
            browser.ask(f"{link_to}.click(); 0")
            while not browser.ask(wide):
                assert time.monotonic() < end, "a run of the sidebar opens where there is room"
                time.sleep(0.3)
            browser.wait("2 of 2 runs")
            family = psutil.Process(lab.pid).children(recursive=True)
    finally:
        browser.close()
    await_end(family)
    record = json.loads(next(project.glob("experiments/count-*/record.json")).read_text())
    assert record["parameters"]["lr"]["used"] == 0.125
