"""The gates: notebooks clean, module and README in step, imports downwards, everything public explained."""
import ast
import json
import os
import re
import statistics
import sys

import papermill
import pytest
from conftest import BIN, ROOT, checked, run

from ml_repo.notebook.parameters import read_parameters

NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
LIBRARY = [path for path in NOTEBOOKS if path.name[0].isdigit()]
EXAMPLE = {"sources", "data", "model", "training"}


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
    notebook = tree / "nbs" / "00_fingerprint.ipynb"
    text = notebook.read_text()
    cells = json.loads(text)
    cells["cells"][0]["metadata"] = {"scrolled": True}
    notebook.write_text(json.dumps(cells, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    checked("nbdev_clean", cwd=tree)
    assert notebook.read_text() == text

    notebook.write_text(text.replace("64 hexadecimal digits", "64 hex digits"))
    index = tree / "nbs" / "index.ipynb"
    index.write_text(index.read_text().replace("to copy and start from", "to start from"))
    prepare(tree)
    assert {line[3:] for line in changes(tree).splitlines()} >= {"README.md", "ml_repo/fingerprint.py"}


def test_readme_check_fails_when_out_of_step(tree):
    assert run("ml-repo", "readme", "--check", cwd=tree).returncode == 0
    (tree / "README.md").write_text("# Something else\n")
    result = run("ml-repo", "readme", "--check", cwd=tree)
    assert result.returncode == 1 and "make prepare" in result.stdout


def test_a_failing_notebook_fails_nbdev_test(tree):
    notebook = tree / "nbs" / "00a_tables.ipynb"
    notebook.write_text(notebook.read_text().replace('bundle[\\"text/html\\"].count(\\"<b>\\"), 0)', '1, 2)'))
    assert changes(tree), "the test below was not broken"
    assert run("nbdev_test", "--path", "nbs/core/01_tables.ipynb", cwd=tree).returncode == 1


def test_the_parameters_tag_survives_cleaning(tree):
    checked("nbdev_clean", cwd=tree)
    cells = json.loads((tree / "nbs" / "train.ipynb").read_text())["cells"]
    assert [cell["metadata"].get("tags") for cell in cells if cell["metadata"]] == [["parameters"]]


def test_without_the_setting_the_tag_would_be_lost(tree):
    settings = tree / "settings.ini"
    settings.write_text(settings.read_text().replace("allowed_cell_metadata_keys = tags", "allowed_cell_metadata_keys ="))
    checked("nbdev_clean", cwd=tree)
    assert "nbs/train.ipynb" in changes(tree)


def test_papermill_reads_every_parameter():
    seen = papermill.inspect_notebook(str(ROOT / "nbs" / "train.ipynb"))
    ours = read_parameters(ROOT / "nbs" / "train.ipynb")
    assert [(one["name"], one["inferred_type_name"], ast.literal_eval(one["default"]), one["help"]) for one in seen.values()] == [
        (one.name, one.type, one.default, one.help) for one in ours]


def test_train_notebook_is_short_and_has_no_outputs():
    cells = json.loads((ROOT / "nbs" / "train.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
    assert max(len("".join(cell["source"]).splitlines()) for cell in code if "parameters" not in cell["metadata"].get("tags", [])) <= 15


def module_of(notebook) -> str:
    return re.search(r"#\| default_exp (\w+)", notebook.read_text())[1]


FLOORS = {module_of(path): path.name.split("_")[0] for path in LIBRARY}


def imported_modules(source: str) -> set[str]:
    """The modules of this library that `source` imports, also inside functions; nbdev writes them as `from .x import`."""
    used = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            assert node.names[0].name != "*", "a star import hides where a name comes from"
            path = ("ml_repo." * bool(node.level) + (node.module or "")).strip(".").split(".")
            used |= {path[1]} if path[0] == "ml_repo" and path[1:] else set()
        elif isinstance(node, ast.Import):
            used |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("ml_repo.")}
    return used


def test_the_import_gate_sees_every_way_to_import():
    source = "from .data import load_data\ndef f():\n    import ml_repo.project.model\n    from ml_repo.project.training import train_model"
    assert imported_modules(source) == {"data", "model", "training"}
    assert imported_modules((ROOT / "ml_repo" / "data.py").read_text()) == {"fingerprint", "run", "sources", "tables"}


@pytest.mark.parametrize("module", FLOORS)
def test_imports_go_downwards(module):
    used = imported_modules((ROOT / "ml_repo" / f"{module}.py").read_text()) - {module}  # its notebook starts a process of it
    assert all(FLOORS[other] < FLOORS[module] for other in used), f"{module} imports upwards: {used}"
    if module not in EXAMPLE:
        assert not used & EXAMPLE, f"{module} imports the example: {used & EXAMPLE}"


def test_every_floor_has_one_notebook():
    assert sorted(FLOORS.values()) == sorted(set(FLOORS.values())), "two notebooks with one number: neither may import the other, and nobody knows which comes first"


def test_every_module_has_its_notebook():
    assert {path.stem for path in (ROOT / "ml_repo").glob("[!_]*.py")} == set(FLOORS)


HEAVY = {"tensorflow", "keras", "sklearn", "pandas", "matplotlib", "papermill", "mlflow", "nbdev", "detect_secrets", "pynvml", "requests", "numpy",
         "scipy", "nbformat", "nbdime", "rich", "tqdm", "nh3", "nbconvert", "fastjsonschema"}
MAY_BE_HEAVY = {"board", "callback", "comparison", "dashboard", "data", "door", "driver", "engine", "keras_search", "keras_trials", "kernel", "mlflow_page", "model", "outcomes", "plots", "pruning", "ray_trials", "sampling", "sources", "storage", "study_plots", "supervisor", "training", "transcript", "trial", "workers"}


def find_heavy(*modules: str) -> str:
    """What is imported with some modules that should not be."""
    program = f"import sys, {', '.join(f'ml_repo.{one}' for one in modules)}; print(*({HEAVY!r} & set(sys.modules)))"
    return checked(sys.executable, "-c", program).strip()


def test_modules_are_light():
    light = sorted(set(FLOORS) - MAY_BE_HEAVY)
    if find_heavy(*light):  # which of them?
        assert {module: found for module in light if (found := find_heavy(module))} == {}


def public_functions(module: str):
    for node in ast.parse((ROOT / "ml_repo" / f"{module}.py").read_text()).body:
        inner = node.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_") else []
        for one in (node, *inner):
            if isinstance(one, ast.FunctionDef) and not one.name.startswith("_"):
                yield one


@pytest.mark.parametrize("module", FLOORS)
def test_public_functions_are_explained(module):
    lines = (ROOT / "ml_repo" / f"{module}.py").read_text().splitlines()
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
    cells = json.loads(notebook.read_text())["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    prose = sum(cell["cell_type"] == "markdown" for cell in cells) / len(cells)
    assert re.match(r"# .+\n\n> .+$", texts[0]), "a title and one line of promise, nothing else, in the first cell"
    assert prose >= 0.2, f"only {prose:.0%} of the cells are prose"


def test_the_length_of_exported_cells_is_told(capsys):
    """No cap: a class that is one thought stands whole in one cell. What is long is told, to look at."""
    lengths = {}
    for notebook in LIBRARY:
        for place, cell in enumerate(json.loads(notebook.read_text())["cells"]):
            if "".join(cell["source"]).startswith("#| export"):
                lengths[f"{notebook.stem} #{place}"] = len("".join(cell["source"]).splitlines())
    deciles = statistics.quantiles(lengths.values(), n=10)
    longest = sorted(lengths.items(), key=lambda item: -item[1])[:5]
    with capsys.disabled():
        print(f"\n{len(lengths)} exported cells: median {statistics.median(lengths.values()):.0f} lines, 90 % up to {deciles[8]:.0f};",
              "longest:", ", ".join(f"{name} {length}" for name, length in longest))


def test_no_class_is_put_together_from_several_cells():
    pieces = []
    for module in FLOORS:
        tree = ast.parse((ROOT / "ml_repo" / f"{module}.py").read_text())
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


def test_pre_commit_hooks_run(tree):
    (tree / ".venv").symlink_to(BIN.parent)
    checked("pre-commit", "run", "--all-files", cwd=tree)
    notebook = tree / "nbs" / "00_fingerprint.ipynb"
    notebook.write_text(notebook.read_text().replace('"metadata": {}', '"metadata": {"scrolled": true}', 1))
    assert run("pre-commit", "run", "--all-files", cwd=tree).returncode == 1
