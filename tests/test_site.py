"""The pages of all runs: complete, quick, harmless, and usable with a keyboard, on a phone and in the dark."""
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, serve_pages
from conftest import LIMIT_S, ROOT, checked, copy_shipped, needs_example, run
from hostile import decode_fragments, find_dangers, write_hostile, write_hostile_study

from ml_repo.notebook.imports import trace_modules
from ml_repo.results.search import find_runs
from ml_repo.site.builder import build_site
from ml_repo.site.single_file import make_report
from ml_repo.site.templates import hash_makers


sys.path.insert(0, str(ROOT / "benchmarks"))
from site_records import make_records  # noqa: E402

SCRIPTS = {"site.js", "../site.js", "uplot.js", "../uplot.js", "gallery.js", "compare.js", "data/runs.js"}


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    """Ten runs as they are, one that is hostile, one that is torn, one of a later version."""
    folder = copy_shipped(tmp_path_factory.mktemp("records"))
    for portable in folder.glob("train-20261129*"):
        shutil.rmtree(portable)
    evil = write_hostile(folder)
    write_hostile_study(folder, sorted(model.name for model in folder.glob("train-2*"))[:4] + [evil.name])
    (folder / "train-20260101T000000Z-torn").mkdir()
    (folder / "train-20260101T000000Z-torn" / "record.json").write_text('{"schema": "ml_repo/record/1", "id": ')
    future = folder / "train-20990101T000000Z-2099"
    shutil.copytree(next(folder.glob("train-2026112*")), future)
    (future / "record.json").write_text((future / "record.json").read_text().replace("ml_repo/record/1", "ml_repo/record/99"))
    return folder


@pytest.fixture(scope="module")
def site(records, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "site"
    built = build_site(folder, find_runs(records=[records]))
    assert (built.made, sorted(name for name, _ in built.damaged)) == (11, ["train-20260101T000000Z-torn", "train-20990101T000000Z-2099"])
    return folder


def test_broken_and_future_records_are_listed_with_the_reason(site):
    page = (site / "index.html").read_text()
    assert "train-20260101T000000Z-torn" in page and "is not a record" in page and "ml_repo/record/99" in page and "Install a newer ml_repo" in page


def test_nothing_in_any_page_could_run_or_be_fetched(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) == 14
    for page in pages:
        assert find_dangers(page.read_text(), SCRIPTS) == [], page
        assert "script-src 'self' file:;" in page.read_text() and "default-src 'none'" in page.read_text()
    for data in (site / "runs").glob("*.js"):
        assert "</script" not in data.read_text().lower() and "<!--" not in data.read_text()
        for part in decode_fragments(data.read_text()):
            assert find_dangers(part, set()) == [], part


def test_the_finder_of_dangers_finds_them():
    from hostile import HTML

    harmless = [one for one in HTML if not find_dangers(one, set())]
    assert len(harmless) < 5, harmless  # what only a browser makes dangerous


def test_a_page_shows_what_the_notebook_showed(site):
    run = next((site / "runs").glob("*-7zfe.html")).read_text()
    for part in ("verified: identical", "ml-repo verify train-", "<polyline", 'class="c-kn"', "step size of Adam at the start", "test_accuracy", "<h3>Train an image classifier</h3>"):
        assert part in run, part
    assert run.count('<img src="../figures/') == 4
    assert all((site / "runs" / source).is_file() for source in re.findall(r'<img src="(\.\./[^"]+)"', run))


def test_a_study_has_a_page_with_its_pictures_and_its_runs(site):
    page = (site / "studies" / "searched.html").read_text()
    assert page.count("<figure>") == 4 and len(re.findall(r'href="../runs/train-2', page)) == 4 and "5 complete, 1 failed, of 9" in page
    assert all((site / "studies" / link).resolve().is_file() for link in re.findall(r'src="(../figures/[^"]+)"', page))


def test_pages_are_the_same_each_time_and_only_what_changed_is_made_again(records, site, tmp_path):
    build_site(tmp_path / "a", find_runs(records=[records]))
    ours = {file.relative_to(site): file.read_bytes() for file in site.rglob("*") if file.is_file()}
    assert {file.relative_to(tmp_path / "a"): file.read_bytes() for file in (tmp_path / "a").rglob("*") if file.is_file()} == ours
    copy = tmp_path / "records"
    shutil.copytree(records, copy)
    verdict = next(copy.glob("*-7zfe")) / "verdict.json"
    verdict.write_text(verdict.read_text().replace('"verdict": "identical"', '"verdict": "differs"', 1))
    make_records(copy, 1)
    shutil.rmtree(next(copy.glob("*-96zw")))
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "a" / "runs").iterdir()}
    os.utime(copy)
    os.utime(verdict.parent / "record.json")
    built = build_site(tmp_path / "a", find_runs(records=[copy]))
    assert (built.made, built.kept, built.removed) == (2, 9, 1)
    touched = {file.name.partition(".")[0][-4:] for file in (tmp_path / "a" / "runs").iterdir() if before.get(file) != file.stat().st_mtime_ns}
    assert touched == {"7zfe", "0000"}
    named = {source for page in (tmp_path / "a").rglob("*.html") for source in re.findall(r"figures/([\w.]+)", page.read_text())}
    assert {file.name for file in (tmp_path / "a" / "figures").iterdir()} == named


def test_every_module_that_makes_a_page_counts_for_its_version(records, tmp_path):
    makers = ("ml_repo.site.run_page", "ml_repo.site.study_page")
    traced = trace_modules(makers, ROOT)
    program = ("import sys; from pathlib import Path; from ml_repo.site.builder import build_site; from ml_repo.results.search import find_runs; "
               "build_site(Path(sys.argv[1]), find_runs(records=[Path(sys.argv[2])])); "
               "print(*sorted(name for name in sys.modules if name.startswith('ml_repo.')))")
    used = set(checked(sys.executable, "-c", program, tmp_path / "site", records).split())
    tables = {"ml_repo.site.builder", "ml_repo.site.run_index"}  # make the pages of all runs, which are made each time
    assert "ml_repo.site.sanitize" in used and used - traced.keys() <= tables
    package = Path(shutil.copytree(ROOT / "ml_repo", tmp_path / "ml_repo"))
    version = hash_makers(makers, package)
    for name in ("records/schema", "records/verdict", "core/metrics", "study/outcomes", "site/__init__"):
        with open(package / f"{name}.py", "a") as file:
            file.write("\n")
        before, version = version, hash_makers(makers, package)
        assert version != before, name
    with open(package / "site" / "builder.py", "a") as file:
        file.write("\n")
    assert hash_makers(makers, package) == version


@needs_example
def test_the_public_sees_no_names(tmp_path):
    records = tmp_path / "records"
    make_records(records, 2)
    secret = ("gpuhost17", "/srv/lab/ada", "adalovelace", "x = 'not committed'", "git.internal")
    for folder in records.glob("train-*"):
        facts = json.loads((folder / "record.json").read_text())
        facts["host"]["name"] = facts["machine"]["hostname"] = "gpuhost17"
        facts["paths"] = {"root": "/srv/lab/ada/repo", "prefix": "/home/adalovelace/venv"}
        facts["code"] |= {"remote": "ssh://git.internal/a.git", "is_dirty": True, "patch": "code.patch", "branch": "adalovelace/try"}
        facts |= {"note": "as in /srv/lab/ada/notes.txt", "command": "/home/adalovelace/venv/bin/ml-repo run", "warnings": ["gpuhost17 was busy"]}
        facts["parameters"]["data"] |= {"given": "/home/adalovelace/data/digits", "used": "/home/adalovelace/data/digits"}
        (folder / "record.json").write_text(json.dumps(facts))
        (folder / "code.patch").write_text("+x = 'not committed'\n")
        notebook = json.loads((folder / "train.ipynb").read_text())
        notebook["cells"].append({"cell_type": "code", "metadata": {}, "execution_count": 1, "source": "open('/srv/lab/ada/a.txt')  # adalovelace", "outputs": [
            {"output_type": "stream", "name": "stdout", "text": ["on gpuhost17\n", "in /home/adalovelace/x\n"]}, {"output_type": "error", "ename": "E", "evalue": "", "traceback": ['File "/srv/lab/ada/b.py"\n', "gpuhost17"]},
            {"output_type": "display_data", "metadata": {}, "data": {"text/html": "<p>/srv/lab/ada/c.csv</p>", "text/plain": "x"}}]})
        (folder / "train.ipynb").write_text(json.dumps(notebook))
        (folder / "verdict.json").write_text(json.dumps({"schema": "ml_repo/verdict/1", "verdict": "identical", "where": "gpuhost17, EPYC", "when": "2026-01-01", "items": [], "notes": ["on gpuhost17"]}))
    study = write_hostile_study(records, [folder.name], "momentum")
    for file in study.iterdir():
        file.write_text(file.read_text().replace("</script><script>", "gpuhost17 /srv/lab/ada/a.txt /home/adalovelace "))
    build_site(tmp_path / "open", find_runs(records=[records]))
    build_site(tmp_path / "public", find_runs(records=[records]), public=True)
    texts = {name: "\n".join(file.read_text() for file in (tmp_path / name).rglob("*") if file.suffix in (".html", ".js", ".json")) for name in ("open", "public")}
    texts["report"] = make_report(sorted(records.glob("train-*")), find_runs(records=[records]), public=True)
    assert all(word in texts["open"] for word in secret[:4])
    for name in ("public", "report"):
        assert [word for word in secret if word in texts[name]] == [], name
        assert "…/a.txt" in texts[name] and "ml-repo" in texts[name]


def test_the_command_makes_a_folder_and_a_file(records, tmp_path):
    said = checked("ml-repo", "site", "experiment = step-size", "--out", tmp_path / "pages", "--records", records)
    assert "10 made" in said and "train-20990101T000000Z-2099" in said
    said = checked("ml-repo", "site", "7zfe", "96zw", "--single-file", "--out", tmp_path / "both.html", "--records", records)
    page = Path(said.strip()).read_text()
    assert page.count("<script>") == page.count("'sha256-") == 8 and not re.search(r'(?:src|href)="(?!data:|#)', page.partition("<script>")[0])
    refused = run("ml-repo", "site", "7zfe", "--out", tmp_path / "pages", "--records", records)
    assert refused.returncode == 2 and "--single-file" in refused.stdout


def test_an_empty_folder_of_records_makes_a_page(tmp_path):
    (tmp_path / "records").mkdir()
    build_site(tmp_path / "site", find_runs(records=[tmp_path / "records"]))
    assert "There are no runs yet" in (tmp_path / "site" / "index.html").read_text()


@pytest.mark.slow
def test_a_thousand_runs_and_one_more(tmp_path):
    make_records(tmp_path / "records", 1000)
    find_runs(records=[tmp_path / "records"])
    start = time.process_time()
    built = build_site(tmp_path / "site", find_runs(records=[tmp_path / "records"]))
    whole = time.process_time() - start
    make_records(tmp_path / "records", 1, first=5000)
    start = time.process_time()
    more = build_site(tmp_path / "site", find_runs(records=[tmp_path / "records"]))
    assert (built.made, more.made, more.kept) == (1000, 1, 1000)
    assert time.process_time() - start < whole / 5


# --- in a browser -------------------------------------------------------------------------------------------------------------
class Watcher(Browser):
    """A page that notes what it asks for and what goes wrong."""

    def __init__(self, width: int = 1400):
        super().__init__(width)
        for domain in ("Network", "Log", "Runtime", "Page"):
            self.call(f"{domain}.enable")
        self.call("Page.addScriptToEvaluateOnNewDocument", source="window.RAN = []; window.ran = (what) => RAN.push(what ?? 'something'); window.alert = window.ran;")

    def show(self, link: str, dark: bool = False, width: int = 1400) -> None:
        self.events.clear()
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500)
        self.open("about:blank")
        self.open(link)
        end = time.monotonic() + LIMIT_S
        while not self.ask("location.href !== 'about:blank' && document.readyState === 'complete' && (!['search', 'result'].some(id => document.getElementById(id)) || document.documentElement.dataset.ready === '1')"):
            assert time.monotonic() < end, f"{link} does not come to its end"
            time.sleep(0.05)
        self.ask("new Promise(done => setTimeout(done, 150))")

    def troubles(self, home: str) -> list:
        """Requests to other places, errors, and programs of others that ran."""
        found = [event["params"]["request"]["url"] for event in self.events if event.get("method") == "Network.requestWillBeSent" and not event["params"]["request"]["url"].startswith((home, "data:", "about:"))]
        found += [event["params"]["entry"]["text"] for event in self.events if event.get("method") == "Log.entryAdded" and event["params"]["entry"]["level"] == "error"]
        found += [str(event["params"]) for event in self.events if event.get("method") == "Runtime.exceptionThrown" or (event.get("method") == "Runtime.consoleAPICalled" and event["params"]["type"] == "error")]
        return found + self.ask("RAN")


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM:
        pytest.skip("there is no Chromium")
    page = Watcher()
    yield page
    page.close()


@pytest.fixture(scope="module")
def homes(site):
    """The site as a folder, and from a server."""
    with serve_pages(site) as found:
        yield found


def list_pages(site: Path) -> list[str]:
    """Each kind of page, the hostile run among them."""
    names = {path.stem[-4:]: path.stem for path in (site / "runs").glob("*.html")}
    evil = next(name for name in names.values() if name.startswith("evil"))
    return ["index.html", "index.html#seeds=1&plot=points", f"runs/{names['7zfe']}.html", f"runs/{evil}.html", "studies/searched.html", "compare.html", f"compare.html#runs={names['7zfe']},{names['96zw']}", f"compare.html#runs={evil},{names['7zfe']},{names['rvgg']}"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "http"])
def test_pages_ask_for_nothing_elsewhere_and_nothing_hostile_runs(browser, site, homes, way):
    for page in list_pages(site):
        for dark, width in ((False, 1400), (True, 390)):
            browser.show(homes[way] + page, dark, width)
            assert browser.troubles(homes[way]) == [], page
            assert browser.ask("document.documentElement.scrollWidth <= innerWidth"), f"{page} scrolls sideways at {width}"
            assert browser.ask("document.documentElement.dataset.theme") == ("dark" if dark else "light")


@pytest.mark.slow
def test_nothing_hostile_runs_without_the_policy_either(browser, site, tmp_path):
    """The sanitiser alone must do: a page may be shown inside of another."""
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    for page in copy.rglob("*.html"):
        page.write_text(re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text()))
    for page in list_pages(site):
        browser.show(f"{copy.as_uri()}/{page}")
        browser.ask("document.querySelectorAll('main *').forEach(one => { for (const kind of ['mouseover', 'focus', 'toggle', 'click']) if (!one.closest('a[href], button')) one.dispatchEvent(new Event(kind)); })")
        assert browser.troubles(copy.as_uri()) == [], page


@pytest.mark.slow
def test_the_watcher_sees_what_runs_and_what_is_fetched(browser, tmp_path):
    (tmp_path / "bad.html").write_text("<script>ran('it')</script><img src='http://192.0.2.1/x.png'><script>no_such_thing()</script>")
    browser.show((tmp_path / "bad.html").as_uri())
    found = browser.troubles(tmp_path.as_uri())
    assert "it" in found and any("192.0.2.1" in one for one in found) and any("no_such_thing" in one for one in found)


@pytest.mark.slow
def test_the_table_sorts_filters_groups_and_keeps_it_in_the_address(browser, site, homes, shipped, tmp_path):
    browser.show(homes["file"] + "index.html")
    rows = "[...document.querySelectorAll('#body tr')].map(row => row.querySelector('th').textContent.slice(-4))"
    assert len(browser.ask(rows)) == 11
    browser.ask("document.getElementById('sort-metrics.test_accuracy').click()")
    best = browser.ask(rows)
    values = sorted(find_runs("experiment = step-size and state = completed", records=[shipped]), key=lambda run: -run.metrics["test_accuracy"])
    assert best[0] == values[0].run[-4:]
    browser.ask("(() => { const field = document.querySelector('[data-filter=\"params.lr\"]'); field.value = '>= 0.01'; field.dispatchEvent(new Event('input')); })()")
    kept = set(browser.ask(rows))
    assert kept == {run.run[-4:] for run in values if run.parameters["lr"] >= 0.01} | {next(site.glob("runs/evil-*.html")).stem[-4:]}
    link = browser.ask("location.href")
    browser.show(link)
    assert set(browser.ask(rows)) == kept and browser.ask("document.querySelector('[aria-sort=descending] button').id") == "sort-metrics.test_accuracy"
    browser.show(homes["file"] + "index.html#seeds=1&f.experiment=%3D+step-size")
    shown = browser.ask("document.getElementById('body').textContent")
    from ml_repo.results.seed_groups import group_runs
    spreads = {str(group.spread("test_accuracy")) for group in group_runs(values)}
    assert len(spreads) == 3 and all(spread in shown for spread in spreads), (spreads, shown)
    browser.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    browser.show(homes["file"] + "index.html#columns=run,params.lr,note")
    browser.ask("document.getElementById('csv').click()")
    end = time.monotonic() + LIMIT_S
    while not (tmp_path / "runs.csv").exists():
        assert time.monotonic() < end
        time.sleep(0.1)
    import csv
    lines = list(csv.reader((tmp_path / "runs.csv").open(newline="")))
    assert lines[0] == ["run", "lr", "note"] and len(lines) == 12


@pytest.mark.slow
def test_pinned_columns_stay_at_the_left_as_long_as_there_is_room(browser, homes):
    shown = "[...document.querySelectorAll('#head tr:first-child th button')].map(one => one.firstChild.data)"
    places = """(() => { const table = document.querySelector('.grid'), box = table.parentElement; box.scrollLeft = 9999;
        return [...document.querySelectorAll('#head .pin, #body tr:first-child .pin')].map(one => Math.round(one.getBoundingClientRect().left - box.getBoundingClientRect().left)); })()"""
    try:
        browser.show(homes["file"] + "index.html#plot=none", width=1300)
        before = browser.ask(shown)
        browser.ask("document.querySelector('.tools summary').click(); document.getElementById('pin-metrics.val_accuracy').focus(); 0")
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r")
        browser.call("Input.dispatchKeyEvent", type="keyUp", key="Enter", code="Enter", windowsVirtualKeyCode=13)
        assert browser.ask("document.activeElement.id + document.activeElement.ariaPressed") == "pin-metrics.val_accuracytrue"
        browser.ask("document.getElementById('pin-tags').click(); document.querySelector('.tools summary').click(); 0")  # it was not shown
        assert browser.ask(shown)[:4] == ["run", "val_accuracy", "tags", before[1]] and "pins=metrics.val_accuracy%2Ctags" in browser.ask("location.hash")
        found = browser.ask(places)
        assert found[:3] == found[3:6] == found[6:] == sorted(set(found)) and found[0] > 0, found
        browser.show(browser.ask("location.href"), width=390)
        assert browser.ask(shown)[:3] == ["run", "val_accuracy", "tags"]
        assert [one >= 0 for one in browser.ask(places)[:3]] == [True, True, False], "the third leaves no room for the others"
        browser.ask("document.querySelector('.tools summary').click(); 0")
        assert browser.ask("document.querySelector('.menu').getBoundingClientRect().right <= innerWidth")
        browser.ask("document.getElementById('pin-metrics.val_accuracy').click(); document.getElementById('column-tags').click(); 0")
        assert browser.ask(shown) == before and "pins" not in browser.ask("location.hash")
    finally:
        browser.show(homes["file"] + "index.html", width=1300)


@pytest.mark.slow
def test_keys_and_ticks_lead_to_a_comparison_that_shows_what_differs(browser, homes):
    browser.show(homes["file"] + "index.html#f.experiment=%3D+step-size&sort=metrics.val_accuracy")

    def press(key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key=key, code=key if key != " " else "Space", windowsVirtualKeyCode=code, text=" " if key == " " and kind == "keyDown" else "")

    for place in (0, 8):
        browser.ask(f"document.querySelectorAll('#body input')[{place}].focus()")
        press(" ", 32)
    press("Tab", 9)
    assert browser.ask("document.activeElement.tagName") == "A"  # the name of the run comes after its tick
    assert browser.ask("document.getElementById('compare').textContent") == "Compare 2 runs"
    browser.ask("document.getElementById('compare').click()")
    browser.wait("Over the seeds")
    text = browser.ask("document.getElementById('result').innerText")
    for part in ("larger than the noise", "Learning curves", "Figures", "source differs", "lr", "weights of model"):
        assert part in text, part
    assert "batch_size" not in text.partition("Metrics")[0]
    browser.ask("document.getElementById('all').click()")
    assert "batch_size" in browser.ask("document.getElementById('result').innerText").partition("Metrics")[0]
    assert browser.ask("[...document.querySelectorAll('.pair img')].every(image => image.complete && image.naturalWidth > 0)")


@pytest.mark.slow
def test_the_theme_button_and_drawing_on_an_axis(browser, homes):
    browser.show(homes["file"] + "index.html#f.experiment=%3D+step-size")
    browser.ask("document.getElementById('theme').click(); document.getElementById('theme').click()")
    assert browser.ask("document.documentElement.dataset.theme") == "dark" and browser.ask("document.getElementById('theme').textContent") == "Theme: dark"
    browser.ask("document.getElementById('theme').click(); document.getElementById('plot').scrollIntoView()")
    box = browser.ask("(() => { const box = document.getElementById('front').getBoundingClientRect(); return [box.x, box.y, box.width, box.height]; })()")
    x = box[0] + 60
    for kind, y in (("mousePressed", 40), ("mouseMoved", 80), ("mouseReleased", 90)):
        browser.call("Input.dispatchMouseEvent", type=kind, x=x, y=box[1] + y, button="left", buttons=1, clickCount=1)
    time.sleep(0.3)
    assert len(browser.ask("[...document.querySelectorAll('[data-filter]')].map(one => one.value).filter(Boolean)")) >= 1
    assert re.search(r"f\.params\.\w+=|f\.experiment", browser.ask("location.hash"))


@pytest.mark.slow
def test_one_file_works_alone(browser, records, tmp_path):
    both = [next(records.glob(f"*-{end}")) for end in ("7zfe", "96zw")]
    for name, folders in {"one": both[:1], "both": both, "evil": [next(records.glob("evil-*")), both[0]]}.items():
        (tmp_path / f"{name}.html").write_text(make_report(folders, find_runs(records=[records])))
        browser.show((tmp_path / f"{name}.html").as_uri())
        assert browser.troubles((tmp_path / f"{name}.html").as_uri()) == [], name
    browser.show((tmp_path / "both.html").as_uri())
    assert "larger than the noise" in browser.text() and browser.ask("document.querySelectorAll('.pair img').length") >= 4


AXE = ("axe-core@4.14.1", "e6b0ce02b84d892e2e33e403485e7f3d6c29e2be6df65daf44d89ba564139745")


@pytest.fixture(scope="module")
def axe(tmp_path_factory) -> str:
    """The auditor, from npm, at a fixed version and hash."""
    folder = tmp_path_factory.mktemp("axe")
    if not shutil.which("npm") or subprocess.run(["npm", "pack", AXE[0], "--silent"], cwd=folder, capture_output=True, timeout=LIMIT_S).returncode:
        pytest.skip("npm cannot fetch axe-core")
    file = next(folder.glob("*.tgz"))
    assert hashlib.sha256(file.read_bytes()).hexdigest() == AXE[1]
    with tarfile.open(file) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.mark.slow
def test_the_pages_pass_an_audit_of_accessibility(browser, site, homes, axe):
    for page in list_pages(site):
        for dark, width in ((False, 1400), (True, 1400), (False, 390)):
            browser.show(homes["file"] + page, dark, width)
            browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            browser.ask(axe + "; 0")
            found = browser.ask("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(one => [one.impact, one.id, one.nodes.length, one.nodes[0].html.slice(0, 200), one.nodes[0].failureSummary]))")
            assert [one for one in found if one[0] in ("serious", "critical")] == [], f"{page} dark={dark} {width}"
