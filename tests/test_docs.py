"""Guide and reference: complete, in step, and pages that load nothing from elsewhere, on a phone and in the dark."""
import json
import os
import re
import signal
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import pytest
import yaml
from browser import serve_pages
from conftest import BIN, LIMIT_S, ROOT, await_true, checked, needs_example, run
from test_record import git
from test_site import axe, browser  # noqa: F401  fixtures

from ml_repo.docs.chapters import _STEPS, read_chapter
from ml_repo.docs.contents import read_contents
from ml_repo.docs.metadata import read_metadata
from ml_repo.records.record import open_record

NOTEBOOKS = sorted(str(path.relative_to(ROOT / "nbs")) for path in (ROOT / "nbs").rglob("*.ipynb") if not path.parent.name.startswith((".", "_")))
GUIDES = [name for name in NOTEBOOKS if name.startswith("guides/")]


def test_every_notebook_has_its_place_in_the_contents():
    assert sorted(name for section in read_contents(read_metadata(ROOT)) for name in section.notebooks) == NOTEBOOKS


def test_the_contents_list_nothing_that_is_not_there():
    entries = yaml.safe_load((ROOT / "nbs" / "sidebar.yml").read_text())["website"]["sidebar"]["contents"]
    listed = [name for entry in entries if isinstance(entry, dict) and isinstance(entry["contents"], list) for name in entry["contents"]]
    assert [name for name in listed if name not in NOTEBOOKS] == []


def test_links_between_notebooks_lead_somewhere():
    broken = []
    for name in NOTEBOOKS:
        for cell in json.loads((ROOT / "nbs" / name).read_text())["cells"]:
            if cell["cell_type"] == "markdown":
                links = re.findall(r"\]\(([^)\s#]+\.ipynb)", "".join(cell["source"]))
                broken += [(name, link) for link in links if "://" not in link and not (ROOT / "nbs" / name).parent.joinpath(link).is_file()]
    assert broken == []


def test_quarto_would_ask_for_nothing_elsewhere():
    quarto = yaml.safe_load((ROOT / "nbs" / "_quarto.yml").read_text())
    page = quarto["format"]["html"]
    assert page["html-math-method"] == "mathml" and set(page["theme"]) == {"light", "dark"}
    assert (ROOT / "nbs" / page["css"]).is_file() and quarto["metadata-files"] == ["nbdev.yml", "sidebar.yml"]
    assert "http" not in (ROOT / "nbs" / "_quarto.yml").read_text() + (ROOT / "nbs" / "styles.css").read_text()


def test_nbdev_takes_our_steps_and_knows_those_that_are_left_out():
    from nbdev.config import get_config
    from nbdev.processors import FilterDefaults

    names = {step.__name__ for step in FilterDefaults().base_procs()}
    assert set(get_config()["skip_procs"].split(",")) <= names, "nbdev has renamed a step"
    assert [step.__name__ for step in FilterDefaults().procs()][-1] == "ShowDefinitions"
    assert set(_STEPS) <= names - set(get_config()["skip_procs"].split(","))
    assert get_config().custom_sidebar, "nbdev would write another sidebar.yml"


def test_nothing_calls_the_commands_that_install_quarto():
    files = [ROOT / "Makefile", ROOT / "docker" / "Dockerfile", *(ROOT / ".github" / "workflows").glob("*.yml"), *(ROOT / ".ci").iterdir(), *(ROOT / "ml_repo").glob("*.py")]
    assert [file for file in files if re.search(r"nbdev_(docs|preview|proc_nbs|readme|prepare)\b|install_quarto", file.read_text())] == []


@pytest.mark.parametrize("file", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda file: file.stem)
def test_workflows_name_actions_by_commit(file):
    uses = re.findall(r"uses: (\S+)", file.read_text())
    assert uses and all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", one) for one in uses)


def test_the_workflow_may_write_pages_only():
    text = (ROOT / ".github" / "workflows" / "pages.yml").read_text()
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"} and workflow["jobs"]["publish"]["permissions"] == {"pages": "write", "id-token": "write"}
    assert "make docs" in text and "path: _docs" in text


@needs_example
def test_the_readme_is_short_and_its_links_and_pictures_are_there():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120 and "`make test`" in text and "make docs" in text
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    assert len(links) > 10 and [link for link in links if not (ROOT / link).exists()] == []
    pictures = [link for link in links if link.endswith(".png")]
    assert pictures and all((ROOT / picture).stat().st_size < 100_000 for picture in pictures)


@pytest.mark.parametrize("guide", GUIDES)
def test_guides_are_executed_and_small(guide):
    text = (ROOT / "nbs" / guide).read_text()
    code = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert "skip_exec" not in text and len(text) < 250_000
    assert any(cell["outputs"] for cell in code), "a guide that shows nothing"
    assert not any(output["output_type"] == "error" or output.get("name") == "stderr" for cell in code for output in cell["outputs"])
    assert str(ROOT) not in text and "/root/" not in text


def test_a_chapter_has_the_table_of_a_function_and_no_hidden_cell():
    text = "\n".join(cell["source"] for cell in read_chapter(ROOT / "nbs" / "verify" / "17_verify.ipynb")["cells"])
    assert "### `verify_run`" in text and '| <code class="literal">run</code> | `Record \\| str \\| PathLike` |' in text and "<summary>Source of" in text
    assert "nbdev_export" not in text and "#|" not in text


def write_files(folder: Path, files: dict[str, str | list]) -> Path:
    """Write files, and notebooks of a text and code cells that have printed their names."""
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            (folder / path).write_text(content)
            continue
        cells = [nbformat.v4.new_markdown_cell(content[0])]
        for source in content[1:]:
            printed = nbformat.v4.new_output("stream", name="stdout", text=f"printed by {path}")
            cells.append(nbformat.v4.new_code_cell(source, outputs=[printed]))
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / path)
    return folder


def build_pages(project: Path, *options: str) -> tuple[dict[str, str], str]:
    """The pages of a project, and what was printed."""
    done = run("ml-repo", "docs", *options, cwd=project)
    assert done.returncode == 0, done.stdout
    pages = {str(page.relative_to(project / "_docs")): page.read_text() for page in (project / "_docs").rglob("*.html")}
    assert not [page for page, text in pages.items() if "ml_repo.docs" in text], "a page of somebody else's project tells of ours"
    return pages, done.stdout


def test_a_new_project_has_its_pages(tmp_path):
    project = tmp_path / "finches"
    checked("ml-repo", "new", "finches", "--with", "sklearn", "--no-lock", cwd=tmp_path)
    pages, printed = build_pages(project, "--no-experiments")
    assert printed.splitlines() == [f"Open {(project / '_docs' / 'index.html').as_uri()}"]
    assert "<title>finches 0.1.0</title>" in pages["index.html"] and "Where is what" in pages["index.html"]
    data = re.sub(r"<[^>]+>", "", pages["api/data.html"])
    assert "finches.data is made from nbs/00_data.ipynb" in data and "ml_repo.data" not in data and "split_digits(seed=0" in data
    assert "How well does a small model" in pages["train.html"] and "MLPClassifier" in pages["train.html"]
    assert git(project, "status", "--porcelain") == ""


def test_a_flat_repository_has_its_pages_and_is_told_what_is_wrong_with_them(tmp_path):
    project = write_files(tmp_path / "bird songs", {
        "settings.ini": "[DEFAULT]\npapermill_engine = ml_repo\n",
        "README.md": "# Songs\n\n![A bird](a%20bird.svg) See [first](1%20explore.ipynb), [runs](experiments/) and [gone](gone.md).\n",
        "a bird.svg": '<svg xmlns="http://www.w3.org/2000/svg"/>',
        "1 explore.ipynb": ["# Explore\n\nAn introduction that is kept, and $\\frac{1}{2}$", "import os", "listen()"],
        "10 compare.ipynb": ["Without a title"],
        "experiments/a/run.ipynb": ["# Executed"], ".venv/lib/b.ipynb": ["# Installed"], "damaged.ipynb": "{"})
    pages, printed = build_pages(project)
    assert {"index.html", "1-explore.html", "10-compare.html", "damaged.html", "experiments/index.html"} <= set(pages)
    assert not [page for page in pages if re.search("run|/b.html", page)]
    assert "<title>bird songs</title>" in pages["index.html"] and 'href="1-explore.html"' in pages["index.html"]
    assert 'href="experiments/index.html"' in pages["index.html"] and 'alt="A bird"' in pages["index.html"]
    first = pages["1-explore.html"]
    assert "printed by 1 explore.ipynb" in first and "An introduction that is kept" in first and "<mfrac>" in first and ">os<" in first
    told = printed.partition("_docs/")[0].splitlines()
    assert told[0].startswith("damaged.ipynb cannot be read") and told[1] == "gone.md in README.md: the link goes nowhere" and len(told) == 3


def test_a_project_with_src_and_pyproject_has_its_pages(tmp_path):
    about = '[project]\nname = "bird-songs"\nversion = "2.1"\nauthors = [{name = "Ada"}]\n'
    project = write_files(tmp_path / "clone", {
        "pyproject.toml": about, "src/bird_songs/__init__.py": "",
        "src/bird_songs/feathers.py": '"""Colours."""\n\ndef count(\n    feathers: list[str],  # of a bird\n) -> int:\n'
                                      '    """Count them.\n\n    Args:\n        feathers: one a colour\n    """\n',
        "src/bird_songs/broken.py": "def (", "notebooks/listen.ipynb": ["# Listen\n# Again", "1"],
        "notebooks/00_core.ipynb": ["# Core\n\n> Sounds", "#| default_exp sounds.core", "#| export\ndef sing(): pass"]})
    pages, printed = build_pages(project, "--no-experiments")
    assert printed.splitlines()[0].startswith("src/bird_songs/broken.py cannot be read: SyntaxError") and len(printed.splitlines()) == 2
    feathers = re.sub(r"<[^>]+>", "", pages["api/feathers.html"])
    assert "bird_songs.feathers" in feathers and "Colours." in feathers and "count(feathers)" in feathers and "of a bird" in feathers
    assert "<title>bird-songs 2.1</title>" in pages["index.html"] and "Ada" in pages["index.html"]
    assert re.findall(r'<li><p><a class="reference external" href="([^"]+)">', pages["index.html"]) == ["listen.html", "api/sounds/core.html"]
    assert "bird_songs.sounds.core</span>" in pages["api/sounds/core.html"] and "<h2>Again" in pages["listen.html"]


def test_a_broken_link_in_our_own_pages_is_an_error(tmp_path):
    project = write_files(tmp_path, {"settings.ini": "[DEFAULT]\nlib_name = ml_repo\n", "nbs/index.ipynb": ["# Ours\n\n[gone](gone.ipynb)"]})
    done = run("ml-repo", "docs", cwd=project)
    assert done.returncode and "gone.ipynb in nbs/index.ipynb: the link goes nowhere" in done.stdout and not (project / "_docs").exists()


def write_birds(project: Path, function: str = "load", prose: str = "All of them.", title: str = "Data", picture: bytes = b"1") -> None:
    """Write a project with a module, two notebooks that refer to it, a picture and a record."""
    write_files(project, {
        "settings.ini": "[DEFAULT]\nlib_name = birds\nlib_path = birds\nnbs_path = nbs\n", "nbs/index.ipynb": ["# Birds\n\nSee `load` and [data](00_data.ipynb)."],
        "nbs/00_data.ipynb": [f"# {title}\n\n> Songs\n\n{prose}", "#| default_exp data", f"#| export\ndef {function}(): pass"],
        "nbs/01_use.ipynb": ["# Use\n\nWith `load` or `read`, as in [the data](00_data.ipynb)", "load()"], "nbs/02_other.ipynb": ["# Other\n\n$x^2$"],
        "birds/__init__.py": "", "birds/_modidx.py": f"# Autogenerated by nbdev\n\nd = {{'syms': {{'birds.data': {{'birds.data.{function}': ()}}}}}}\n"})
    shown = nbformat.read(project / "nbs" / "02_other.ipynb", 4)
    data = {"image/svg+xml": f'<svg xmlns="http://www.w3.org/2000/svg"><desc>{picture}</desc></svg>', "text/plain": "a picture"}
    shown.cells.append(nbformat.v4.new_code_cell("draw()", outputs=[nbformat.v4.new_output("display_data", data=data)]))
    nbformat.write(shown, project / "nbs" / "02_other.ipynb")
    if not (project / "experiments").exists():
        write_record(project, 0.5)


def write_record(project: Path, loss: float) -> None:
    """Add a record with a metric."""
    record = open_record(project / "experiments", "nbs/train.ipynb")
    (record.folder / "train.ipynb").write_text(json.dumps({"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    record.close("completed", metrics=[{"name": "loss", "split": "test", "value": loss}])


def note(project: Path) -> None:
    """Write a note to the record that is there."""
    checked("ml-repo", "note", next(project.glob("experiments/train-*")).name, "as it sang", cwd=project)


def list_other_order(project: Path) -> None:
    """Put the notebooks into another order."""
    (project / "nbs" / "sidebar.yml").write_text("website:\n  sidebar:\n    contents:\n      - index.ipynb\n      - section: All\n        contents: [02_other.ipynb, 00_data.ipynb, 01_use.ipynb]\n")


def interrupt(project: Path) -> None:
    """Kill a build that writes all pages again, and take back what it was made for."""
    stamp = (project / "_sphinx" / "html" / "02_other.html").stat().st_mtime_ns
    write_birds(project, title="Voices")
    build = subprocess.Popen([BIN / "ml-repo", "docs"], cwd=project, start_new_session=True, stdout=subprocess.DEVNULL)
    page = project / "_sphinx" / "html" / "02_other.html"
    await_true(lambda: page.is_file() and page.stat().st_mtime_ns != stamp, "a page is written")
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    write_birds(project)


CHANGES = {"prose": lambda project: write_birds(project, prose="Nearly all."), "function": lambda project: write_birds(project, "read"),
           "title": lambda project: write_birds(project, title="Voices"), "picture": lambda project: write_birds(project, picture=b"2"),
           "added": lambda project: write_files(project, {"nbs/01_more.ipynb": ["# More\n\nSee [other](02_other.ipynb)"]}),
           "removed": lambda project: (project / "nbs" / "02_other.ipynb").unlink(), "order": list_other_order, "note": note,
           "record": lambda project: write_record(project, 0.25), "interrupted": interrupt}


@pytest.mark.parametrize("change", [name if name == "prose" else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES])
def test_changed_pages_are_what_a_whole_build_makes(change, tmp_path):
    write_birds(tmp_path)
    checked("ml-repo", "docs", cwd=tmp_path)
    built = {file: file.stat().st_mtime_ns for file in (tmp_path / "_sphinx" / "html").rglob("*.html")}
    CHANGES[change](tmp_path)
    checked("ml-repo", "docs", cwd=tmp_path)
    again = {file.relative_to(tmp_path / "_sphinx" / "html").as_posix() for file, stamp in built.items() if file.is_file() and file.stat().st_mtime_ns != stamp}
    if change == "prose":
        assert "api/data.html" in again and not again & {"01_use.html", "02_other.html"}, again
    checked("ml-repo", "docs", "--all", "-o", tmp_path / "whole", cwd=tmp_path)
    changed, whole = ({file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
                      for folder in (tmp_path / "_docs", tmp_path / "whole"))
    assert changed.keys() == whole.keys() and [name for name in whole if changed[name] != whole[name]] == []


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    """All pages, made by the command; the second time only what has changed."""
    folder = tmp_path_factory.mktemp("pages") / "docs"
    checked("ml-repo", "docs", "-o", folder)
    stamps = {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}
    checked("ml-repo", "docs", "-o", folder)
    changed = [file for file, stamp in stamps.items() if file.stat().st_mtime_ns != stamp]
    assert len(changed) < 5, changed
    return folder


class Page(HTMLParser):
    """What a page loads, where it leads, and the places on it."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.links, self.places = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.add(found["href"])
        elif tag != "a":
            self.loads |= {found[name] for name in ("src", "href", "data") if found.get(name) and not found[name].startswith("#") and "canonical" not in (found.get("rel") or "")}


@pytest.mark.slow
def test_every_link_of_every_page_leads_somewhere_and_nothing_is_loaded_from_elsewhere(pages):
    seen = {file: Page(file.read_text()) for file in pages.rglob("*.html")}
    assert len(seen) > 120
    broken = []
    for file, page in seen.items():
        broken += [(file.name, load) for load in page.loads if re.match(r"(https?:)?//", load)]
        for link in page.links | {load for load in page.loads if not load.startswith("data:")}:
            path, place = urldefrag(link)
            if re.match(r"[a-z]+:|//", link) or "?" in path:
                continue
            target = (file.parent / unquote(path)).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.exists() or (place and target in seen and "experiments" not in target.parts and unquote(place) not in seen[target].places):
                broken.append((str(file.relative_to(pages)), link))
    assert broken == []


SHOWN = ["index.html", "guides/first_run.html", "guides/design.html", "guides/reproduce.html", "api/verify/verify.html", "api/project/training.html", "commands.html", "modules.html", "changelog.html", "experiments/index.html", "search.html"]


@pytest.fixture(scope="module")
def homes(pages):
    """The pages as files, and from a server."""
    with serve_pages(pages) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "http"])
def test_pages_ask_for_nothing_elsewhere_and_fit_the_screen(browser, homes, way):  # noqa: F811
    for page in SHOWN:
        for dark, width in ((False, 1400), (False, 1320), (True, 390)):
            browser.show(homes[way] + page, dark, width)
            assert browser.troubles(homes[way]) == [], page
            assert browser.ask("document.documentElement.scrollWidth") <= width, f"{page} moves sideways at {width}"


def search(browser, home: str, words: str) -> list:  # noqa: F811
    browser.show(f"{home}search.html?q={words}", False, 1400)
    end = time.monotonic() + LIMIT_S
    while not (found := browser.ask("[...document.querySelectorAll('#search-results li a')].map(one => one.getAttribute('href'))")):
        assert time.monotonic() < end, f"nothing is found for {words}"
        time.sleep(0.2)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("way", ["file", "http"])
def test_the_search_finds_guides_and_functions(browser, homes, way):  # noqa: F811
    assert any(link.startswith("api/verify/verify.html") for link in search(browser, homes[way], "verify_run"))
    assert search(browser, homes[way], "determinism")[0].startswith("guides/reproduce.html")
    first = [link.partition("/")[0] for link in search(browser, homes[way], "seed")]
    assert first[0] == "guides" and "api" not in first[:first.count("guides")]  # guides before the reference


@pytest.mark.slow
def test_a_newcomer_finds_what_was_tried_what_was_best_whether_it_holds_and_how_to_get_it_back(browser, homes):  # noqa: F811
    browser.show(homes["file"] + "index.html", False, 1400)
    browser.click("Experiments", "a")
    text = browser.wait("step-size")
    count = len(list((ROOT / "experiments").glob("*/record.json")))
    assert f"{count} runs" in text and "val_accuracy 0.977" in text and "train-20261123T132802Z-nm4u" in text
    assert "identical" in text and "ml-repo verify train-" in text and "ml-repo checkout" in text
    browser.click("Guide", "a")
    browser.wait("Begin")


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_the_pages_pass_an_audit_of_accessibility(browser, homes, axe, dark):  # noqa: F811
    for page in SHOWN:
        for width in (1400, 390):
            browser.show(homes["file"] + page, dark, width)
            browser.ask("document.querySelectorAll('details').forEach(one => { one.open = true; })")
            browser.ask(axe + "; 0")
            found = browser.ask("axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map(one => [one.impact, one.id, one.nodes.length, one.nodes[0].html.slice(0, 200), one.nodes[0].failureSummary]))")
            assert [one for one in found if one[0] in ("serious", "critical")] == [], f"{page} dark={dark} {width}"
