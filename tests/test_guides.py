"""The guides hold for somebody who has nothing but a wheel: in an empty environment, and in a fresh container with the images that they build."""
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, checked, run
from test_containers import base, docker, engine  # noqa: F401  fixtures
from test_extras import ask_index, install
from test_record import git, write_notebook

pytestmark = pytest.mark.slow

GUIDES = ("new_project", "existing_project", "upgrade")
LATER = ("0.2.0", "0.3.0", "0.4.0")
NEEDS = ("uv", "scikit-learn", "matplotlib")  # what the projects of these guides train with


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """The programs of an environment with the wheel, and what the guides' projects name."""
    return install(tmp_path_factory.mktemp("guides"), f"ml_repo[plots,docs] @ {wheel.as_uri()}", *NEEDS)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_holds_in_an_environment_of_its_own(programs, tmp_path, guide):
    """Every cell of the guide runs, from a folder that knows no repository."""
    shutil.copy(ROOT / "nbs" / "guides" / f"{guide}.ipynb", tmp_path)
    path = f"{programs}:/usr/local/bin:/usr/bin:/bin"
    done = run(programs / "papermill", f"{guide}.ipynb", "out.ipynb", "--kernel", "python3", cwd=tmp_path, PATH=path,
               VIRTUAL_ENV=str(programs.parent))
    assert done.returncode == 0, done.stdout[-4000:]
    cells = json.loads((tmp_path / "out.ipynb").read_text())["cells"]
    assert not [output for cell in cells for output in cell.get("outputs", []) if output["output_type"] == "error"]


@pytest.fixture(scope="module")
def releases(clone, tmp_path_factory) -> Path:
    """Wheels of three later versions, each with a template that has changed in the Makefile, an ignore rule, the Dockerfile and a new file."""
    folder, source = tmp_path_factory.mktemp("releases"), tmp_path_factory.mktemp("source") / "ml_repo"
    shutil.copytree(clone, source, ignore=shutil.ignore_patterns(".git", "nbs", "tests"))
    files = source / "ml_repo" / "project_files"
    version = re.search(r"^version = (.*)$", (source / "settings.ini").read_text(), re.MULTILINE)[1]
    for later in LATER:
        for file, old, new in ((source / "settings.ini", f"version = {version}", f"version = {later}"),
                               (source / "ml_repo" / "__init__.py", f'"{version}"', f'"{later}"'),
                               (files / "common" / "Makefile.tmpl", "lab: $(VENV)", f"# since {later}\nlab: $(VENV)"),
                               (files / "common" / "dot_gitignore.tmpl", "mlruns/", f"mlruns/\nsince-{later}/"),
                               (files / "docker" / "docker" / "Dockerfile.tmpl", "WORKDIR /workspace", f"ENV SINCE={later}\nWORKDIR /workspace")):
            text = file.read_text()
            assert old in text, f"{file} has no {old!r}"
            file.write_text(text.replace(old, new))
        (files / "common" / f"new-{later}.txt.tmpl").write_text("new\n")
        shutil.rmtree(source / "build", ignore_errors=True)
        checked("uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, source)
        version = later
    return folder


def test_a_project_is_upgraded_over_three_installed_versions(wheel, releases, tmp_path):
    """`pip install -U`, then `ml-repo update`: changes of the user stay, and there is no conflict where both sides touched different places."""
    programs = install(tmp_path / "env", wheel)
    checked(programs / "ml-repo", "new", "birds", "--with", "torch", "--no-lock", cwd=tmp_path)
    (tmp_path / "adopted").mkdir()
    git(tmp_path / "adopted", "init", "--quiet")
    checked(programs / "ml-repo", "init", "--yes", "--no-lock", cwd=tmp_path / "adopted")

    def change(path: str, old: str, new: str) -> None:
        text = (tmp_path / path).read_text()
        assert old in text, f"{path} has no {old!r}"
        (tmp_path / path).write_text(text.replace(old, new))

    def commit(project: Path) -> None:
        git(project, "add", "--all")
        git(project, "commit", "--quiet", "--message", "Change it")

    change("birds/Makefile", "PARAMS ?=", "PARAMS ?= -p lr 0.01")
    change("birds/settings.ini", "matplotlib>=3.10\n", "matplotlib>=3.10\n    polars\n")
    change("birds/settings.ini", "indexes =", "indexes =\n    torch = https://download.pytorch.org/whl/cpu")
    change("birds/README.md", "Experiments", "My experiments")
    change("birds/docker/Dockerfile", "    && apt-get install --yes --no-install-recommends git", "    && apt-get install --yes --no-install-recommends git ffmpeg")
    (tmp_path / "birds" / "nbs" / "train.ipynb").rename(tmp_path / "birds" / "nbs" / "songs.ipynb")
    change("adopted/docker/Dockerfile", "EXPOSE 8888", "EXPOSE 8888 6006")
    change("adopted/settings.ini", "papermill_engine = ml_repo", "papermill_engine = ml_repo\nmlflow_mirror = off")
    for later in LATER:
        ask_index("uv", "pip", "install", "--quiet", "--upgrade", "--find-links", releases, "--python", programs / "python", f"ml_repo=={later}")
        for project in (tmp_path / "birds", tmp_path / "adopted"):
            commit(project)
            printed = checked(programs / "ml-repo", "update", cwd=project)
            assert "conflict" not in printed.lower(), printed
            assert f"ENV SINCE={later}" in (project / "docker" / "Dockerfile").read_text()
        settings = (tmp_path / "birds" / "settings.ini").read_text()
        assert f"ml_repo[plots]=={later}\n" in settings and "    polars\n" in settings and "whl/cpu\n" in settings
        assert (tmp_path / "birds" / f"new-{later}.txt").is_file() and f"since-{later}/" in (tmp_path / "birds" / ".gitignore").read_text()
    makefile = (tmp_path / "birds" / "Makefile").read_text()
    assert "PARAMS ?= -p lr 0.01" in makefile and all(f"# since {later}" in makefile for later in LATER)
    assert "ffmpeg" in (tmp_path / "birds" / "docker" / "Dockerfile").read_text() and not (tmp_path / "birds" / "nbs" / "train.ipynb").exists()
    assert "8888 6006" in (tmp_path / "adopted" / "docker" / "Dockerfile").read_text()
    assert "mlflow_mirror = off" in (tmp_path / "adopted" / "settings.ini").read_text()


NEW = """
python3 -m venv start && start/bin/pip install --quiet ml_repo uv
start/bin/ml-repo new birds --with POINT
cd birds
INDEXES
make train PARAMS="SMALL"
. .venv/bin/activate
ml-repo verify latest
make test
ml-repo doctor
"""
PENGUINS = """
cd penguins
python3 -m venv .venv && . .venv/bin/activate
pip install --quiet -r requirements.txt
pip list --format freeze | sort > ../before.txt
pip install --quiet ml_repo uv
pip list --format freeze | sort > ../after.txt
comm -23 ../before.txt ../after.txt > ../changed.txt
ml-repo init --yes
git add --all && git commit --quiet --message "Add what runs need"
ml-repo run notebooks/forest.ipynb --cwd notebooks -p n_estimators 10
ml-repo verify latest
ml-repo ls
"""
TABLE = "species,bill,flipper\n" + "".join(f"{name},{bill + 0.1 * (number % 7)},{flipper + number % 5}\n"
                                           for name, bill, flipper in (("Adelie", 38.8, 190), ("Gentoo", 47.5, 217)) for number in range(30))
LOAD = "import pandas as pd\n\n\ndef load(path):\n    return pd.read_csv(path).dropna()\n"
FIT = """import sys
sys.path.insert(0, "../src")
from penguins import load
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
table = load("../data/penguins.csv")
model = RandomForestClassifier(n_estimators, random_state=0)
print("accuracy:", cross_val_score(model, table[["bill", "flipper"]], table.species, cv=5).mean())"""


@pytest.fixture
def newcomer(engine, base, wheel, tmp_path):  # noqa: F811
    """A fresh container of somebody who has Python, git, make and the wheel; and the base of images that finds the wheel."""
    folder = tmp_path / "image"
    (folder / "wheels").mkdir(parents=True)
    shutil.copy(wheel, folder / "wheels")
    lines = [f"FROM {base}", "COPY wheels /wheels", "ENV PIP_FIND_LINKS=/wheels UV_FIND_LINKS=/wheels"]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    docker("build", "--quiet", "--tag", "ml_repo/with-wheel", folder)
    lines = ["FROM ml_repo/with-wheel", "RUN apt-get update && apt-get install --yes --no-install-recommends git make",
             "RUN useradd --create-home somebody && git config --system user.name somebody && git config --system user.email somebody@example.org",
             "USER somebody", "WORKDIR /home/somebody"]
    (folder / "Dockerfile").write_text("\n".join(lines) + "\n")
    docker("build", "--quiet", "--tag", "ml_repo/newcomer", folder)
    name = docker("run", "--detach", "--rm", "ml_repo/newcomer", "sleep", "3600").strip()

    def do(script: str) -> str:
        done = subprocess.run(["docker", "exec", "--interactive", name, "bash", "-e"], input=script, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    try:
        yield do, name
    finally:
        run("docker", "rm", "--force", name)


def build_and_verify(project: Path, image: str) -> None:
    """The image of a project is built, a run in it is recorded, and verified in it."""
    subprocess.run(["git", "config", "--global", "--add", "safe.directory", str(project)], check=True)
    checked("ml-repo", "image", "build", "--base", "ml_repo/with-wheel", cwd=project)
    notebook = "nbs/train.ipynb" if (project / "nbs").is_dir() else "notebooks/forest.ipynb"
    words = ["-p", "epochs", "2"] if (project / "nbs").is_dir() else ["--cwd", "notebooks"]
    printed = checked("ml-repo", "run", notebook, "--image", *words, cwd=project)
    assert "as locked" in printed and f"image        {image} sha256:" in printed, printed
    printed = checked("ml-repo", "verify", "latest", "--image", cwd=project)
    assert ": identical in " in printed, printed


def test_a_newcomer_begins_a_project_in_a_fresh_container(newcomer, tmp_path):
    do, name = newcomer
    printed = do(NEW.replace("POINT", "sklearn").replace("INDEXES", "").replace("SMALL", "-p epochs 2"))
    assert ": identical in " in printed and "1 passed" in printed and "problem" not in printed, printed
    docker("cp", f"{name}:/home/somebody/birds", tmp_path / "birds")
    shutil.rmtree(tmp_path / "birds" / ".venv")
    build_and_verify(tmp_path / "birds", "birds")


def test_a_newcomer_adopts_a_project_in_a_fresh_container(newcomer, tmp_path):
    do, name = newcomer
    project = tmp_path / "penguins"
    for path, text in {"requirements.txt": "pandas>=2.2\nscikit-learn\n", "src/penguins/__init__.py": LOAD, "data/penguins.csv": TABLE,
                       ".gitignore": ".venv/\n__pycache__/\n"}.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text)
    (project / "notebooks").mkdir()
    write_notebook(project / "notebooks" / "forest.ipynb", "n_estimators = 50", FIT)
    git(project, "init", "--quiet", "--initial-branch", "main")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", "Penguins")
    docker("cp", project, f"{name}:/home/somebody/penguins")
    docker("exec", "--user", "root", name, "chown", "--recursive", "somebody", "/home/somebody/penguins")
    printed = do(PENGUINS)
    assert "accuracy: 1.0" in printed and ": identical in " in printed, printed
    assert do("cat changed.txt") == "", "packages of the project have other versions, or are gone"
    docker("cp", f"{name}:/home/somebody/penguins/.", project)
    shutil.rmtree(project / ".venv")
    build_and_verify(project, "penguins")
