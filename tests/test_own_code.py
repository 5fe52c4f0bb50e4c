"""A repetition runs the code of its run, whatever way that was installed; what came from elsewhere is named, and nothing is judged."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import checked, run
from test_record import commit, git, make_repository, write_notebook

from ml_repo.records.reader import Record, find_records, read_record

CONTRACT = "n: int = 4  # how many, at least 1"
MAIN = "from ml_repo.cli.app import main; main()"
SITE = "lib/python{}.{}/site-packages".format(*sys.version_info[:2])
FINDER = """
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
MAPPING = {mapping!r}
class _Finder:
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname in MAPPING:
            return spec_from_file_location(fullname, MAPPING[fullname] + "/__init__.py")
sys.meta_path.append(_Finder)
"""  # as setuptools writes it for packages that are not the only folders in their parent


def make_environment(folder: Path) -> Path:
    """An environment of its own, that sees the packages of this one."""
    checked(sys.executable, "-m", "venv", "--without-pip", folder)
    here = next(path for path in sys.path if path.endswith("site-packages"))
    (folder / SITE / "zz_here.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return folder / "bin" / "python"


def install(folder: Path, name: str, version: str = "0.3") -> None:
    """Write the metadata of a package, as an installer does."""
    (place := folder / SITE / f"{name}-{version}.dist-info").mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def use(python: Path, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess:
    """Run `ml-repo` in an environment."""
    return run(python, "-P", "-c", MAIN, *words, cwd=cwd)


def run_once(python: Path, folder: Path, notebook: str = "a.ipynb") -> Record:
    """Run a notebook in an environment."""
    records = next(parent for parent in (folder, folder.parent) if (parent / "settings.ini").is_file()) / "experiments"
    known = set(find_records(records))
    result = use(python, "run", notebook, "--quiet", cwd=folder)
    assert result.returncode == 0, result.stdout
    return read_record((set(find_records(records)) - known).pop())


def verify(python: Path, folder: Path, *options: str) -> dict:
    """What `ml-repo verify latest` says, as data."""
    variables = os.environ.copy()
    variables.pop("PYTEST_CURRENT_TEST", None)
    done = subprocess.run([python, "-P", "-c", MAIN, "verify", "latest", "--json", "--no-keep", *options], cwd=folder, env=variables,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.stdout.startswith("["), done.stderr
    return json.loads(done.stdout)[0]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


FACTORS = {"src/churn/__init__.py": "from churn._version import version\nfrom churn.deep import FACTOR\n", "src/churn/deep.py": "FACTOR = 1\n",
           "packages/core/src/acme/core/__init__.py": "FACTOR = 1\n", "packages/ml/acme/ml/__init__.py": "FACTOR = 1\n",
           "flat/flat/__init__.py": "from importlib.metadata import version\nFACTOR, VERSION = 1, version('flat')\n",
           "renamed/code/__init__.py": "FACTOR = 1\n", "renamed/code/part.py": "FACTOR = 1\n", "extra/aside.py": "FACTOR = 1\n", "nbs/beside.py": "FACTOR = 1\n"}


def test_the_code_of_the_run_is_repeated_in_every_layout(tmp_path):
    """`.pth` files, finders of editable installations, namespace packages, absolute paths in the notebook, a generated module, a child process."""
    folder, python = tmp_path / "repository", make_environment(tmp_path / "environment")
    write(folder, FACTORS)
    names = "churn, acme.core, acme.ml, flat, renamed.part, aside, beside"
    write_notebook(folder / "nbs" / "a.ipynb", CONTRACT,
                   f"import sys\nsys.path.insert(0, {str(folder / 'extra')!r})\nimport {names}\nprint(flat.VERSION, churn.version, *[module.FACTOR for module in ({names})])",
                   "import subprocess\nprint(subprocess.check_output([sys.executable, '-c', 'import churn, flat, acme.ml; print(churn.FACTOR, flat.FACTOR, acme.ml.FACTOR)']))")
    make_repository(folder)
    with open(folder / ".gitignore", "a") as ignored:
        ignored.write("_version.py\n")
    git(folder, "commit", "--quiet", "--all", "--message", "Ignore what a build writes")
    write(folder, {"src/churn/_version.py": "version = 7\n"})
    site = tmp_path / "environment" / SITE
    write(site, {"churn.pth": f"{folder}/src\n", "acme.pth": f"{folder}/packages/core/src\n{folder}/packages/ml\n",
                 "__editable___flat_finder.py": FINDER.format(mapping={"flat": f"{folder}/flat/flat", "renamed": f"{folder}/renamed/code"}),
                 "__editable__.flat.pth": "import __editable___flat_finder\n"})
    install(tmp_path / "environment", "flat")

    record = run_once(python, folder / "nbs")
    assert (record.folder / "log.txt").read_text().split("\n")[0] == "0.3 7 1 1 1 1 1 1 1"
    assert record["code"]["own"]["renamed"] == "renamed/code" and record["code"]["own"]["acme.ml"] == "packages/ml/acme/ml"
    for name in FACTORS:
        (folder / name).write_text((folder / name).read_text().replace("1", "2"))
    write(folder, {"src/churn/later.py": "", "flat/flat/later.py": ""})
    verdict = verify(python, folder / "nbs")
    assert verdict["verdict"] == "identical", verdict

    write(folder, {"src/churn/_version.py": "version = 8\n"})  # now the module that git does not hold is another one
    verdict = verify(python, folder / "nbs")
    assert verdict["verdict"] == "cannot be judged" and "src/churn/_version.py" in verdict["problem"]


def test_a_script_by_its_whole_path_is_named(tmp_path):
    folder, python = tmp_path / "repository", Path(sys.executable)
    write(folder, {"tools/scale.py": "FACTOR = 1\n"})
    write_notebook(folder / "a.ipynb", CONTRACT, f"%run {folder}/tools/scale.py\nprint(FACTOR * n)")
    make_repository(folder)
    run_once(python, folder)
    assert verify(python, folder)["verdict"] == "identical"
    write(folder, {"tools/scale.py": "FACTOR = 2\n"})
    verdict = verify(python, folder)
    assert verdict["verdict"] == "cannot be judged" and f"tools/scale.py came from {folder}/tools/scale.py" in verdict["problem"], verdict
    assert "/files/tools/scale.py" in verdict["problem"]  # where the checkout has it


def test_a_package_of_another_clone_does_not_stand_in(tmp_path):
    """What is installed belongs to a second clone, which has gone on; the record knows that the package is the repository's own."""
    folder, other, python = tmp_path / "repository", tmp_path / "other", make_environment(tmp_path / "environment")
    write(folder, {"src/churn/__init__.py": "FACTOR = 1\n"})
    write_notebook(folder / "a.ipynb", CONTRACT, "import churn\nprint(churn.FACTOR * n)")
    make_repository(folder)
    write(tmp_path / "environment" / SITE, {"churn.pth": f"{folder}/src\n"})
    run_once(python, folder)
    checked("git", "clone", "--quiet", folder, other)
    write(other, {"src/churn/__init__.py": "FACTOR = 3\n"})
    write(tmp_path / "environment" / SITE, {"churn.pth": f"{other}/src\n"})
    assert verify(python, folder)["verdict"] == "identical"


def test_an_edited_package_is_the_first_cause(tmp_path):
    folder, python = tmp_path / "repository", make_environment(tmp_path / "environment")
    site = tmp_path / "environment" / SITE
    write(site, {"tiny/__init__.py": "from tiny.core import FACTOR\n", "tiny/core.py": "FACTOR = 1\n"})
    install(tmp_path / "environment", "tiny", "1.0")
    rows = ["import base64, hashlib, pathlib, sys", "for name in ('tiny/__init__.py', 'tiny/core.py'):", "    data = (pathlib.Path(sys.argv[1]) / name).read_bytes()",
            "    print(f\"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\")"]
    (site / "tiny-1.0.dist-info" / "RECORD").write_text(checked(sys.executable, "-c", "\n".join(rows), site))
    folder.mkdir()
    write_notebook(folder / "a.ipynb", CONTRACT, "import tiny\nprint('result', tiny.FACTOR * n)")
    make_repository(folder)
    assert run_once(python, folder)["packages"]["edited"] == {}
    write(site, {"tiny/core.py": "FACTOR = 2\n"})
    verdict = verify(python, folder)
    assert verdict["verdict"] == "differs" and "tiny was edited at the same version: tiny/core.py" in verdict["causes"][0]["text"], verdict


@pytest.mark.slow
def test_a_fresh_environment_has_the_repositorys_own_package(tmp_path):
    """`--venv` installs the lock, in which the project itself is not; it is imported from the checkout, and knows its version."""
    folder, python = tmp_path / "repository", make_environment(tmp_path / "environment")
    from conftest import ROOT
    write(folder, {"src/churn/__init__.py": "from importlib.metadata import version\nFACTOR, VERSION = 1, version('churn')\n",
                   "pyproject.toml": '[project]\nname = "churn"\nversion = "0.3"\n', "docker/requirements.txt": (ROOT / "docker" / "requirements.txt").read_text()})
    write_notebook(folder / "a.ipynb", CONTRACT, "import churn\nprint(churn.VERSION, churn.FACTOR * n)")
    make_repository(folder)
    commit(folder)
    write(tmp_path / "environment" / SITE, {"churn.pth": f"{folder}/src\n"})
    install(tmp_path / "environment", "churn")
    run_once(python, folder)
    write(folder, {"src/churn/__init__.py": "FACTOR = 2\n"})
    assert verify(python, folder, "--venv")["verdict"] == "identical"
