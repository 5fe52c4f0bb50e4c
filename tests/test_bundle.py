"""A run in one file: repeated where its clone is gone and there is no network, and never packed as something that it was not."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, await_true, run
from test_record import commit, git, make_repository, write_notebook

from ml_repo.bundle.archive import read_listing
from ml_repo.bundle.offline import find_offline_prefix
from ml_repo.records.reader import find_records
from ml_repo.scaffold.lock import find_uv

WORK = """
import os, helper
from pathlib import Path
rows = [float(line) for line in Path("data/prices.csv").read_text().split()]
print("names", sorted(os.listdir("data/parts")))
value = sum(rows) * lr * helper.FACTOR
Path("out.txt").write_text(f"{value}\\n")
from ml_repo.tracking.run import start_run
start_run().log(split="test", value=value)
value
"""
PARAMETERS = "lr: float = 0.1  # step size, above 0\nname: str = 'a b'"
OFFLINE, WHY = find_offline_prefix()
needs_namespace = pytest.mark.skipif(not OFFLINE, reason=f"NOT TESTED: no network namespace can be made here: {WHY}")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The programs of a small environment: this library and what it needs, from the index."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*find_uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    words = [*find_uv(), "pip", "install", "--quiet", "--python", python, "--editable", ROOT, "rocrate>=0.15"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED: the index of packages does not answer: {done.stderr.strip()[-300:]}")
    (python.parent / "uv").symlink_to(shutil.which(find_uv()[0]))
    return python.parent


def ask(small: Path, *words: str | Path, cwd: Path, before: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess:
    """Run a command of the small environment, and of nothing else of ours."""
    path = os.pathsep.join([str(small), *(folder for folder in os.environ["PATH"].split(os.pathsep) if ".venv" not in folder)])
    program = small / words[0] if (small / words[0]).is_file() else words[0]
    return run(*before, program, *words[1:], cwd=cwd, PATH=path, **variables)


def make_project(folder: Path, prepare: Callable[[Path], None] = lambda folder: None, work: str = WORK) -> Path:
    """A repository with data that git ignores, and changes that are not committed."""
    folder.mkdir(parents=True)
    write_notebook(folder / "train.ipynb", PARAMETERS, work)
    (folder / "helper.py").write_text("FACTOR = 1\n")
    (folder / "LICENSE").write_text("Apache License\n")
    make_repository(folder)
    (folder / "helper.py").write_text("FACTOR = 2\n")
    (folder / "table.bin").write_bytes(bytes(range(256)))
    (folder / "data" / "parts").mkdir(parents=True)
    (folder / "data" / "prices.csv").write_text("1\n2\n3.5\n")
    for number in range(3):
        (folder / "data" / "parts" / f"{number}.csv").write_text(f"{number}\n")
    prepare(folder)
    return folder


def run_once(small: Path, folder: Path, *options: str, notebook: str = "train.ipynb") -> Path:
    """Run the notebook of a project, and give the folder of its record."""
    known = set(find_records(folder / "experiments"))
    done = ask(small, "ml-repo", "run", notebook, "-p", "lr", "0.5", "--quiet", *options, cwd=folder)
    new = set(find_records(folder / "experiments")) - known
    assert new, done.stdout
    return new.pop()


def refuse(small: Path, folder: Path, *words: str | Path) -> str:
    """What `ml-repo bundle` says where it writes no file."""
    before = sorted(os.listdir(folder.parent))
    done = ask(small, "ml-repo", "bundle", *words, cwd=folder)
    assert done.returncode and sorted(os.listdir(folder.parent)) == before, done.stdout
    return " ".join(done.stdout.split())


def verify_alone(small: Path, file: Path, *options: str, before: tuple[str, ...] = OFFLINE) -> tuple[int, str, dict]:
    """Verify a bundle where nothing of this machine is left: another home, no cache, no repository, no route."""
    alone = file.parent / f"alone-{time.monotonic_ns()}"
    alone.mkdir()
    done = ask(small, "ml-repo", "verify", file, "--json", *options, cwd=alone, before=before, HOME=str(alone), UV_CACHE_DIR=str(alone / "uv"),
               XDG_CACHE_HOME=str(alone / "cache"), UV_OFFLINE="1")
    text = done.stdout
    verdicts = json.loads(text[text.index("\n["):]) if "\n[" in text else [{}]
    shutil.rmtree(alone)
    return done.returncode, text, verdicts[0]


@needs_namespace
def test_a_bundle_is_verified_without_clone_index_and_network(small, tmp_path):
    """The promise: one file, and nothing else of what there was when the run was made."""
    project = make_project(tmp_path / "project")
    record, file = run_once(small, project), tmp_path / "run.zip"
    (project / "data" / "prices.csv").write_text("1\n2\n4\n")
    assert "data/prices.csv is changed" in refuse(small, project, record.name, file)
    (project / "data" / "prices.csv").write_text("1\n2\n3.5\n")
    made = ask(small, "ml-repo", "bundle", record.name, file, cwd=project)
    assert made.returncode == 0 and "SHA-256" in made.stdout, made.stdout
    assert "not overwritten" in refuse(small, project, record.name, file)
    shutil.rmtree(project)
    code, text, verdict = verify_alone(small, file)
    assert (code, verdict.get("verdict")) == (0, "identical"), text
    assert verdict["environment"] == "venv" and not any("could not be switched off" in note for note in verdict["notes"])
    assert sorted(item["name"] for item in verdict["items"] if item["name"].startswith(("metric", "file"))) == ["file out.txt", "metric test_value"]
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        assert json.loads(archive.read("ro-crate-metadata.json"))["@context"] == "https://w3id.org/ro/crate/1.2/context"
    assert names >= {"README.txt", "code/helper.py", "data/data/parts/0.csv", "results/out.txt", "requirements.txt"}
    assert not read_listing(file)["left_out"]
