"""What a notebook shows of its environment is set aside and named; results are judged by themselves."""
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import BIN, checked, run
from forked import Server
from test_record import commit, make_repository, write_notebook

from ml_repo.records.reader import find_records, read_record
from ml_repo.verify.report import judge_runs, list_circumstances
from ml_repo.verify.circumstances import describe_circumstances
from ml_repo.verify.metric_check import Tolerances

PARAMETERS = "n: int = 3  # rows, at least 1"
TELLING = [
    "import sys, platform, os, socket\nprint(sys.version)\nprint(platform.python_version(), platform.node(), os.getcwd(), os.path.expanduser('~'))",
    "import numpy as np\nprint('numpy', np.__version__, 'on', socket.gethostname())\nnp.__version__",
    "sys.version_info", "sys.executable", "!pip list 2>/dev/null", "!python3 --version; hostname",
    "print(f'trained with Python {sys.version_info.major}.{sys.version_info.minor}: score {np.arange(n).sum()}')",
    "from importlib.metadata import version\nfor name in ('numpy', 'ipykernel'):\n    print(f'{name:>12} {version(name)}')",
    "import json\njson.dump({'python': platform.python_version(), 'values': [1, 2]}, open('made.json', 'w'))"]


def make_project(folder: Path, *more: str) -> Path:
    """Make a repository whose notebook tells where it runs, and computes a little."""
    make_repository(folder)
    write_notebook(folder / "a.ipynb", PARAMETERS, *TELLING, "np.random.default_rng(0).normal(size=n)", *more)
    commit(folder)
    return folder


def run_in(folder: Path, *options: str, **environment: str):
    """Run the notebook, and read its record."""
    known = set(find_records(folder / "experiments"))
    checked("ml-repo", "run", "a.ipynb", "--quiet", "--cold", *options, cwd=folder, **environment)
    return read_record((set(find_records(folder / "experiments")) - known).pop())


def test_another_home_and_another_folder_are_no_other_results(tmp_path):
    first = run_in(make_project(tmp_path / "here" / "project"))
    shutil.copytree(tmp_path / "here" / "project", tmp_path / "there" / "clone", ignore=shutil.ignore_patterns("experiments"))
    (home := tmp_path / "home").mkdir()
    second = run_in(tmp_path / "there" / "clone", HOME=str(home))
    judged = judge_runs(first, second)
    assert judged.verdict == "identical", [item for item in judged.items if item.verdict != "identical" and item.counts]


def rename_machine() -> list[str]:
    """The command under which a program sees another name of its machine; skip where that is not possible."""
    for command in (["unshare", "-ru"], ["unshare", "-u"]):
        words = [*command, "sh", "-c", 'hostname another-machine && exec "$@"', "sh"]
        if shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0:
            return words
    pytest.skip("NOT TESTED: no namespace can be made here (unshare), so no program sees another name of the machine")


def test_another_name_of_the_machine_is_told(tmp_path):
    folder = make_project(tmp_path / "project")
    first = run_in(folder)
    there = Server(tmp_path / "there", os.environ, *rename_machine())  # so it has the other name, and what it forks
    find = lambda environment: there.folder
    checked("ml-repo", "run", "a.ipynb", "--quiet", "--cold", cwd=folder, find=find)
    second = read_record(max(find_records(folder / "experiments"), key=lambda one: one.name))
    assert second["machine"]["hostname"] == "another-machine"
    judged = judge_runs(first, second)
    assert judged.verdict == "identical", [item for item in judged.items if item.verdict != "identical" and item.counts]
    assert "machine" in " ".join(describe_circumstances(first, second))
    assert any("another-machine" in text for item in judged.items for text in list_circumstances(item))
    assert judge_runs(first, second, Tolerances(is_strict=True)).verdict == "differs"
    printed = checked("ml-repo", "verify", first["id"], "--no-keep", cwd=folder, find=find)
    assert "identical. Same results to the bit, in another environment (machine " in printed
    refused = run("ml-repo", "verify", first["id"], "--no-keep", "--strict", cwd=folder, find=find)
    there.stop()
    assert refused.returncode == 2 and "differs in" in refused.stdout


@pytest.fixture(scope="module", params=["3.12", "3.13"])
def kernel(request, tmp_path_factory) -> dict[str, str]:
    """The variables with which Jupyter finds a kernel `other` of another Python."""
    folder = tmp_path_factory.mktemp("python")
    kept = sorted(Path.home().glob(f".pyenv/versions/{request.param}*/bin/python"))
    made = subprocess.run([BIN / "uv", "venv", "--quiet", "--python", kept[-1] if kept else request.param, folder / "venv"], text=True, capture_output=True)
    if made.returncode or request.param == f"{sys.version_info.major}.{sys.version_info.minor}":
        pytest.skip(f"NOT TESTED: there is no other Python {request.param} here: {made.stderr.strip()[-200:]}")
    installed = run(BIN / "uv", "pip", "install", "--quiet", "ipykernel", "numpy", VIRTUAL_ENV=str(folder / "venv"))
    if installed.returncode:
        pytest.skip(f"NOT TESTED: no kernel of Python {request.param} could be installed: {installed.stdout[-200:]}")
    (spec := folder / "share" / "kernels" / "other").mkdir(parents=True)
    command = [str(folder / "venv" / "bin" / "python"), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": command, "display_name": "other", "language": "python"}))
    return {"JUPYTER_PATH": str(folder / "share"), "version": request.param}


@pytest.mark.slow
@pytest.mark.parametrize(("more", "verdict"), [("print('sum', n * 2)", "identical"), ("import random\nprint('3.11 and', random.random())", "differs")])
def test_another_python_is_no_other_result(tmp_path, kernel, more, verdict):
    folder = make_project(tmp_path / "project", more)
    first = run_in(folder)
    copy = shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("experiments", "made.json"))
    second = run_in(copy, "--kernel", "other", JUPYTER_PATH=kernel["JUPYTER_PATH"])
    assert second["kernel"]["python"].startswith(kernel["version"])
    judged = judge_runs(first, second)
    others = [item for item in judged.items if item.verdict != "identical" and item.counts]
    assert judged.verdict == verdict and len(others) == (verdict == "differs"), others
    assert describe_circumstances(first, second)[0].startswith("Python ")
