"""Projects are begun, adopted, updated and taken back: real repositories of six kinds, and a new project of each starting point."""
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import BIN, ROOT, checked, run
from test_record import git, write_notebook

from ml_repo.scaffold.new_project import begin_project
from ml_repo.scaffold.template import STARTING_POINTS

CODE = "import json\nfrom pathlib import Path\nprint('mean', sum(json.loads(Path('numbers.json').read_text())) / n)"
POETRY = '[tool.poetry]\nname = "birds"\nversion = "1"\n[tool.poetry.dependencies]\npython = "^3.11"\niniconfig = "^2.0"\n'
PROJECT = '[project]\nname = "birds"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["iniconfig>=2"]\n'
MEMBER = '[project]\nname = "birds"\nversion = "1"\ndependencies = ["core"]\n[tool.uv.sources]\ncore = {workspace = true}\n'
LOCKED = '[[package]]\nname = "iniconfig"\nversion = "2.0.0"\n'
KINDS = {  # files of a repository, and the folder in it that is the project
    "flat": ({"requirements.txt": "iniconfig>=2\n", "birds.py": "def double(x):\n    return 2 * x\n", ".gitignore": "*.log\n"}, "."),
    "src": ({"pyproject.toml": PROJECT, "src/birds/__init__.py": "def double(x):\n    return 2 * x\n", "Dockerfile": "FROM scratch\n"}, "."),
    "notebooks only": ({"README.md": "# Birds\n"}, "."),
    "conda": ({"environment.yml": "name: birds\ndependencies:\n  - python=3.12\n  - iniconfig=2.1\n  - pip:\n    - toolz\n"}, "."),
    "poetry": ({"pyproject.toml": POETRY, "poetry.lock": '[[package]]\nname = "iniconfig"\nversion = "2.0.0"\n', ".devcontainer/devcontainer.json": "{}\n"}, "."),
    "uv workspace": ({"pyproject.toml": '[tool.uv.workspace]\nmembers = ["members/*"]\n', "uv.lock": LOCKED,
                      "members/core/pyproject.toml": PROJECT.replace("birds", "core"), "members/birds/pyproject.toml": MEMBER}, "members/birds"),
    "pdm": ({"pyproject.toml": PROJECT + '[tool.pdm.dev-dependencies]\ntest = ["toolz"]\n', "pdm.lock": LOCKED}, "."),
    "pixi": ({"pixi.toml": '[dependencies]\npython = "3.12.*"\niniconfig = "2.0.*"\nlibblas = "*"\n'}, "."),
    "pipenv": ({"Pipfile": '[packages]\niniconfig = "*"\n', "Pipfile.lock": '{"default": {"iniconfig": {"version": "==2.0.0"}}}'}, "."),
    "nbdev of somebody": ({"settings.ini": "[DEFAULT]\nlib_name = birds\nrequirements = iniconfig==2.0.0\n[other]\na = 1"}, "."),
    "setup.py that reads a file": ({"deps": "iniconfig==2.0.0\n", "setup.py": "from setuptools import setup\n"
                                    "setup(name='birds', py_modules=[], install_requires=open('deps').read().split())\n"}, "."),
    "requirement files": ({"requirements/base.txt": "iniconfig\n-c limits.txt\n", "requirements/limits.txt": "iniconfig==2.0.0\n",
                           ".gitignore": "*.log\r\n*.txt"}, "."),
    "folder of a monorepo": ({"services/web/app.py": "1\n", "research/requirements.txt": "iniconfig>=2\n", "research/birds/__init__.py": ""}, "research"),
}
PINNED = {"flat": "iniconfig==2", "src": "iniconfig==2", "conda": "iniconfig==2.1", "poetry": "iniconfig==2.0.0", "folder of a monorepo": "iniconfig==2",
          **dict.fromkeys(("uv workspace", "pdm", "pixi", "pipenv", "nbdev of somebody", "setup.py that reads a file", "requirement files"), "iniconfig==2.0.0")}


def make_stranger(folder: Path, kind: str) -> Path:
    """Make a repository that knows nothing of ml_repo; returns the folder of the project."""
    files, place = KINDS[kind]
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    project = folder / place
    write_notebook(project / "explore.ipynb", "n = 3", CODE)
    (project / "numbers.json").write_text("[1, 2, 6]")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, value in {"user.name": "test", "user.email": "test@localhost", "commit.gpgsign": "false"}.items():
        git(folder, "config", name, value)
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "--quiet", "--message", "Begin")
    return project


def list_files(folder: Path) -> dict[str, bytes]:
    """The content of all files that git does not keep for itself."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file() and ".git" not in file.parts}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> dict[str, str]:
    """The variables with which uv finds a wheel of this library."""
    folder = tmp_path_factory.mktemp("wheels")
    made = subprocess.run([BIN / "uv", "build", "--wheel", "--quiet", "--out-dir", folder, ROOT], text=True, capture_output=True)
    if made.returncode:
        pytest.skip(f"NOT TESTED: no wheel could be built here: {made.stderr.strip()[-300:]}")
    return {"UV_FIND_LINKS": str(folder), "PIP_FIND_LINKS": str(folder)}


@pytest.mark.parametrize("kind", [kind if kind in ("src", "folder of a monorepo") else pytest.param(kind, marks=pytest.mark.slow) for kind in KINDS])
def test_a_repository_is_adopted_and_left_as_it_was(tmp_path, kind):
    """Added is what is missing, nothing is overwritten, a run is recorded and holds, and taking it back leaves no trace in git."""
    project = make_stranger(tmp_path / "theirs", kind)
    before = list_files(tmp_path / "theirs")
    planned = checked("ml-repo", "init", "--no-lock", "--dry-run", cwd=project)
    assert list_files(tmp_path / "theirs") == before and "settings.ini" in planned
    checked("ml-repo", "init", "--no-lock", "--yes", cwd=project)
    after = list_files(tmp_path / "theirs")
    assert {path for path in before if after[path] != before[path]} <= {".gitignore", "settings.ini"} and after.keys() > before.keys()
    assert (project / "docker" / "Dockerfile").is_file() == (kind != "src")
    assert (project / ".devcontainer.json").is_file() == (kind not in ("src", "poetry"))
    assert "Nothing is missing" in checked("ml-repo", "init", "--no-lock", "--yes", cwd=project)
    checked("ml-repo", "run", "explore.ipynb", "--quiet", cwd=project)
    assert "identical" in checked("ml-repo", "verify", "latest", cwd=project)
    printed = checked("ml-repo", "init", "--undo", cwd=project)
    assert "left in experiments/ stays" in printed and list((project / "experiments").glob("explore-*"))
    left = {path: content for path, content in list_files(tmp_path / "theirs").items() if "experiments/" not in path}
    assert left == before and git(tmp_path / "theirs", "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.parametrize("kind", PINNED)
def test_the_packages_of_a_repository_are_locked(tmp_path, kind, wheels):
    project = make_stranger(tmp_path / "theirs", kind)
    done = run("ml-repo", "init", "--yes", "--no-image", cwd=project, **wheels)
    if "No lock was made" in done.stdout and re.search("connect|dns|network|fetch", done.stdout, re.IGNORECASE):
        pytest.skip("NOT TESTED: PyPI cannot be reached")
    lock = (project / "docker" / "requirements.txt").read_text()
    assert re.search(rf"^{re.escape(PINNED[kind])}", lock, re.MULTILINE) and re.search(r"^ml[-_]repo==", lock, re.MULTILINE)
    assert all("--hash=" in block for block in re.split(r"\n(?=[a-z])", lock)[1:])
    checked("ml-repo", "lock", cwd=project, **wheels)
    assert (project / "docker" / "requirements.txt").read_text() == lock
    checked("ml-repo", "init", "--undo", cwd=project)
    assert git(tmp_path / "theirs", "status", "--porcelain") == ""


def test_what_cannot_be_adopted_is_told(tmp_path):
    (tmp_path / "plain").mkdir()
    done = run("ml-repo", "init", "--yes", cwd=tmp_path / "plain")
    assert done.returncode == 2 and "git init" in done.stdout and not list((tmp_path / "plain").iterdir())
    done = run("ml-repo", "init", "--undo", cwd=tmp_path / "plain")
    assert done.returncode == 2 and "has added nothing" in done.stdout
    done = run("ml-repo", "new", "class", "--no-lock", cwd=tmp_path)
    assert done.returncode == 2 and "no word of Python" in done.stdout and not (tmp_path / "class").exists()


@pytest.mark.parametrize("name", ["finches", "Bird-songs of 2"])
def test_exporting_a_new_project_changes_nothing(tmp_path, name):
    """The package of the template is what nbdev makes of its notebooks, and the notebooks are clean."""
    begin_project(tmp_path / name, "torch", has_lock=False)
    checked(BIN / "nbdev_export", cwd=tmp_path / name)
    checked(BIN / "nbdev_clean", cwd=tmp_path / name)
    assert git(tmp_path / name, "status", "--porcelain") == ""


@pytest.mark.parametrize("command", ["new", "init"])
def test_an_interruption_leaves_nothing_that_cannot_be_taken_back(tmp_path, wheels, command):
    """Ctrl-C while the packages are resolved: no half a project, and a repository that is as it was."""
    project = make_stranger(tmp_path / "theirs", "flat")
    before = list_files(project)
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | wheels
    words = ["new", "finches"] if command == "new" else ["init", "--yes"]
    with subprocess.Popen(["ml-repo", *words], cwd=project, env=variables, text=True, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True) as started:
        assert any("Resolving" in line for line in started.stdout)
        os.killpg(started.pid, signal.SIGINT)
        started.stdout.read()
    assert started.returncode == 1
    if command == "init":
        checked("ml-repo", "init", "--undo", cwd=project)
    assert list_files(project) == before and git(project, "status", "--porcelain") == ""


def test_a_project_is_adopted_from_a_folder_below_and_twice(tmp_path):
    """From nbs/ the project above is meant, records come back with the next init, line ends of git are no change."""
    project = make_stranger(tmp_path / "theirs", "flat")
    (project / "nbs").mkdir()
    write_notebook(project / "nbs" / "a b.ipynb", "n = 3", "print(n)")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "More")
    before = list_files(project)
    for _ in range(2):
        printed = checked("ml-repo", "init", "--no-lock", "--yes", cwd=project / "nbs")
        assert f"The project is {project}" in printed and (project / "settings.ini").is_file()
        checked("ml-repo", "run", "a b.ipynb", "--quiet", cwd=project / "nbs")
        assert "experiments/" in git(project, "status", "--porcelain")
        (project / "settings.ini").write_bytes((project / "settings.ini").read_bytes().replace(b"\n", b"\r\n"))
        checked("ml-repo", "init", "--undo", cwd=project / "nbs")
        left = {path: content for path, content in list_files(project).items() if "experiments/" not in path}
        assert left == before and git(project, "status", "--porcelain") == ""


@pytest.mark.slow
@pytest.mark.parametrize("point", STARTING_POINTS)
def test_a_new_project_trains_and_verifies_and_tests_itself(tmp_path, point, wheels):
    """From a wheel, in an environment of its own: begin, train, verify, test."""
    environment = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL")}
    environment |= wheels | {"PATH": os.pathsep.join(part for part in os.environ["PATH"].split(os.pathsep) if Path(part) != BIN)}
    project = tmp_path / "finches"
    checked("ml-repo", "new", "finches", "--with", point, cwd=tmp_path, **wheels)
    if not (project / "docker" / "requirements.txt").is_file():
        pytest.skip("NOT TESTED: no lock could be made here")

    def do(*words: str | Path) -> str:
        done = subprocess.run(words, cwd=project, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if re.search(r"Failed to (download|fetch)", done.stdout):
            pytest.skip(f"NOT TESTED: the packages of {point} cannot be fetched: {done.stdout[-300:]}")
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    python = shutil.which("python3", path=environment["PATH"])
    small = " ".join(STARTING_POINTS[point].small)
    do("make", "train", f"PARAMS={small}", f"PYTHON={python}")
    assert "identical" in do(project / ".venv" / "bin" / "ml-repo", "verify", "latest")
    do("make", "test", f"PYTHON={python}")
    assert "as locked" in do(project / ".venv" / "bin" / "ml-repo", "show", "latest")


def test_three_versions_of_the_template_are_merged(tmp_path, monkeypatch):
    """Changed files of a user and changed files of three versions meet without a conflict where they touch different places."""
    from ml_repo.scaffold import template, update

    templates = shutil.copytree(template.FILES, tmp_path / "template")
    monkeypatch.setattr(template, "FILES", templates)
    project = tmp_path / "finches"
    begin_project(project, "sklearn", has_lock=False)

    def change(file: Path, old: str, new: str) -> None:
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def commit() -> None:
        git(project, "add", "--all")
        git(project, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "--message", "Change it")

    change(project / "Makefile", "PARAMS ?=", "PARAMS ?= -p lr 0.01")
    change(project / "README.md", "Experiments as notebooks.", "Songs of finches.")
    change(project / "settings.ini", "    matplotlib>=3.10\n", "    matplotlib>=3.10\n    polars\n")
    (project / "nbs" / "train.ipynb").unlink()
    commit()
    common = templates / "common"
    for version in ("0.2.0", "0.3.0", "0.4.0"):
        monkeypatch.setattr(update, "read_version", lambda version=version: version)
        change(common / "Makefile.tmpl", "lab: $(VENV)", f"# since {version}\nlab: $(VENV)")
        change(common / "dot_gitignore.tmpl", "mlruns/", f"mlruns/\nsince-{version}/")
        change(common / "setup.py.tmpl", 'version=settings["version"],', f'version=settings["version"],  # {version}')
        (common / f"new-{version}.txt.tmpl").write_text("new\n")
        merged = update.update_project(project)
        assert {one.path: one.outcome for one in merged} == {
            "Makefile": "merged", ".gitignore": "updated", "setup.py": "updated", f"new-{version}.txt": "added"}
        commit()
    makefile = (project / "Makefile").read_text()
    assert "PARAMS ?= -p lr 0.01" in makefile and all(f"# since 0.{minor}.0" in makefile for minor in (2, 3, 4))
    assert "polars" in (project / "settings.ini").read_text() and not (project / "nbs" / "train.ipynb").exists()
    change(project / "setup.py", "# 0.4.0", "# ours")
    commit()
    change(common / "setup.py.tmpl", "# 0.4.0", "# 0.5.0")
    [merged] = update.update_project(project)
    assert (merged.path, merged.outcome, merged.conflicts) == ("setup.py", "conflict", 1) and "<<<<<<< yours" in (project / "setup.py").read_text()
