"""The wheel holds everything, and in an environment with nothing else it imports whatever needs nothing else."""
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from conftest import BIN, ROOT, checked


# Imports each module by itself, and prints what was missing: {module: name of the package that is not installed, or ""}.
PROGRAM = """import importlib, json, pkgutil, ml_repo
missing = {}
for module in pkgutil.walk_packages(ml_repo.__path__, "ml_repo."):
    try:
        importlib.import_module(module.name)
        missing[module.name] = ""
    except ModuleNotFoundError as error:
        missing[module.name] = error.name
print(json.dumps(missing))
"""


@pytest.fixture(scope="module")
def empty(wheel, tmp_path_factory) -> Path:
    """The Python of an environment that has the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("empty")
    checked("uv", "venv", "--quiet", "--python", sys.executable, folder)
    checked("uv", "pip", "install", "--quiet", "--no-deps", "--python", folder / "bin" / "python", wheel)
    return folder / "bin" / "python"


def test_the_wheel_holds_every_module_and_file(wheel):
    tracked = checked("git", "ls-files", "--cached", "--others", "--exclude-standard", "ml_repo").splitlines()
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("ml_repo/")}
        data = {name.partition(".data/data/")[2] for name in archive.namelist() if ".data/data/" in name}
    assert packed == {name for name in tracked if (ROOT / name).exists()}
    assert data == {f"share/jupyter/labextensions/ml-repo/{name}" for name in ("package.json", "install.json", "static/lab.js")}, "what JupyterLab looks for"


def test_what_needs_no_other_package_is_imported_without_any(empty, tmp_path):
    printed = subprocess.run([empty, "-I", "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    missing = json.loads(printed)
    wrong = {module: name for module, name in missing.items() if name.split(".")[0] in {"ml_repo", *sys.stdlib_module_names}}
    assert wrong == {}, "these modules ask for something that the wheel should hold"
    light = {package for package in ("core", "provenance", "notebook", "records", "tracking", "verify")
             if missing[f"ml_repo.{package}"] == ""}
    assert light == {"core", "provenance", "notebook", "records", "tracking", "verify"}
    without = [module for module, name in missing.items() if not name]
    print(f"{len(without)} of {len(missing)} modules need no other package")
    assert {"ml_repo.core.hashing", "ml_repo.records.reader", "ml_repo.records.record", "ml_repo.tracking.run",
            "ml_repo.results.query"} <= set(without)


def test_the_entry_points_of_the_wheel_lead_somewhere(wheel):
    with zipfile.ZipFile(wheel) as archive:
        file = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        lines = archive.read(file).decode().splitlines()
    goals = [line.partition(" = ")[2] for line in lines if " = " in line]
    program = "import sys; from importlib.metadata import EntryPoint; [EntryPoint('', goal, '').load() for goal in sys.argv[1:]]"
    assert len(goals) >= 8
    checked(BIN / "python", "-c", program, *goals)
