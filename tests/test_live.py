"""The pages that stay current: looked at in a browser while runs begin, go on and end, and asked to do what a person asks."""
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image
from browser import CHROMIUM
from conftest import LIMIT_S, checked
from test_record import git, write_notebook
from test_site import Watcher, axe  # noqa: F401
from test_views import Ui, shorten_id

pytestmark = pytest.mark.own_process

needs_browser = pytest.mark.skipif(not CHROMIUM, reason="NOT TESTED: there is no Chromium")
COUNT = """
import time
from ml_repo.tracking.run import start_run
run = start_run()
for epoch in range(epochs):
    run.log(step=epoch, split="validation", loss=lr / (epoch + 1))
    print("epoch", epoch, flush=True)
    time.sleep(pause_s)
"""


@pytest.fixture
def project(tmp_path) -> Path:
    """A repository whose notebook counts."""
    write_notebook(tmp_path / "count.ipynb", "lr: float = 0.5  # step size, above 0\nepochs: int = 3  # at least 1\npause_s: float = 0.0  # seconds, at least 0\n", COUNT)
    (tmp_path / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "First")
    return tmp_path


@pytest.fixture
def page() -> Iterator[Watcher]:
    """A browser that notes what goes wrong."""
    if not CHROMIUM:
        pytest.skip("NOT TESTED: there is no Chromium")
    watcher = Watcher()
    yield watcher
    watcher.close()


def begin(project: Path, *words: str) -> str:
    """Start a run in the background; its name."""
    return checked("ml-repo", "run", "count.ipynb", "--detach", *words, cwd=project).strip()


def await_true(script: str, page: Watcher, what: str) -> None:
    """Wait until a script is true on the page."""
    end = time.monotonic() + LIMIT_S
    while not page.ask(f"(() => {{ try {{ return !!({script}); }} catch {{ return false; }} }})()"):  # the page may be loading
        assert time.monotonic() < end, f"{what}: {page.ask('document.body.innerText')[:2000]}"
        time.sleep(0.1)


def read_record(project: Path, name: str) -> dict:
    """What a record says now."""
    return json.loads((project / "experiments" / name / "record.json").read_text())


def type_into(page: Watcher, field: str, text: str) -> None:
    """Write into a field."""
    page.ask(f"document.getElementById({json.dumps(field)}).value = {json.dumps(text)}; 0")


@needs_browser
def test_a_run_is_followed_stopped_and_run_again_from_its_page(project, page):
    ui = Ui(project, "results")
    home = ui.links[0].partition("?")[0]
    try:
        page.show(ui.links[0])
        assert "There are no runs yet" in page.text()
        name = begin(project, "-p", "epochs", "1000", "-p", "pause_s", "0.2", "-p", "lr", "0.25")
        await_true(f"document.getElementById('body').innerText.includes({json.dumps(shorten_id(name))})", page, "the run in the table")
        await_true("document.getElementById('head').innerText.includes('val_loss')", page, "the column of its metric")
        await_true("document.getElementById('overview').innerText.includes('count')", page, "the overview")

        page.open(f"{home}runs/{name}.html")
        await_true("document.querySelector('#live .uplot')", page, "its curve")
        before = page.ask("document.querySelector('#live figure').getAttribute('aria-label')")
        await_true(f"document.querySelector('#live figure').getAttribute('aria-label') !== {json.dumps(before)}", page, "the curve to grow")
        await_true("document.getElementById('log').innerText.includes('epoch 5')", page, "its log")
        for step in (3, 12, 7):
            Image.new("RGB", (8, 8), (step, 0, 0)).save(project / "experiments" / name / "artifacts" / f"samples-{step}.png")
        await_true("document.querySelector('.images img')?.naturalWidth === 8 && document.querySelector('.images figcaption').innerText.includes('step 12')", page, "the last image")
        page.ask("(() => { const field = document.querySelector('.images input'); field.value = 0; field.dispatchEvent(new Event('input')); })(); 0")
        await_true("document.querySelector('#live').innerText.includes('samples-7.png') && document.querySelector('.images img').src.includes('samples-3.png')", page, "the first image, also after the page has changed")
        assert page.ask("fetch('../files/" + name + "/artifacts/../record.json').then(answer => answer.status)") == 404
        assert page.ask("fetch('../files/" + name + "/artifacts/..%2frecord.json').then(answer => answer.status)") == 403
        type_into(page, "note", "too slow")
        page.click("Save", "button")
        await_true("document.getElementById('said').innerText === 'Saved.'", page, "the note")
        type_into(page, "tag", "paper slow")
        page.ask("document.getElementById('tag').dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter'})); 0")
        await_true("document.querySelectorAll('#state .tag').length === 2", page, "its tags")
        page.ask("document.querySelector('[data-untag=slow]').click(); 0")
        await_true("document.querySelectorAll('#state .tag').length === 1", page, "one tag less")
        page.click("Stop", "button")
        await_true("document.querySelector('#live .chip').innerText === 'interrupted'", page, "its end")
        await_true("document.querySelector('#live .note.bad').innerText.includes('Stopped')", page, "why it ended")
        await_true("document.querySelector('#rest .facts').innerText.includes('interrupted')", page, "the facts of its end")
        record = read_record(project, name)
        assert (record["state"], record["note"]) == ("interrupted", "too slow")

        type_into(page, "p-2-count.ipynb", "0")
        page.click("Run", "button")
        await_true("document.querySelector('.launched').innerText.includes('at least 1')", page, "a refusal")
        for field, text in (("p-2-count.ipynb", "2"), ("p-3-count.ipynb", "0"), ("note-count.ipynb", "a second try")):
            type_into(page, field, text)
        page.click("Run", "button")
        await_true("document.querySelector('.launched a')", page, "the new run")
        second = page.ask("document.querySelector('.launched a').innerText")
        checked("ml-repo", "wait", second, cwd=project)
        again = read_record(project, second)
        values = {key: value["used"] for key, value in again["parameters"].items()}
        assert (again["state"], again["note"], values) == ("completed", "a second try", {"lr": 0.25, "epochs": 2, "pause_s": 0.0})

        page.open(f"{home}runs/{second}.html")
        await_true("document.querySelector('[data-act=verify]')", page, "the finished run")
        page.click("Verify", "button")
        await_true("document.getElementById('said').innerText.startsWith('Identical')", page, "the verdict")
        await_true("document.querySelector('#live .chip.identical')", page, "the verdict among the facts")
        page.click("Archive", "button")
        await_true("document.getElementById('state').innerText.includes('archived')", page, "that it is archived")
        page.click("Restore", "button")
        await_true("!document.getElementById('state').innerText.includes('archived')", page, "that it is restored")

        page.open(f"{home}runs/{name}.html")  # it has more than two epochs
        await_true("MLR.plots().length", page, "its charts")
        left, top, width = page.ask("(() => { const chart = document.querySelector('.u-over'); chart.scrollIntoView(); const box = chart.getBoundingClientRect(); return [box.left, box.top, box.width]; })()")
        point = lambda kind, share, **about: page.call("Input.dispatchMouseEvent", type=kind, x=left + 1 + (width - 2) * share, y=top + 40, **about)
        point("mouseMoved", 0)
        await_true("document.querySelector('.u-legend').innerText.replace(/\\s+/g, '').includes('step0val_loss0.25')", page, "the value under the pointer")
        last, across = page.ask("MLR.plots()[0].data[0].at(-1)"), "MLR.plots()[0].scales.x.max"
        assert page.ask(across) == last
        point("mousePressed", 0, button="left", buttons=1, clickCount=1)
        point("mouseMoved", 0.5, button="left", buttons=1)
        point("mouseReleased", 0.5, button="left", clickCount=1)
        await_true(f"{across} < {0.6 * last}", page, "the first half of the curve")
        page.ask("MLR.equip(); 0")
        await_true(f"{across} < {0.6 * last}", page, "the same half after the chart has grown")
        page.click("Reset zoom", "button")
        await_true(f"{across} === {last}", page, "the whole curve")
        press = lambda key: page.ask(f"document.querySelector('.chart').dispatchEvent(new KeyboardEvent('keydown', {{key: '{key}'}})); 0")
        press("ArrowRight")
        shown = "document.querySelector('.u-legend').innerText.replace(/\\s+/g, '')"
        await_true(f"/step[0-9]+val_loss/.test({shown})", page, "a value by the keyboard")
        before = page.ask(shown)
        press("ArrowLeft")
        await_true(f"{shown} !== {json.dumps(before)}", page, "another one") if "step0" not in before else None
        press("+")
        await_true(f"{across} < {0.6 * last}", page, "a part of the curve by the keyboard")
        press("0")
        await_true(f"{across} === {last}", page, "the whole curve by the keyboard")
        for number, found in enumerate(("MLR.plots()[0].scales.y.distr === 3", "MLR.plots()[0].series[0].label === 'second'")):
            page.ask(f"document.querySelectorAll('.look input')[{number}].click(); 0")
            await_true(found, page, "another look")

        page.open(f"{home}new.html")
        await_true("document.querySelector('.launch')", page, "the form of the notebook")
        type_into(page, "p-1-count.ipynb", "0.75")
        page.click("Run", "button")
        await_true("document.querySelector('.launched a')", page, "a run from nothing")
        third = page.ask("document.querySelector('.launched a').innerText")
        checked("ml-repo", "wait", third, cwd=project)
        assert read_record(project, third)["parameters"]["lr"]["used"] == 0.75

        page.show(f"{home}index.html")
        page.ask("document.querySelector('#body input').click(); document.getElementById('base').click(); 0")
        assert page.ask("document.querySelectorAll('#body .delta').length") == 2 and f"base={third}" in page.ask("location.hash")
        dragged = page.ask("""(() => { const heads = [...document.querySelectorAll('#head th[draggable]')], data = new DataTransfer(), find = (word) => heads.find(one => one.innerText.startsWith(word));
            find('val_loss').dispatchEvent(new DragEvent('dragstart', {dataTransfer: data, bubbles: true})); find('lr').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
            return [...document.querySelectorAll('#head th[draggable]')].map(one => one.innerText.trim()); })()""")
        assert dragged[:3] == ["run", "val_loss", "lr"], "a column that was dragged"
        page.show(f"{home}compare.html#runs={name},{second}")
        assert "Learning curves" in page.text()
        assert page.troubles(home) == []
        assert page.ask("fetch('/files/" + second + "/notebook').then(answer => answer.json()).then(found => found.cells.length)") == 3
        page.open(f"{home}runs/{name}.html")
        await_true("!document.querySelector('[data-act=resume]').hidden", page, "the stopped run")
        page.click("Resume", "button")
        await_true("document.querySelector('#live .chip').innerText === 'running'", page, "that it goes on")
        page.click("Stop", "button")
        await_true("document.querySelector('#live .chip').innerText === 'interrupted'", page, "its second end")
        assert len(read_record(project, name)["attempts"]) == 1
    finally:
        assert ui.end() == 0


@needs_browser
def test_a_verification_is_followed_from_any_page_of_its_run_and_begins_once(project, page, tmp_path_factory):
    hold = tmp_path_factory.mktemp("hold") / "on"
    write_notebook(project / "wait.ipynb", "lr: float = 0.5  # step size, above 0\n", f"""
import os, time
while os.path.exists({str(hold)!r}):
    time.sleep(0.1)
print(lr)
""")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "Wait")
    name = checked("ml-repo", "run", "wait.ipynb", "--detach", cwd=project).strip()
    checked("ml-repo", "wait", name, cwd=project)
    hold.touch()
    ui = Ui(project, "results")
    going = "document.getElementById('said').innerText.startsWith('Being verified since')"
    try:
        page.show(ui.links[0])
        link = f"{ui.links[0].partition('?')[0]}runs/{name}.html"
        page.open(link)
        await_true("document.getElementById('machine').innerText.includes('running')", page, "the stream")
        page.ask("document.querySelector('[data-act=verify]').click(); 0")
        await_true(going, page, "what goes on")
        assert "The run took" in page.ask("document.getElementById('said').innerText") and page.ask("document.querySelector('[data-act=verify]').disabled")
        ask = f"fetch('/act/{name}', {{method: 'POST', headers: {{'X-ML-Repo': '1'}}, body: JSON.stringify({{action: 'verify'}})}}).then(answer => answer.status)"
        assert page.ask(ask) == 200  # as a second page would
        page.ask("location.reload(); 0")
        await_true(f"{going} && document.getElementById('clock').innerText.endsWith('so far')", page, "what goes on, after a reload")
        verifying = [one for one in psutil.process_iter(["cmdline"]) if {"verify", name} <= set(one.info["cmdline"] or [])]
        assert len(verifying) == 1, verifying
        hold.unlink()
        await_true("document.getElementById('said').innerText.startsWith('Identical')", page, "the verdict")
        await_true("document.querySelector('#live .chip.identical')", page, "the verdict among the facts")
        assert not page.ask("document.getElementById('clock') || document.querySelector('[data-act=verify]').disabled")
        page.click("Show what was compared", "a")
        await_true("document.body.innerText.includes('What somebody found who ran it again')", page, "the items")
    finally:
        hold.unlink(missing_ok=True)
        assert ui.end() == 0


@needs_browser
def test_records_that_cannot_be_read_come_and_go_while_the_page_is_open(project, page):
    name = begin(project, "-p", "epochs", "1")
    checked("ml-repo", "wait", name, cwd=project)
    listed, rows = "document.getElementById('overview').innerText.includes('cannot be read')", f"document.getElementById('body').innerText.includes({json.dumps(shorten_id(name))})"
    torn, record = project / "experiments" / "torn" / "record.json", project / "experiments" / name / "record.json"
    ui = Ui(project, "results")
    try:
        page.show(ui.links[0])
        await_true("document.getElementById('overview').innerText.includes('count')", page, "the overview")
        assert not page.ask(listed)
        torn.parent.mkdir()
        torn.write_text("{")
        await_true(f"{listed} && document.getElementById('overview').innerText.includes('torn')", page, "a damaged record")
        torn.unlink()
        torn.parent.rmdir()
        await_true(f"!({listed})", page, "its end")
        whole = record.read_text()
        record.write_text(whole[:50])  # in place, as an editor does it
        page.ask("location.reload(); 0")
        await_true(f"{listed} && !({rows})", page, "a damaged run that leaves the table")
        record.write_text(whole)
        await_true(f"!({listed}) && {rows}", page, "the run that is whole again")
    finally:
        assert ui.end() == 0


@needs_browser
@pytest.mark.slow
def test_pages_pass_an_audit_of_accessibility(project, page, axe):  # noqa: F811
    name, other = begin(project), begin(project, "-p", "lr", "0.25")
    checked("ml-repo", "wait", name, other, cwd=project)
    ui = Ui(project, "results")
    home = ui.links[0].partition("?")[0]
    try:
        for place in (ui.links[0], f"{home}runs/{name}.html", f"{home}new.html", f"{home}compare.html#runs={name},{other}"):
            for dark, width in ((False, 1300), (True, 1300), (True, 390)):
                page.show(place, dark, width)
                page.ask(axe + "; 0")
                found = page.ask("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(one => [one.impact, one.id, one.nodes[0].html.slice(0, 200)]))")
                assert [one for one in found if one[0] in ("serious", "critical")] == [], (place, dark, width)
                assert page.ask("document.documentElement.scrollWidth <= innerWidth"), (place, width)
    finally:
        assert ui.end() == 0


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("busy", [False, True], ids=["quiet", "all cores busy"])
def test_all_views_equal_the_records_without_a_restart(project, page, busy):
    """A study and detached runs begin while every view is open."""
    begin(project)
    checked("ml-repo", "wait", "latest", cwd=project)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(psutil.cpu_count() if busy else 0)]
    ui = Ui(project, count=3)
    try:
        results, board, mlflow = sorted(ui.links, key=lambda link: ("token" not in link, "training" in link or "experiments" in link))
        page.show(results)
        checked("ml-repo", "tune", "count.ipynb", "--vary", "lr=log:0.01:1", "--metric", "val_loss", "--trials", "6", "-p", "pause_s", "0.1", cwd=project)
        names = [begin(project, "-p", "lr", str(lr), "-p", "pause_s", "0.3", "--experiment", "by hand") for lr in (0.125, 0.375, 0.625)]
        for name in names:
            checked("ml-repo", "wait", name, cwd=project)
        records = {path.parent.name: json.loads(path.read_text()) for path in project.glob("experiments/*/record.json")}
        wanted = {name: (record["experiment"], record["parameters"]["lr"]["used"], record["metrics"][0]["value"]) for name, record in records.items()}
        assert len(wanted) == 10

        def ask_board() -> dict:
            ui.links = [board]
            found = ui.ask("experiment/defaultExperimentId/data/plugin/hparams/session_groups", {
                "colParams": [{"hparam": "lr", "includeInResult": True}, {"metric": {"tag": "val_loss", "group": ""}}], "startIndex": 0, "sliceSize": 50,
                "allowedStatuses": ["STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_UNKNOWN", "STATUS_RUNNING"]}).get("sessionGroups", [])
            return {group["name"]: (group["hparams"].get("lr"), group["sessions"][0]["status"], [round(value["value"], 6) for value in group["metricValues"]]) for group in found}

        def ask_mlflow() -> dict:
            ui.links = [mlflow.partition("#")[0]]
            found = {}
            for experiment in ui.ask("ajax-api/2.0/mlflow/experiments/search", {"max_results": 100})["experiments"]:
                for run in ui.ask("ajax-api/2.0/mlflow/runs/search", {"experiment_ids": [experiment["experiment_id"]], "max_results": 100}).get("runs", []):
                    tags = {tag["key"]: tag["value"] for tag in run["data"].get("tags", [])}
                    values = {metric["key"]: metric["value"] for metric in run["data"].get("metrics", [])}
                    lr = next((one["value"] for one in run["data"].get("params", []) if one["key"] == "lr"), None)
                    if "ml_repo.run" in tags:
                        found.setdefault(tags["ml_repo.run"], []).append((experiment["name"], lr and float(lr), values.get("val_loss"), run["info"]["status"]))
            return found

        def ask_page() -> dict:
            return dict(page.ask("""[...document.querySelectorAll('#body tr')].map(row => [row.querySelector('th a').title, row.innerText])"""))

        def await_equal(ask, right: dict) -> None:
            end = time.monotonic() + 60
            while (found := ask()) != right:
                assert time.monotonic() < end, {key: (found.get(key), right.get(key)) for key in found.keys() | right.keys() if found.get(key) != right.get(key)}
                time.sleep(0.5)

        study = next(path.parent.name for path in project.glob("experiments/.studies/*/study.yaml"))
        page.open(f"{results.partition('?')[0]}studies/{study}.html")
        await_true("document.body.innerText.includes('count.ipynb') && document.querySelectorAll('table tbody tr').length >= 6", page, "the page of the study")
        page.show(results)
        await_true(f"document.getElementById('overview').innerText.includes({json.dumps(study)})", page, "the study in the overview")
        await_equal(ask_board, {shorten_id(name): (lr, "STATUS_SUCCESS", [round(loss, 6)]) for name, (_, lr, loss) in wanted.items()})
        await_equal(ask_mlflow, {name: [(experiment, lr, loss, "FINISHED")] for name, (experiment, lr, loss) in wanted.items()})
        await_equal(lambda: {name: "completed" in text and f"{wanted[name][2]:.6g}" in text for name, text in ask_page().items()}, dict.fromkeys(wanted, True))
        assert page.troubles(results.partition("?")[0]) == []
    finally:
        ui.end()
        for loop in loops:
            loop.kill()
            loop.wait()
