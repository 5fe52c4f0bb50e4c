"""Notebooks that nobody of this project wrote are run and verified without a line changed in them, and the verdicts are right."""
import hashlib
import shutil
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from conftest import checked, run
from test_record import commit, make_repository

from ml_repo.core.files import unpack_tar
from ml_repo.records.reader import find_records, read_record
from ml_repo.verify.verify import verify_run

pytestmark = pytest.mark.own_process

SOURCES = {  # source distributions on PyPI, by name: version, SHA-256, folder of the notebooks
    "ipython": ("8.31.0", "b6a2274606bec6166405ff05e54932ed6e5cfecaca1fc05f2cacde7bb074d70b", "examples/IPython Kernel"),
    "nbval": ("0.11.0", "77c95797607b0a968babd2597ee3494102d25c3ad37435debbdac0e46e379094", "tests"),
    "tqdm": ("4.52.0", "18d6a615aedd09ec8456d9524489dab330af4bd5c2a14a76eb3f9a0e14471afe", "."),
}


@dataclass(frozen=True)
class Wild:
    """A notebook, and what a person who reads both of its executions finds."""
    package: str
    name: str
    volatile: str  # what is another in each execution
    differing: frozenset[str] = field(default_factory=frozenset)  # items whose result is another; without any it is identical
    kernel: tuple[str, ...] = ()  # options for a notebook that names a kernel which is not installed


NOTEBOOKS = [
    Wild("ipython", "Background Jobs", "addresses; texts of threads"),
    Wild("ipython", "Capturing Output", "an address"),
    Wild("ipython", "Cell Magics", "%timeit; an exception at the end, each time the same"),
    Wild("ipython", "Custom Display Logic", "addresses, the id of a table; histograms of random numbers without a seed",
         frozenset(f"cell {number}" for number in (13, 15, 17, 20, 22, 48))),
    Wild("ipython", "Plotting in the Notebook", "ids in HTML"),
    Wild("ipython", "Script Magics", "an exception that names a process, each time the same"),
    Wild("ipython", "Trapezoid Rule", "nothing"),
    Wild("ipython", "Updating Displays", "the random id of a display"),
    Wild("nbval", "sample_notebook", "dates of now in many forms, an address"),
    Wild("tqdm", "DEMO", "progress bars, `time` of a shell; random numbers without a seed behind one bar", frozenset({"cell 30"}), ("-k", "python3")),
]


@cache
def fetch(package: str, folder: Path) -> Path:
    """Download and unpack a source distribution; skip where PyPI is out of reach."""
    version, digest, inside = SOURCES[package]
    done = run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", folder, f"{package}=={version}")
    files = sorted(folder.glob(f"{package}-*.tar.gz"))
    if not files:
        pytest.skip(f"NOT TESTED: {package} {version} cannot be downloaded, so no notebook of it was run. pip says: {done.stdout.strip()[-300:]}")
    assert hashlib.sha256(files[0].read_bytes()).hexdigest() == digest, f"{files[0].name} is not the file that was chosen"
    unpack_tar(files[0].read_bytes(), folder)
    return folder / f"{package}-{version}" / inside


@pytest.fixture(scope="session")
def downloads(tmp_path_factory) -> Path:
    """Where the packages are unpacked."""
    return tmp_path_factory.mktemp("downloads")


@pytest.mark.slow
@pytest.mark.parametrize("wild", NOTEBOOKS, ids=lambda one: f"{one.package}-{one.name.replace(' ', '-')}")
def test_the_verdict_on_a_notebook_of_others_is_right(wild, downloads, tmp_path):
    source = fetch(wild.package, downloads) / f"{wild.name}.ipynb"
    repository = make_repository(tmp_path / "repository")
    shutil.copy(source, repository)
    commit(repository)
    done = run("ml-repo", "run", source.name, *wild.kernel, "--quiet", cwd=repository)
    folders = find_records(repository / "experiments")
    assert folders, done.stdout
    found = verify_run(folders[0], keep=False)
    assert not found.problem and read_record(folders[0])["state"] in ("completed", "failed")
    assert {item.name for item in found.items if item.verdict == "differs"} == wild.differing, found.to_dict()
    assert found.verdict == ("differs" if wild.differing else "identical"), found.to_dict()
    assert (repository / source.name).read_bytes() == source.read_bytes()
