"""Notebooks as strangers write them run where papermill runs them, their records hold the true files, and the verdicts are right.

`python tests/test_stranger_repositories.py [NAME ...] [--jobs N] [--json FILE]` tries them and prints a table.
"""
import argparse
import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import nbformat
import pytest
from conftest import ROOT
from filelock import FileLock
from stranger_repositories import STRANGERS, Change, Made, Stranger

pytestmark = pytest.mark.own_process

PACKAGES = ["seaborn", "plotly", "statsmodels", "polars", "lightgbm", "xgboost-cpu", "sympy", "networkx", "dask", "altair", "bokeh",
            "folium", "ipywidgets", "openpyxl", "netCDF4", "duckdb", "opencv-python-headless"]
ALONE = ["torch==2.13.0+cpu"]  # where pip does not find it, notebooks that need it are skipped
LIMIT_S = 900  # until a command is given up
PROJECT = '''[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{name}"
version = "1.0"
{more}'''


# --- the environment ---------------------------------------------------------------------------------------------------
def make_venv(folder: Path, *paths: str | Path) -> Path:
    """Make an environment without pip that also sees `paths` and their `.pth` files, and give its Python."""
    if not (folder / "bin" / "python").exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (locate_library(folder) / "others.pth").write_text("".join(f"import site; site.addsitedir({str(path)!r})\n" for path in paths))
    programs = {"ml-repo": "from ml_repo.cli.app import main; main()", "papermill": "from papermill.cli import papermill; papermill()"}
    for name, call in programs.items():
        script = folder / "bin" / name
        script.write_text(f"#!{folder}/bin/python\n{call}\n")
        script.chmod(0o755)
    return folder / "bin" / "python"


def locate_library(environment: Path) -> Path:
    """Find the folder `site-packages` of an environment."""
    return Path(sysconfig.get_path("purelib", vars={"base": str(environment)}))


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where that is not possible."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def install(python: Path, *words: str | Path) -> int:
    """Install with pip, and give its exit status."""
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run([str(word) for word in command], stdout=subprocess.DEVNULL).returncode


def install_libraries(python: Path, folder: Path) -> None:
    """Install packages of one's own into site-packages, with a RECORD as pip writes it."""
    for stranger in STRANGERS:
        for name, text in stranger.library.items():
            put(folder / stranger.name / name, text)
        if stranger.library:
            package = next(iter(stranger.library)).split("/")[0]
            put(folder / stranger.name / "pyproject.toml", PROJECT.format(name=package, more=""))
            install(python, "--no-deps", "--no-build-isolation", folder / stranger.name)


@cache
def prepare_environment() -> Path:
    """Install what strangers import beside the packages of this environment, once, and give the folder of the new one."""
    there = sorted(f"{found.name}=={found.version}" for found in distributions())
    key = hashlib.sha256(json.dumps([PACKAGES, ALONE, sys.version, there]).encode()).hexdigest()[:8]
    caches = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ml_repo-tests"
    folder = Path(os.environ.get("STRANGERS_ENVIRONMENT", caches / f"strangers-{key}"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        _fill(folder)
    sys.path.append(str(locate_library(folder)))  # what makes the files of some repositories needs the same packages
    return folder


def _fill(folder: Path) -> None:
    """Install into the folder of an environment what is not there yet."""
    done = folder / "installed"
    python = make_venv(folder, ROOT)
    if not done.exists():
        own, others = Path(sysconfig.get_path("purelib")), locate_library(folder)
        kept = shutil.ignore_patterns("__editable__*", "direct_url.json", "pip", "pip-*")
        shutil.copytree(own, others, symlinks=True, ignore=kept, copy_function=link, dirs_exist_ok=True)
        pinned = "".join(f"{found.name}=={found.version}\n" for found in distributions() if found.name != "ml_repo")
        (folder / "pinned.txt").write_text(pinned)
        words = ("--only-binary", ":all:", "-c", folder / "pinned.txt")
        if install(python, *words, *PACKAGES):
            for package in PACKAGES:  # one that cannot be had keeps none of the others away
                install(python, *words, package)
        for package in ALONE:
            install(python, *words, package)
        install_libraries(python, folder / "libraries")
        done.touch()
    (folder / "home").mkdir(exist_ok=True)


# --- one repository ----------------------------------------------------------------------------------------------------
@dataclass
class Row:
    """What was found of one notebook, or of one change to what it needs."""
    name: str
    expected: str
    found: str = ""
    faults: list[str] = field(default_factory=list)  # each with the kind of fault before a colon
    wall_s: float = 0.0


class Site:
    """A repository with a notebook of a stranger in it."""

    def __init__(self, stranger: Stranger, folder: Path):
        self.stranger, self.folder, self.environment = stranger, folder / "work", prepare_environment()
        self.python = self.environment / "bin" / "python"
        self.home = folder / "home" if stranger.home else self.environment / "home"
        self.undo: list[tuple[Path, bytes | None]] = []
        self.home.mkdir(exist_ok=True, parents=True)
        self.folder.mkdir(parents=True)
        if stranger.is_editable:
            self.environment = folder / "venv"
            self.python = make_venv(self.environment, locate_library(prepare_environment()))
        self.library = locate_library(self.environment)
        for part, root in ((stranger.files, self.folder), (stranger.ignored, self.folder), (stranger.home, self.home)):
            for name, made in part.items():
                put(root / name, made)
        self.write_notebook()
        kept = "".join(f"/{name}\n" for name in {Path(name).parts[0] for name in stranger.ignored})
        (self.folder / ".gitignore").write_text(f"{kept}experiments/\n__pycache__/\n")
        (self.folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
        self.git("init", "--quiet", "--initial-branch", "main")
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "Begin")
        if stranger.is_editable:
            assert not install(self.python, "--no-deps", "--no-build-isolation", "--editable", self.folder)
            shutil.rmtree(self.folder / "build", ignore_errors=True)
            (self.folder / ".gitignore").open("a").write("*.egg-info/\n")
            self.git("commit", "--quiet", "--all", "--message", "Ignore what pip makes")

    def variables(self, **more: str) -> dict[str, str]:
        """The variables of a process of this person."""
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTEST_CURRENT_TEST", "PYTHONPATH", "VIRTUAL_ENV")}
        return inherited | {"HOME": str(self.home), "PATH": f"{self.environment}/bin{os.pathsep}{os.environ['PATH']}",
                            "MPLCONFIGDIR": str(prepare_environment() / "matplotlib")} | self.stranger.variables | more

    def git(self, *words: str) -> None:
        subprocess.run(["git", "-C", self.folder, "-c", "user.name=you", "-c", "user.email=you@localhost", *words], check=True)

    def write_notebook(self) -> None:
        """Write the notebook from its text."""
        cells = []
        for block in re.split(r"^# %%", self.stranger.text, flags=re.MULTILINE)[1:]:
            kind, _, source = block.partition("\n")
            make = nbformat.v4.new_markdown_cell if "text" in kind else nbformat.v4.new_code_cell
            cells.append(make(source.strip("\n"), metadata={"tags": ["parameters"]} if "parameters" in kind else {}))
        content = json.loads(nbformat.writes(nbformat.v4.new_notebook(cells=cells, metadata=self.stranger.metadata)))
        if self.stranger.edit:
            self.stranger.edit(content)
        path = self.folder / self.stranger.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n")

    def call(self, *command: str, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess:
        """Run a command of the environment."""
        program = self.environment / "bin" / command[0]
        return subprocess.run([program, *command[1:]], cwd=cwd or self.folder, env=self.variables(**more), text=True, timeout=LIMIT_S,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def run(self, *options: str, **more: str) -> subprocess.CompletedProcess:
        """Run the notebook from its folder, as its author does."""
        place = self.folder / self.stranger.place
        return self.call("ml-repo", "run", place.name, *self.stranger.options, *options, cwd=place.parent, **more)

    def records(self) -> dict[str, dict]:
        """All records, the oldest first."""
        paths = sorted(self.folder.glob("experiments/*/record.json"))
        return {path.parent.name: json.loads(path.read_text()) for path in paths}

    def list_files(self) -> set[tuple[str, float]]:
        """The files of the project with their times, without records."""
        return {(str(path.relative_to(self.folder)), path.stat().st_mtime_ns) for path in self.folder.rglob("*")
                if path.is_file() and not {".git", "experiments", "__pycache__"} & {*path.relative_to(self.folder).parts}}

    def locate(self, name: str) -> Path:
        """Find a file that a change names."""
        if name.startswith("~/"):
            return self.home / name[2:]
        return self.library / name[4:] if name.startswith("lib:") else self.folder / name

    def plant(self, change: Change) -> None:
        """Make a change; `heal` takes it back."""
        if not change.file:
            return
        path = self.locate(change.file)
        before = path.read_bytes() if path.exists() else None
        self.undo.append((path, before))
        if change.old:
            text = before.decode()
            if path.suffix == ".ipynb":
                old, new = (json.dumps(part, ensure_ascii=False)[1:-1] for part in (change.old, change.new))
            else:
                old, new = change.old, change.new
            assert old in text, f"{change.old!r} is not in {path}"
            path.write_text(text.replace(old, new))
        else:
            put(path, change.new)
        shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)

    def heal(self) -> None:
        for path, before in self.undo:
            path.unlink() if before is None else path.write_bytes(before)
            shutil.rmtree(path.parent / "__pycache__", ignore_errors=True)
        self.undo.clear()


def put(path: Path, made: Made) -> None:
    """Write a file from its text, or by what makes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(made):
        if path.exists() and path.suffix in (".db", ".h5"):
            path.unlink()
        made(path)
    else:
        path.write_text(made)


# --- what is right -----------------------------------------------------------------------------------------------------
def read_files(site: Site, record: dict, kind: str) -> dict[str, str]:
    """The files in a record, as paths from the root, with their hashes."""
    part = record.get(kind) or {}
    listed = part.get("files", [])
    if "list" in part:
        stored = next((site.folder / "experiments" / ".store").glob(f"{part['list']}*"))
        listed = [json.loads(line) for line in stored.read_text().splitlines()]
    return {file["path"]: file.get("sha256", "") for file in listed}


def check_record(site: Site, record: dict) -> list[str]:
    """Compare a record with what the notebook does."""
    stranger, faults = site.stranger, []
    written, read = (read_files(site, record, kind) for kind in ("outputs", "inputs"))
    for pattern in stranger.writes:
        names = [name for name in written if fnmatch(name, pattern)]
        if not names:
            faults.append(f"output missing: {pattern}, recorded {sorted(written)[:6]}")
        for name in names:
            path = site.folder / name
            if path.is_file() and written[name] and hashlib.sha256(path.read_bytes()).hexdigest() != written[name]:
                faults.append(f"output hash: {name} has other bytes than the record says")
    modules = json.dumps(record.get("code", {}).get("modules", {}))
    if record.get("code", {}).get("modules", {}).get("count"):
        texts = (site.folder / "experiments" / ".store").glob("*")
        modules += "".join(path.read_text(errors="replace") for path in texts if path.is_file() and path.stat().st_size < 10**6)
    known = [*read, *(file["path"] for file in record.get("library_files", {}).get("files", []))]
    for name in stranger.reads:
        if not any(one == name or one.endswith(f"/{name}") for one in known) and f"  {name}\n" not in modules:
            faults.append(f"input missing: {name}, recorded {[name for name in sorted(read) if 'site-packages' not in name][:6]}")
    allowed = {*stranger.writes, *(name for name in stranger.files if name == "results.csv")}
    for name in written:
        if not any(fnmatch(name, pattern) for pattern in allowed) and not name.startswith(("logs/", "cache/", "saved/")):
            faults.append(f"output invented: {name}")
    return faults


def find_cell(site: Site, run: str, parted: list[str]) -> str:
    """The source of the cell that a verdict names as the first one."""
    for line in parted:
        if found := re.search(r"\bcell (\d+)", line):
            content = json.loads((site.folder / "experiments" / run / Path(site.stranger.place).name).read_text())
            cells = content["cells"]
            if 0 < int(found[1]) <= len(cells):
                return "".join(cells[int(found[1]) - 1]["source"])
    return ""


def say_cause(verdict: dict) -> str:
    """What a verdict names first."""
    causes = verdict.get("causes") or []
    first = f"{causes[0]['kind']}: {causes[0]['text']}" if causes else ""
    return first or verdict.get("problem", "") or ""


def check_chance(site: Site, run: str, verdict: dict) -> list[str]:
    """Check the verdict on a notebook whose results are left to chance."""
    stranger, faults = site.stranger, []
    if verdict["verdict"] == "identical":
        return [f"FALSE IDENTICAL: {stranger.chance or stranger.chance_file} is left to chance"]
    if verdict["verdict"] == "cannot be judged":
        return []
    if stranger.cause and not re.search(stranger.cause, say_cause(verdict)):
        faults.append(f"cause: expected {stranger.cause}, found {say_cause(verdict)[:160]!r}")
    if stranger.chance and stranger.chance not in find_cell(site, run, verdict.get("parted", [])):
        faults.append(f"cell: expected {stranger.chance!r}, found {verdict.get('parted')}")
    return faults


def check_change(site: Site, run: str, change: Change, verdict: dict) -> list[str]:
    """Check the verdict on a run after something was changed."""
    faults = []
    if verdict["verdict"] == "identical":
        return [f"FALSE IDENTICAL: {change.name} changed"]
    named = say_cause(verdict)
    if verdict["verdict"] == "cannot be judged":
        named = f"{verdict.get('problem', '')} {named} {' '.join(verdict.get('notes', []))}"
    if not re.search(change.cause, named):
        faults.append(f"cause: expected {change.cause}, found {named[:200]!r}")
    if change.cell and verdict["verdict"] != "cannot be judged" and change.cell not in find_cell(site, run, verdict.get("parted", [])):
        faults.append(f"cell: expected {change.cell!r}, found {verdict.get('parted')}")
    return faults


COMPARE = """
import json, sys
from ml_repo.records.reader import read_record
from ml_repo.verify.causes import find_causes
from ml_repo.verify.divergence import find_divergence
from ml_repo.verify.report import judge_runs
first, second = (read_record(folder) for folder in sys.argv[1:])
found, parted = judge_runs(first, second), find_divergence(first, second)
print(json.dumps({"verdict": found.verdict, "causes": [cause._asdict() for cause in find_causes(first, second)],
                  "parted": [": ".join(row) for row in parted.table()[1]], "notes": list(found.notes)}))
"""


def verify(site: Site, run: str) -> dict:
    """Verify a run, as a person does."""
    done = site.call("ml-repo", "verify", run, "--json", "--no-keep")
    try:
        return json.loads(done.stdout[done.stdout.index("[\n"):])[0] | {"returncode": done.returncode}
    except ValueError:
        return {"verdict": f"no verdict (exit {done.returncode})", "problem": done.stdout[-400:], "returncode": done.returncode}


def try_change(site: Site, run: str, change: Change) -> Row:
    """Change something after a run, and read the verdict."""
    row, began = Row(f"{site.stranger.name} + {change.name}", "not identical"), time.monotonic()
    site.plant(change)
    try:
        if change.is_checked_out:
            before = set(site.records())
            done = site.run(*change.options, **change.variables)
            made = sorted(set(site.records()) - before)
            if not made:
                row.faults.append(f"refused: {done.stdout[-300:]}")
                return row
            compared = site.call("python", "-c", COMPARE, *(str(site.folder / "experiments" / name) for name in (run, made[-1])))
            if compared.returncode:
                row.faults.append(f"no comparison: {compared.stdout[-300:]}")
                return row
            verdict = json.loads(compared.stdout.strip().splitlines()[-1])
        else:
            verdict = verify(site, run)
    finally:
        site.heal()
    row.found = verdict["verdict"]
    if row.found.startswith("no verdict"):
        row.faults.append(f"no verdict: {verdict['problem']}")
    else:
        row.faults += check_change(site, run, change, verdict)
    row.wall_s = time.monotonic() - began
    return row


def try_papermill(site: Site, folder: Path) -> bool:
    """Run the notebook with papermill alone, in a copy of the repository; whether it succeeded."""
    copy = folder / "plain"
    shutil.copytree(site.folder, copy, symlinks=True)
    (copy / "settings.ini").unlink()
    shutil.rmtree(copy / ".git")
    place = Path(site.stranger.place)
    done = site.call("papermill", place.name, "executed.ipynb", "--no-progress-bar", cwd=(copy / place).parent)
    shutil.rmtree(copy)
    return done.returncode == 0


def is_there(site_python: Path, module: str) -> bool:
    """Whether the environment has a module."""
    return subprocess.run([site_python, "-c", f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"]).returncode == 0


def try_stranger(stranger: Stranger, has_papermill: bool = True, has_changes: bool = True) -> list[Row]:
    """Run a notebook, look into its record, verify it, and change what it needs; a row each."""
    folder, began = Path(tempfile.mkdtemp(prefix="strangers-")), time.monotonic()
    expected = "cannot be run" if stranger.fails else "not identical" if stranger.chance or stranger.chance_file else "identical"
    row = Row(stranger.name, expected)
    rows = [row]
    try:
        if lost := [module for module in stranger.needs if not is_there(prepare_environment() / "bin" / "python", module)]:
            row.found = f"skipped: no {lost[0]}"
            return rows
        site = Site(stranger, folder)
        if has_papermill and try_papermill(site, folder) == (stranger.fails or stranger.is_refused):
            row.faults.append("statement: papermill does otherwise than the notebook's description says")
        done = site.run()
        records = site.records()
        if not records:
            row.found = "refused"
            row.faults.append(f"refused: {done.stdout[-400:]}")
            return rows
        run, record = list(records.items())[-1]
        if record["state"] != ("failed" if stranger.fails else "completed") or (done.returncode == 0) == stranger.fails:
            row.faults.append(f"state: {record['state']}, exit {done.returncode}: {done.stdout[-300:]}")
        row.faults += check_record(site, record)
        before = site.list_files()
        verdict = verify(site, run)
        row.found = verdict["verdict"]
        if changed := sorted(name for name, kept in (site.list_files() ^ before)):
            row.faults.append(f"PROJECT CHANGED by the verification: {changed[:4]}")
        if stranger.chance or stranger.chance_file:
            row.faults += check_chance(site, run, verdict)
        elif row.found == "differs" or row.found == "within tolerance":
            items = [f"{item['name']} ({item['detail'][:100]})" for item in verdict["items"] if item["verdict"] != "identical" and item["counts"]]
            row.faults.append(f"FALSE DIFFERS: {'; '.join(items)[:500]}; first cause: {say_cause(verdict)[:120]}")
        elif row.found != "identical":
            reason = f"{verdict.get('problem', '')} {verdict.get('notes')} {[item for item in verdict.get('items', []) if item['verdict'] != 'identical']}"
            if not (stranger.doubt and re.search(stranger.doubt, reason)):
                row.faults.append(f"not judged: {row.found}: {reason[:500]}")
        row.wall_s = time.monotonic() - began
        for change in stranger.changes if has_changes else ():
            rows.append(try_change(site, run, change))
    except Exception:
        row.faults.append(f"harness: {traceback.format_exc()[-800:]}")
    finally:
        row.wall_s = row.wall_s or time.monotonic() - began
        if any(row.faults for row in rows) and os.environ.get("KEEP_STRANGERS"):
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return rows


def summarize(rows: list[Row]) -> dict[str, str]:
    """Count what counts."""
    faults = [fault for row in rows for fault in row.faults]
    count = lambda kind: sum(fault.startswith(kind) for fault in faults)  # noqa: E731
    judged = [row for row in rows if row.expected == "not identical" and not any(
        fault.startswith(("refused", "no ", "harness", "FALSE")) for fault in row.faults)]
    right = lambda kind: sum(not any(fault.startswith(kind) for fault in row.faults) for row in judged)  # noqa: E731
    return {"notebooks": f"{sum(' + ' not in row.name for row in rows)}", "changes": f"{sum(' + ' in row.name for row in rows)}",
            "skipped": str(sum(row.found.startswith("skipped") for row in rows)),
            "false identical": str(count("FALSE IDENTICAL")), "false differs": str(count("FALSE DIFFERS")),
            "refused": str(count("refused")), "not judged without need": str(count("not judged")),
            "outputs missing": str(count("output missing")), "outputs invented": str(count("output invented")),
            "inputs missing": str(count("input missing")),
            "right first cause": f"{right('cause')} of {len(judged)}", "right first cell": f"{right('cell')} of {len(judged)}",
            "project changed by verify": str(count("PROJECT CHANGED")), "other faults": str(count("state") + count("statement") + count("harness") + count("no "))}


def main() -> int:
    """Try the notebooks and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="notebooks; all without any")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--no-papermill", action="store_true", help="leave papermill alone out")
    parser.add_argument("--no-changes", action="store_true", help="change nothing")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    chosen = [one for one in STRANGERS if not options.names or one.name in options.names]
    prepare_environment()
    rows, began = [], time.monotonic()
    with ThreadPoolExecutor(options.jobs) as executor:
        tried = [executor.submit(try_stranger, one, not options.no_papermill, not options.no_changes) for one in chosen]
        for future in as_completed(tried):
            made = future.result()
            rows += made
            for row in made:
                print(f"{'ok  ' if not row.faults else 'FAIL'} {row.name:48} {row.found:18} {row.wall_s:5.0f} s", flush=True)
                for fault in row.faults:
                    print(f"       {fault}", flush=True)
    if options.json:
        options.json.write_text(json.dumps([vars(row) for row in rows], indent=1))
    for name, value in summarize(rows).items():
        print(f"{name:28} {value}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"{'minutes':28} {(time.monotonic() - began) / 60:.1f}, of processors {(used.ru_utime + used.ru_stime) / 60:.1f}")
    return int(any(row.faults for row in rows))


@pytest.mark.slow
@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda one: one.name)
def test_a_notebook_of_a_stranger_is_run_recorded_and_judged_right(stranger: Stranger) -> None:
    rows = try_stranger(stranger)
    if rows[0].found.startswith("skipped"):
        pytest.skip(rows[0].found)
    assert not any(row.faults for row in rows), "\n".join(f"{row.name}: {fault}" for row in rows for fault in row.faults)


if __name__ == "__main__":
    sys.exit(main())
