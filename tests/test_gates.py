"""The gates: notebooks clean, module and README in step, imports downwards, everything public explained."""
import ast
import json
import os
import re
import statistics
import sys
from collections import Counter
from functools import cache

import nbformat
import papermill
import pytest
from conftest import BIN, HAS_EXAMPLE, ROOT, checked, needs_example, run

from ml_repo.notebook.parameters import read_parameters

LIBRARY = sorted((ROOT / "nbs").glob("*/[0-9]*.ipynb"))
PACKAGES = ["core", "formats", "provenance", "notebook", "records", "tracking", "autolog", "execution", "warm", "results", "reproduce",
            "verify", "integrations", "study", "site", "live", "docs", "scaffold", "bundle", "remote", "cli", *["project"] * HAS_EXAMPLE]  # each imports only from those before it
EXAMPLE_NEEDS = {"core", "provenance", "tracking", "project"}  # all that an adopter's own code builds on
TAGGED = "train.ipynb" if HAS_EXAMPLE else "results.ipynb"  # a notebook with parameters


def changes(folder) -> str:
    return checked("git", "status", "--porcelain", cwd=folder)


def prepare(folder) -> None:
    for command in (["nbdev_clean"], ["nbdev_export"], ["ml-repo", "readme"]):
        checked(*command, cwd=folder)


def test_checkout_is_clean(clone):
    assert changes(clone) == ""
    if os.environ.get("CI"):  # a person may test before committing, CI has nothing to commit
        assert checked("git", "status", "--porcelain", "--", ".", ":!experiments") == ""


def test_cleaning_exporting_and_the_readme_change_nothing(tree):
    prepare(tree)
    assert changes(tree) == ""


def test_the_gate_sees_what_is_out_of_step(tree):
    notebook = tree / "nbs" / "core" / "00_hashing.ipynb"
    text = notebook.read_text()
    cells = json.loads(text)
    cells["cells"][0]["metadata"] = {"scrolled": True}
    notebook.write_text(json.dumps(cells, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    checked("nbdev_clean", "--fname", notebook, cwd=tree)
    assert notebook.read_text() == text

    notebook.write_text(text.replace("64 hexadecimal digits", "64 hex digits"))
    index = tree / "nbs" / "index.ipynb"
    index.write_text(index.read_text().replace('"# ', '"# Another ', 1))
    prepare(tree)
    assert {line[3:] for line in changes(tree).splitlines()} >= {"README.md", "ml_repo/core/hashing.py"}


def test_readme_check_fails_when_out_of_step(tree):
    assert run("ml-repo", "readme", "--check", cwd=tree).returncode == 0
    (tree / "README.md").write_text("# Something else\n")
    result = run("ml-repo", "readme", "--check", cwd=tree)
    assert result.returncode == 1 and "make prepare" in result.stdout


def test_a_failing_notebook_fails_nbdev_test(tree):
    notebook = tree / "nbs" / "core" / "01_tables.ipynb"
    notebook.write_text(notebook.read_text().replace('bundle[\\"text/html\\"].count(\\"<b>\\"), 0)', '1, 2)'))
    assert changes(tree), "the test below was not broken"
    for command in (["nbdev_test"], [sys.executable, "tests/notebooks.py"]):
        result = run(*command, "--path", "nbs/core/01_tables.ipynb", cwd=tree)
        assert result.returncode == 1 and "While Executing Cell #" in result.stdout and "\t01_tables.ipynb" in result.stdout


def test_a_notebook_leaves_nothing_to_the_next_one_and_may_be_killed(tmp_path):
    (tmp_path / "settings.ini").write_text("[DEFAULT]\nlib_name = birds\nlib_path = birds\nnbs_path = nbs\nuser = me\ntst_flags = notest\n")
    change = ("import os, sys, tempfile, numpy\nos.environ['PATH'] = tempfile.tempdir = '/nowhere'\nos.chdir('/')\nsys.path.insert(0, '/nowhere')\n"
              "sys.modules['birds'] = numpy.leaked = os\nnumpy.random.seed(0)")
    see = ("import os, sys, tempfile, numpy\nassert '/nowhere' not in [os.environ['PATH'], tempfile.tempdir, *sys.path]\nassert os.path.samefile('.', os.environ['HOME'])\n"
           "assert 'birds' not in sys.modules and not hasattr(numpy, 'leaked')\nassert numpy.random.randint(2**31) != numpy.random.RandomState(0).randint(2**31)")
    cells = {"a": [change], "b": [see, "#| eval: false\n1 / 0", "#| notest\n1 / 0"], "c": ["import os", "os.kill(os.getpid(), 9)"], "d": ["1"]}
    for name, sources in cells.items():
        (tmp_path / "nbs").mkdir(exist_ok=True)
        nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources]), tmp_path / "nbs" / f"{name}.ipynb")
    command = [sys.executable, ROOT / "tests" / "notebooks.py", "--n_workers", "1"]
    result = run(*command, cwd=tmp_path, HOME=str(tmp_path / "nbs"))
    assert result.returncode == 1 and "c.ipynb: its process ended with -9" in result.stdout and result.stdout.rstrip().endswith("\tc.ipynb"), result.stdout
    assert json.loads((tmp_path / "_proc" / "notebook_times.json").read_text()).keys() == {str(tmp_path / "nbs" / f"{name}.ipynb") for name in cells}
    (tmp_path / "nbs" / "c.ipynb").unlink()
    assert run(*command, cwd=tmp_path, HOME=str(tmp_path / "nbs")).stdout.endswith("Success.\n")


def test_the_parameters_tag_survives_cleaning(tree):
    checked("nbdev_clean", "--fname", f"nbs/{TAGGED}", cwd=tree)
    cells = json.loads((tree / "nbs" / TAGGED).read_text())["cells"]
    assert [cell["metadata"].get("tags") for cell in cells if cell["metadata"]] == [["parameters"]]


def test_without_the_setting_the_tag_would_be_lost(tree):
    settings = tree / "settings.ini"
    settings.write_text(settings.read_text().replace("allowed_cell_metadata_keys = tags", "allowed_cell_metadata_keys ="))
    checked("nbdev_clean", "--fname", f"nbs/{TAGGED}", cwd=tree)
    assert f"nbs/{TAGGED}" in changes(tree)


def test_papermill_reads_every_parameter():
    seen = papermill.inspect_notebook(str(ROOT / "nbs" / TAGGED))
    ours = read_parameters(ROOT / "nbs" / TAGGED)
    assert [(one["name"], one["inferred_type_name"], ast.literal_eval(one["default"]), one["help"]) for one in seen.values()] == [
        (one.name, one.type, one.default, one.help) for one in ours]


@needs_example
def test_train_notebook_is_short_and_has_no_outputs():
    cells = json.loads((ROOT / "nbs" / "train.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert max(len("".join(cell["source"]).splitlines()) for cell in code if "parameters" not in cell["metadata"].get("tags", [])) <= 15


def module_of(notebook) -> str:
    """The module that a notebook exports, as `package.name`."""
    return re.search(r"#\| default_exp ([\w.]+)", notebook.read_text())[1]


MODULES = {module_of(path): path for path in LIBRARY}
ORDER = {module: (PACKAGES.index(module.split(".")[0]), path.name.split("_")[0]) for module, path in MODULES.items()}


@cache
def source_of(module: str) -> str:
    return (ROOT / "ml_repo" / f"{module.replace('.', '/')}.py").read_text()


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse(source_of(module))


@cache
def cells_of(notebook) -> list[dict]:
    return json.loads(notebook.read_text())["cells"]


@cache
def imported_modules(source: str, package: str) -> set[str]:
    """The modules of this library that `source`, in `package`, imports, also inside functions."""
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*", "a star import hides where a name comes from"
            above = ["ml_repo", *package.split(".")][: 3 - node.level] if node.level else []
            path = ".".join([*above, *filter(None, [node.module])])
            names = [path, *(f"{path}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        imported |= {name.removeprefix("ml_repo.") for name in names} & set(MODULES)
    return imported


def test_the_import_gate_sees_every_way_to_import():
    source = ("from .search import find_runs\nfrom ..core import hashing\ndef f():\n    import ml_repo.results.index\n"
              "    from ml_repo.tracking.run import start_run")
    assert imported_modules(source, "results") == {"results.search", "core.hashing", "results.index", "tracking.run"}
    assert imported_modules(source_of("results.search"), "results") >= {"core.metrics", "results.index", "records.reader"}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_downwards(module):
    package = module.split(".")[0]
    used = imported_modules(source_of(module), package) - {module}  # itself: where a notebook starts its function elsewhere
    upwards = {other for other in used if ORDER[other] >= ORDER[module]}
    assert not upwards, f"{module} imports upwards: {upwards}"


@pytest.mark.parametrize("module", MODULES)
def test_nothing_needs_the_example(module):
    package = module.split(".")[0]
    packages = {other.split(".")[0] for other in imported_modules(source_of(module), package)}
    assert packages <= EXAMPLE_NEEDS if package == "project" else "project" not in packages
    if package != "project":
        code = [cell for cell in cells_of(MODULES[module]) if cell["cell_type"] == "code"]
        assert not any("ml_repo.project" in "".join(cell["source"]) for cell in code), "a demonstration needs the example"


def test_every_module_has_one_notebook_of_its_name():
    assert len(MODULES) == len(LIBRARY) and len(set(ORDER.values())) == len(ORDER), "two notebooks with one number"
    for module, notebook in MODULES.items():
        package, name = module.split(".")
        assert notebook.parent.name == package and re.fullmatch(rf"\d\d_{name}\.ipynb", notebook.name)
    files = [file for package in PACKAGES for file in (ROOT / "ml_repo" / package).glob("[!_]*.py")]
    modules = {f"{file.parent.name}.{file.stem}" for file in files}
    assert modules == set(MODULES)


def test_the_package_has_nothing_beside_its_packages():
    entries = {line.split("/")[1] for line in checked("git", "ls-files", "--cached", "--others", "--exclude-standard", "ml_repo").splitlines()}
    assert entries - set(PACKAGES) == {"__init__.py", "_modidx.py", "icons", "labextension", "page_files", "pages", "project_files"}


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_says_nothing_of_its_own(package):
    text = (ROOT / "ml_repo" / package / "__init__.py").read_text()
    assert text == "" or text.splitlines()[1:] == ["from ..core.aliases import pass_on_names", "", "__getattr__ = pass_on_names(__name__)"]


def test_flat_names_still_work():
    """Each module of version 0.1 can be imported by its flat name, is the module of today, and says so."""
    program = """import importlib, sys, warnings
warnings.simplefilter("ignore")
from ml_repo.core.aliases import FLAT_NAMES
for old, new in FLAT_NAMES.items():
    if new.startswith("ml_repo.project.") and len(sys.argv) > 1:
        continue
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            module = importlib.import_module(f"ml_repo.{old}")
            names = getattr(importlib.import_module(new), "__all__")
            for name in names:
                getattr(module, name)
        if names and not any(issubclass(one.category, DeprecationWarning) and new in str(one.message) for one in caught):
            print("no warning for", old)
        if any(getattr(module, name) is not getattr(sys.modules[new], name) for name in names):
            print(old, "is not", new)
    except Exception as error:
        print(old, repr(error))
"""
    result = run(sys.executable, "-c", program, *([] if HAS_EXAMPLE else ["without"]), TF_CPP_MIN_LOG_LEVEL="3")
    lines = [line for line in result.stdout.splitlines() if re.match(r"no warning|\w+ is not|\w+ \w*Error", line)]
    assert result.returncode == 0 and lines == [], result.stdout


HEAVY = {"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "papermill", "mlflow", "nbdev", "detect_secrets", "pynvml", "requests", "numpy",
         "scipy", "nbformat", "rich", "tqdm", "nh3", "nbconvert", "fastjsonschema"}
MAY_BE_HEAVY = {"execution": {"engine", "kernel", "output_writer", "papermill_plugin", "supervisor"}, "integrations": {"mlflow_app"},
                "results": {"plots"}, "study": True, "project": True, "tracking": {"keras_callback"}}  # whole packages, or modules of one


def may_be_heavy(module: str) -> bool:
    package, name = module.split(".")
    heavy = MAY_BE_HEAVY.get(package, set())
    return heavy is True or name in heavy


def find_heavy(*modules: str) -> str:
    """What is imported with some modules that should not be."""
    program = f"import sys, {', '.join(f'ml_repo.{module}' for module in modules)}; print(*({HEAVY!r} & set(sys.modules)))"
    return checked(sys.executable, "-c", program).strip()


def test_modules_are_light():
    light = sorted(module for module in MODULES if not may_be_heavy(module))
    if find_heavy(*light):  # which of them?
        assert {module: heavy for module in light if (heavy := find_heavy(module))} == {}


def public_functions(module: str):
    for node in tree_of(module).body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for one in (node, *inner):
            if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
                yield one


@pytest.mark.parametrize("module", MODULES)
def test_public_functions_are_explained(module):
    lines = source_of(module).splitlines()
    for function in public_functions(module):
        overrides_keras = function.name.startswith("on_")
        if overrides_keras or function.name in ("invoke",):
            continue
        assert ast.get_docstring(function), f"{module}.{function.name} has no docstring"
        assert function.returns, f"{module}.{function.name} does not say what it returns"
        for argument in [*function.args.args, *function.args.kwonlyargs]:
            if argument.arg not in ("self", "cls"):
                assert argument.annotation, f"{module}.{function.name}: {argument.arg} has no type"
                assert "  # " in lines[argument.lineno - 1], f"{module}.{function.name}: {argument.arg} has no comment"


@pytest.mark.parametrize("notebook", LIBRARY, ids=lambda path: path.stem)
def test_library_notebooks_are_written_for_readers(notebook):
    cells = cells_of(notebook)
    texts = ["".join(cell["source"]) for cell in cells]
    prose = sum(cell["cell_type"] == "markdown" for cell in cells) / len(cells)
    assert re.match(r"# .+\n\n> .+$", texts[0]), "a title and one line of promise, nothing else, in the first cell"
    assert prose >= 0.2, f"only {prose:.0%} of the cells are prose"


def test_the_length_of_exported_cells_is_told(capsys):
    """No cap: a class that is one thought stands whole in one cell. What is long is told, to look at."""
    lengths = {}
    for notebook in LIBRARY:
        for place, cell in enumerate(cells_of(notebook)):
            if "".join(cell["source"]).startswith("#| export"):
                lengths[f"{notebook.stem} #{place}"] = len("".join(cell["source"]).splitlines())
    deciles = statistics.quantiles(lengths.values(), n=10)
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    with capsys.disabled():
        print(f"\n{len(lengths)} exported cells: median {statistics.median(lengths.values()):.0f} lines, 90 % up to {deciles[8]:.0f};",
              "longest:", ", ".join(f"{name} {length}" for name, length in longest))


def test_no_class_is_put_together_from_several_cells():
    pieces = []
    for module in MODULES:
        tree = tree_of(module)
        classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = next(iter(node.args.args), None)
                is_method = first is not None and first.arg in ("self", "cls")
                if is_method or any(ast.unparse(decorator).startswith("patch") for decorator in node.decorator_list):
                    pieces.append(f"{module}.{node.name}")
            elif isinstance(node, ast.Assign):
                pieces += [f"{module}: {ast.unparse(target)}" for target in node.targets for name in ast.walk(target)
                           if isinstance(name, ast.Attribute) and ast.unparse(name.value) in classes]
    assert pieces == [], "methods stand in the cell of their class"


@pytest.mark.slow
def test_pre_commit_hooks_run(tree):
    (tree / ".venv").symlink_to(BIN.parent)
    checked("pre-commit", "run", "--all-files", cwd=tree)
    notebook = tree / "nbs" / "core" / "00_hashing.ipynb"
    notebook.write_text(notebook.read_text().replace('"metadata": {}', '"metadata": {"scrolled": true}', 1))
    assert run("pre-commit", "run", "--all-files", cwd=tree).returncode == 1


def list_definitions(module: str) -> list[str]:
    """Public functions and classes that a module defines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in tree_of(module).body if isinstance(node, kinds) and node.name[0] != "_"]


@pytest.mark.parametrize("module", MODULES)
def test_what_is_imported_is_used(module):
    """A word in a docstring counts as use: what nobody mentions is left over."""
    bound = Counter(alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree_of(module))
                    if isinstance(node, (ast.Import, ast.ImportFrom)) for alias in node.names)
    words = Counter(re.findall(r"\w+", source_of(module)))
    modules = Counter(word for node in ast.walk(tree_of(module)) if isinstance(node, ast.ImportFrom) for word in (node.module or "").split("."))
    assert [name for name, count in bound.items() if words[name] <= count + modules[name] and name != "annotations"] == []


def test_one_name_means_one_thing():
    """Commands may be called as a module is: `stop` stops a run and, below `study`, a study; each process starts in `main`."""
    modules = {}
    for module in MODULES:
        for name in list_definitions(module):
            modules.setdefault(name, []).append(module)
    shared = {name: found for name, found in modules.items() if len(found) > 1 and name != "main"}
    assert {name: found for name, found in shared.items() if not all(module.startswith("cli.") for module in found)} == {}


def test_no_module_is_longer_than_400_lines():
    lengths = {module: len(source_of(module).splitlines()) for module in MODULES}
    assert {module: length for module, length in lengths.items() if length > 400} == {}


def test_lines_are_not_longer_than_120_letters():
    """Prose is exempt, and the line `__all__`, which nbdev writes."""
    long = []
    for notebook in LIBRARY:
        for cell in cells_of(notebook):
            if cell["cell_type"] == "code":
                long += [f"{notebook.stem}: {line.strip()[:90]}" for line in "".join(cell["source"]).splitlines() if len(line) > 120]
    assert long == []


def count_shown(notebook) -> tuple[int, int]:
    """Public definitions of a notebook, and how many of them a visible demonstration or test follows directly."""
    cells = ["".join(cell["source"]) for cell in cells_of(notebook) if cell["cell_type"] == "code"]
    defined = shown = 0
    for source, following in zip(cells, [*cells[1:], "#| hide"]):
        if source.startswith("#| export"):
            kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
            names = [node.name for node in ast.parse(source).body if isinstance(node, kinds) and node.name[0] != "_"]
            defined += len(names)
            shown += len(names) * (not following.startswith(("#| export", "#| hide")))
    return defined, shown


def test_definitions_are_followed_by_a_demonstration(capsys):
    counts = {package: [sum(numbers) for numbers in zip(*(count_shown(notebook) for notebook in LIBRARY if notebook.parent.name == package))]
              for package in PACKAGES}
    defined, shown = map(sum, zip(*counts.values()))
    with capsys.disabled():
        print(f"\n{shown} of {defined} public definitions ({shown / defined:.0%}) are followed by a demonstration or a visible test:",
              ", ".join(f"{package} {shown / defined:.0%}" for package, (defined, shown) in counts.items()))
    assert shown / defined >= 0.75
