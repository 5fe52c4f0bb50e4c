"""What is optional is in an extra, what is missing says so in a line, and the core alone records, lists, compares and verifies."""
import ast
import json
import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import BIN, HAS_EXAMPLE, ROOT, checked, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ml_repo.core.extras import EXTRAS

SETTINGS = ConfigParser(delimiters=["="])
SETTINGS.read(ROOT / "settings.ini")
LISTS = {key.removesuffix("requirements").rstrip("_") or "core": [Requirement(text) for text in value.split()]
         for key, value in SETTINGS["DEFAULT"].items() if key.endswith("requirements")}
COMES_WITH = {"ipython": "ipykernel", "traitlets": "ipykernel", "pyzmq": "ipykernel", "markupsafe": "jinja2", "fastapi": "mlflow", "protobuf": "tensorboard"}
NOT_OURS = {"torch", "jax", "h5py", "jupyter_server"}  # asked only where somebody else has imported, installed or written with them
NEED_EXTRAS = {"project.data", "project.datasets", "project.figures", "project.model", "project.training", "results.plots",
               "study.dashboard", "study.keras_tuner", "study.outcomes", "study.visualization", "tracking.keras_callback"}  # when they are imported


brings = cache(packages_distributions)


@cache
def packages_of(name: str) -> set[str]:
    """The packages of a list in settings.ini, with those of the extras that it takes in."""
    own = {canonicalize_name(one.name) for one in LISTS[name]} - {"ml-repo"}
    return own.union(*(packages_of(extra) for one in LISTS[name] if one.name == "ml_repo" for extra in one.extras))


def package_of(module: str) -> str:
    """The package that brings a module, or the one of settings.ini that brings that package."""
    names = {canonicalize_name(name) for name in brings().get(module, [module])}
    listed = names & set().union(*map(packages_of, LISTS))
    name = "protobuf" if module == "google" else min(listed or names)
    return COMES_WITH.get(name, name)


def third_party(node: ast.AST, inside: bool = True) -> set[str]:
    """The modules of other packages that code imports; with `inside` False, only when it is imported itself."""
    found = set()
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            found |= {alias.name for alias in child.names}
        elif isinstance(child, ast.ImportFrom) and not child.level:
            found.add(child.module)
        is_later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or (
            isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING")
        if inside or not is_later:
            found |= third_party(child, inside)
    return {name.partition(".")[0] for name in found} - {"ml_repo", *sys.stdlib_module_names}


@cache
def trees() -> dict[str, ast.Module]:
    """The code of each module, by a name such as `core.hashing`."""
    paths = [path for path in (ROOT / "ml_repo").glob("*/*.py") if path.stem != "__init__"]
    return {f"{path.parent.name}.{path.stem}": ast.parse(path.read_text()) for path in paths}


def test_every_import_is_in_the_core_or_in_an_extra():
    extras = {module for extra in EXTRAS.values() for module in extra.modules}
    unknown = {module: left for module, tree in trees().items()
               if (left := {name for name in third_party(tree) - extras - NOT_OURS if package_of(name) not in packages_of("core")})}
    assert unknown == {}


def test_the_table_of_extras_says_what_settings_say():
    assert set(EXTRAS) == set(LISTS) - {"core", "cuda", "dev", "all", "project"}
    assert {extra for one in LISTS["all"] for extra in one.extras} == set(EXTRAS)
    wrong = {(extra, module) for extra, (_, modules) in EXTRAS.items() for module in modules if package_of(module) not in packages_of(extra)}
    assert wrong == set()
    used = set().union(*map(third_party, trees().values()))
    unlisted = {module for module in used - NOT_OURS if package_of(module) not in packages_of("core")} - {m for one in EXTRAS.values() for m in one.modules}
    assert unlisted == set()


def test_only_these_modules_need_an_extra_to_be_imported():
    core = packages_of("core")
    heavy = {module for module, tree in trees().items() if {name for name in third_party(tree, inside=False) if package_of(name) not in core}}
    while True:
        more = {module for module, tree in trees().items() if module not in heavy and heavy & imported_at_once(tree, module)}
        if not more:
            break
        heavy |= more
    assert heavy == {module for module in NEED_EXTRAS if HAS_EXAMPLE or not module.startswith("project.")}


def imported_at_once(tree: ast.Module, module: str) -> set[str]:
    """The modules of this library that are imported with a module."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level:
            package = module.partition(".")[0] if node.level == 1 else ""
            found |= {".".join(filter(None, [package, node.module or "", alias])) for alias in ("", *(alias.name for alias in node.names))}
    return {name.strip(".") for name in found}


def test_nothing_that_a_user_may_have_has_an_upper_bound():
    bounded = {f"{name}: {one}" for name in ("core", *(set(EXTRAS) - {"docs"})) for one in LISTS[name] for part in one.specifier if part.operator != ">="}
    assert bounded == set()


def ask_index(*command: object) -> str:
    """Run a command that needs a package index; skip the test where none is reached. A download may break, so it has three tries."""
    for _ in range(3):
        done = run(*command)
        if done.returncode == 0:
            return done.stdout
    probe = subprocess.run([BIN / "uv", "pip", "compile", "--no-cache", "--quiet", "-"], input="click", text=True, capture_output=True)
    if probe.returncode:
        pytest.skip(f"needs a package index, and uv reaches none: {done.stdout.strip()[:300]}")
    raise AssertionError(done.stdout)


def install(folder: Path, *packages: object) -> Path:
    """The folder of programs of a new environment with some packages."""
    checked("uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder)
    ask_index("uv", "pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "bin" / "python", *packages)
    return folder / "bin"


def list_installed(programs: Path) -> dict[str, str]:
    """Package name -> version in an environment."""
    return {one["name"]: one["version"] for one in json.loads(checked("uv", "pip", "list", "--quiet", "--format", "json", "--python", programs / "python"))}


@pytest.fixture(scope="module")
def core(wheel, tmp_path_factory) -> Path:
    """The programs of an environment that has `pip install ml_repo` and nothing else."""
    return install(tmp_path_factory.mktemp("core"), wheel)


def write_project(folder: Path) -> Path:
    """A repository with a notebook that needs no package."""
    sources = ["lr = 0.1  # step size", "from ml_repo import start_run\n\nrun = start_run()",
               "loss = 1.0\nfor step in range(5):\n    loss *= 1 - lr\n    run.log(step=step, direction='lower', loss=loss)\nprint(loss)",
               "with open('table.csv', 'w') as file:\n    print('lr', lr, sep='\\n', file=file)"]
    cells = [{"cell_type": "code", "metadata": {"tags": ["parameters"] if not number else []}, "source": source, "outputs": [], "execution_count": None,
              "id": f"cell{number}"} for number, source in enumerate(sources)]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    (folder / "fit.ipynb").write_text(json.dumps({"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}))
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\nmlflow_mirror = live\n")
    (folder / ".gitignore").write_text("experiments/\ntable.csv\nout.ipynb\n")
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "First"]):
        checked("git", *words, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository with a notebook that needs no package."""
    return write_project(tmp_path_factory.mktemp("project"))


def test_the_core_is_small(core):
    packages = list_installed(core)
    size_mb = sum(path.lstat().st_size for path in core.parent.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6
    print(f"{len(packages)} packages, {size_mb:.0f} MB with compiled bytecode")
    assert len(packages) <= 60 and size_mb <= 150
    assert not packages.keys() & {"numpy", "pandas", "matplotlib", "tensorflow", "optuna", "mlflow", "nbdime"}


def test_the_core_records_lists_compares_and_verifies(core, project):
    def ask(*words: str) -> str:
        return checked(core / "ml-repo", *words, cwd=project)

    runs = [re.search(r"fit-\w+-\w{4}", ask("run", "fit.ipynb", "--quiet", "-p", "lr", value))[0] for value in ("0.1", "0.2")]
    checked(core / "papermill", "fit.ipynb", "out.ipynb", "-p", "lr", "0.3", cwd=project)
    assert all(run in ask("ls", "lr < 0.25", "--sort", "loss") for run in runs) and "3 runs" in ask("ls")
    assert "0.32768" in ask("show", runs[1]) and runs[1] in ask("best", "loss", "lr < 0.25")
    assert "Best loss (lower is better): lr 0.2" in ask("compare", *runs, "--alone")
    assert "From" in ask("diff", *runs) and "lr" in ask("params", "fit.ipynb")
    assert f"{runs[0]}: identical in state, parameters, 1 metric, 1 curve, 1 file, 1 cell" in ask("verify", runs[0])
    assert "exactly as it was" in ask("checkout", runs[0], str(project.parent / "as-it-was"))
    ask("rerun", runs[0], "-p", "lr", "0.4")
    ask("run", "fit.ipynb", "--detach")
    ask("wait", "latest")
    assert "0.59049" in ask("logs", "latest")
    checked(core / "python", "-c", "from ml_repo import find_runs; assert len(find_runs()) == 5; find_runs().save('runs.csv')", cwd=project)


def test_doctor_lists_extras_and_complains_of_none(core, project):
    printed = checked(core / "ml-repo", "doctor", cwd=project, ML_REPO_MIRROR="")
    line = next(line for line in printed.splitlines() if " extras:" in line)
    assert line.startswith("ok") and "none installed; not keras (" in line and "'ml_repo[keras]'" in line
    assert "problem" not in printed
    assert "mlflow_mirror = live" in printed, "what settings.ini asks for is no option any more"


COMMANDS = {("tune", "fit.ipynb", "--vary", "lr=0.1,0.2", "--metric", "loss", "--trials", "2"): ("Optuna", "tune"),
            ("run", "fit.ipynb", "--grid", "lr=0.1,0.2"): ("Optuna", "tune"), ("site",): ("Jinja", "site"), ("ui",): ("Jinja", "site"),
            ("ui", "mlflow"): ("MLflow", "mlflow"), ("ui", "optuna"): ("Optuna Dashboard", "tune"), ("sync", "mlflow"): ("MLflow", "mlflow"),
            ("pull", "s3://bucket/runs"): ("obstore", "remote"), ("pull", "sftp://host/runs"): ("AsyncSSH", "remote"),
            ("ls", "--records", "s3://bucket/runs"): ("obstore", "remote"), ("import", "mlflow", "."): ("MLflow", "mlflow"), ("export", "runs.parquet"): ("pandas", "plots")}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_names_its_extra(core, project, words):
    package, extra = COMMANDS[words]
    done = run(core / "ml-repo", *words, cwd=project)
    last = done.stdout.splitlines()[-1]
    assert re.fullmatch(rf"Error: ml-repo {words[0]}( mlflow)?: {package} is not installed\. Install it with: pip install 'ml_repo\[{extra}\]'", last)
    assert done.returncode == 2 and "Traceback" not in done.stdout


@pytest.mark.parametrize(("module", "text"), [("results.plots", "Matplotlib is not installed. Install it with: pip install 'ml_repo[plots]'"),
                                              ("tracking.keras_callback", "Keras is not installed. Install it with: pip install 'ml_repo[keras]'")])
def test_python_names_the_extra(core, tmp_path, module, text):
    done = run(core / "python", "-c", f"import ml_repo.{module}", cwd=tmp_path)
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == f"ModuleNotFoundError: {text}"


def test_help_works_in_the_core(core, tmp_path):
    text = checked(core / "ml-repo", "--help", cwd=tmp_path)
    names = re.findall(r"^  ([a-z]+)  ", text, re.MULTILINE)
    assert len(names) > 25
    program = ("import sys; from click.testing import CliRunner; from ml_repo.cli.app import main; "
               "print([name for name in sys.argv[1:] if CliRunner().invoke(main, [name, '--help']).exit_code])")
    assert checked(core / "python", "-c", program, *names, cwd=tmp_path).strip() == "[]"


def test_pandas_3_is_no_conflict(wheel, tmp_path):
    """Of the extras only MLflow refuses it."""
    extras = ",".join(sorted(set(EXTRAS) - {"mlflow", "docs", "ray"}))
    (tmp_path / "wanted.in").write_text(f"ml_repo[{extras}] @ {wheel.as_uri()}\npandas>=3\n")
    locked = ask_index("uv", "pip", "compile", "--quiet", "--no-header", tmp_path / "wanted.in")
    assert re.search(r"^pandas==[3-9]", locked, re.MULTILINE)


@pytest.mark.slow
def test_an_environment_with_pandas_3_keeps_it(wheel, project, tmp_path):
    programs = install(tmp_path / "env", "pandas>=3")
    before = list_installed(programs)
    ask_index("uv", "pip", "install", "--quiet", "--python", programs / "python", f"ml_repo[plots,files] @ {wheel.as_uri()}")
    after = list_installed(programs)
    assert {name: after[name] for name in before} == before and after["pandas"] >= "3"
    checked(programs / "ml-repo", "run", "fit.ipynb", "--quiet", cwd=project)
    checked(programs / "ml-repo", "export", "runs.parquet", cwd=project)
    checked(programs / "ml-repo", "compare", "latest", "--plot", "curves.png", cwd=project)
    program = "from ml_repo import find_runs; from ml_repo.results.search import load_metrics; print(len(find_runs().frame()), len(load_metrics('latest')))"
    assert checked(programs / "python", "-W", "error::FutureWarning", "-c", program, cwd=project).split()[1] == "5"


def test_the_metadata_names_the_extras(wheel):
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert set(re.findall(r"^Provides-Extra: (\S+)$", text, re.MULTILINE)) == set(LISTS) - {"core", "project"}
    plain = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", text, re.MULTILINE)
    assert {canonicalize_name(name) for name in plain} == packages_of("core")


@pytest.mark.slow
def test_a_package_index_would_take_wheel_and_source_archive(clone, tmp_path):
    checked("uv", "build", "--quiet", "--no-build-isolation", "--python", sys.executable, "--out-dir", tmp_path, clone)
    files = sorted(path for path in tmp_path.iterdir() if path.suffix in (".whl", ".gz"))
    assert len(files) == 2
    assert ask_index("uv", "tool", "run", "--quiet", "twine==6.2.0", "check", "--strict", *files).count("PASSED") == 2
