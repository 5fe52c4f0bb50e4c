"""The cause of another result is named first, and the place where two runs part: real runs, each with one planted change."""
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import nbformat
import pytest
from conftest import ROOT, checked, run

from ml_repo.core.content_store import read_text, store_text
from ml_repo.records.reader import find_records, read_record
from ml_repo.verify.causes import find_causes
from ml_repo.verify.divergence import find_divergence
from ml_repo.verify.report import judge_runs

PARAMETERS = "lr: float = 0.1  # step size, above 0\nseed: int = 0  # of the noise, at least 0\nunused: int = 0  # changes nothing"
CELLS = [
    "import os, time\nfrom pathlib import Path\nimport numpy as np\nimport fake_library, helper, local_helper\nfrom ml_repo.tracking.run import note_facts, start_run",
    "run = start_run()",
    "data = np.frombuffer(Path('data/values.bin').read_bytes(), np.uint8) / 255\nPath('data/notes.bin').read_bytes()\nnp.zeros(9)",
    "threads = int(os.environ.get('OMP_NUM_THREADS', '2'))\nflags = len(os.environ.get('XLA_FLAGS', ''))\n"
    "is_exact = 'PROJECT_LOOSE' not in os.environ  # variables that no record holds\nkind = os.environ.get('PROJECT_FLOAT', 'float64')\n"
    "extra = float(Path('extra.txt').read_text()) if Path('extra.txt').exists() else 0\nnote_facts('determinism', operations=is_exact, precision=kind)",
    "momentum = 0.5",
    "noise, weight, losses = np.random.default_rng(seed).normal(size=11), 1.0, []\n"
    "for step in range(1, 11):\n"
    "    change = (momentum * weight * (step > 1) + (not is_exact) * (step >= 2) + noise[step] * (step >= 3) + flags * (step >= 4) + data[step]\n"
    "              + threads * (step >= 6) + helper.factor(step) + local_helper.factor(step) + fake_library.factor(step) + extra * (step >= 9)\n"
    "              + (step >= 6) * float('PROJECT_CHANCE' in os.environ) * int.from_bytes(os.urandom(4))\n"
    "              + (step >= 10) * ('PROJECT_KERNEL' in os.environ))\n"
    "    weight = np.dtype(kind).type(weight - lr * change)\n"
    "    run.log(step=step, split='train', loss=weight)\n    time.sleep(0.01)",
    "print(f'weight {weight:.12g}')",
    "print(hash('a word') % 1000)",
]
ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "2"}


def write_notebook(path: Path, *cells: str) -> None:
    """Write the notebook; its first cell is that of the parameters."""
    v4 = nbformat.v4
    made = [v4.new_code_cell(one) for one in (PARAMETERS, *cells)]
    made[0].metadata["tags"] = ["parameters"]
    nbformat.write(v4.new_notebook(cells=made, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}), path)


def install(folder: Path, name: str, version: str, factor: str = "0") -> None:
    """Install a package of two lines into a folder of its own."""
    for old in folder.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    (folder / f"{name}-{version}.dist-info").mkdir(parents=True)
    (folder / f"{name}-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / f"{name}.py").write_text(f"__version__ = {version!r}\n\n\ndef factor(step):\n    return {factor}\n")


def fill(root: Path) -> None:
    """Put everything back to what the first run saw."""
    project, site = root / "project", root / "site"
    for name in ("nbs", "data", "docker"):
        (project / name).mkdir(parents=True, exist_ok=True)
    write_notebook(project / "nbs" / "train.ipynb", *CELLS)
    texts = {"settings.ini": "[DEFAULT]\npapermill_engine = ml_repo\n", ".gitignore": "data/\n__pycache__/\nlocal_helper.py\n", "README.md": "# A project\n",
             "helper.py": "def factor(step):\n    return 0\n", "local_helper.py": "def factor(step):\n    return 0\n", "tool.py": "x = 1\n",
             "docker/requirements.txt": "numpy==1.0\n", "data/notes.bin": "nothing\n"}
    for name, text in texts.items():
        (project / name).write_text(text)
    (project / "data" / "values.bin").write_bytes(bytes(range(32)))
    for name in ("extra.txt", "new.py"):
        (project / name).unlink(missing_ok=True)
    install(site, "fake_library", "1.0")
    install(site, "idle_library", "1.0")
    kernel = root / "jupyter" / "kernels" / "other"
    kernel.mkdir(parents=True, exist_ok=True)
    (kernel / "kernel.json").write_text(json.dumps({"argv": ["python", "-m", "ipykernel_launcher", "-f", "{connection_file}"], "display_name": "Other",
                                                    "language": "python", "env": {"PROJECT_KERNEL": "1"}}))


def git(root: Path, *arguments: str) -> str:
    """Ask git about the project."""
    return checked("git", "-C", root / "project", "-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false", *arguments).strip()


def train(root: Path, *options: str, **environment: str) -> Path:
    """Run the notebook as a user does; returns the folder of its record."""
    records = root / "records"
    before = set(find_records(records))
    path = os.pathsep.join([str(root / "site"), str(root / "project"), str(ROOT)])
    result = run("ml-repo", "run", "nbs/train.ipynb", "--quiet", *options, cwd=root / "project", **{
        "ML_REPO_RECORDS": str(records), "PYTHONPATH": path, "JUPYTER_PATH": str(root / "jupyter")} | ENVIRONMENT | environment)
    assert result.returncode == 0, result.stdout
    (record,) = set(find_records(records)) - before
    return record


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Path, Path]:
    """A project with one commit, and the record of one run; everybody puts it back."""
    root = tmp_path_factory.mktemp("causes")
    fill(root)
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Begin")
    git(root, "tag", "begin")
    return root, train(root)


class Change(NamedTuple):
    """One planted change, and what must be found."""
    name: str
    kind: str  # of the cause that comes first
    says: str  # what its sentence contains
    step: int | None = None  # the first at which the curves part; None where they do not
    cell: int | None = None  # number of the first cell that parts
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    edit: Callable[[Path], object] = lambda root: None
    is_committed: bool = False
    is_likely: bool = True
    is_quick: bool = False


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda root: (root / "project" / name).write_text(text)


def notebook(place: int, text: str) -> Callable[[Path], None]:
    return lambda root: write_notebook(root / "project" / "nbs" / "train.ipynb", *CELLS[:place], text, *CELLS[place + 1:])


FACTOR = "def factor(step):\n    return {}\n"
FIRST = bytes(range(5)) + b"\x06" + bytes(range(6, 32))  # the byte of step 5 is another one
CHANGES = [
    Change("parameter", "parameter", "lr 0.1 → 0.2", 1, 8, ("-p", "lr", "0.2"), is_quick=True),
    Change("parameter by a little", "parameter", "lr 0.1 → 0.1000", 1, 8, ("-p", "lr", "0.10000000001")),
    Change("parameter without effect", "parameter", "unused 0 → 1", options=("-p", "unused", "1")),
    Change("seed", "seed", "seed 0 → 1", 3, 8, ("-p", "seed", "1")),
    Change("byte of data", "data file", "data/values.bin has other content (sha256", 5, 8, edit=lambda root: (root / "project/data/values.bin").write_bytes(FIRST), is_quick=True),
    Change("data without effect", "data file", "data/notes.bin has other content", edit=write("data/notes.bin", "something\n")),
    Change("line, committed", "code line", "line 2 of helper.py: return 0 → return step > 6", 7, 8, edit=write("helper.py", FACTOR.format("step > 6")), is_committed=True, is_quick=True),
    Change("line, not committed", "patch", "line 2 of helper.py: return 0 → return step > 7, not committed", 8, 8, edit=write("helper.py", FACTOR.format("step > 7"))),
    Change("line without effect", "patch", "line 2 of helper.py: return 0 → return 0 * step", edit=write("helper.py", FACTOR.format("0 * step"))),
    Change("line that git ignores", "code line", "local_helper.py, which git does not know", 8, 8, edit=write("local_helper.py", FACTOR.format("step > 7")), is_quick=True),
    Change("README, committed", "code line", "line 1 of README.md", edit=write("README.md", "# The project\n"), is_committed=True, is_likely=False),
    Change("module that is not loaded", "patch", "line 1 of tool.py", edit=write("tool.py", "x = 2\n"), is_likely=False),
    Change("untracked file that is read", "patch", "extra.txt was added", 9, 8, edit=write("extra.txt", "0.5")),
    Change("untracked file that nobody reads", "patch", "new.py was added", edit=write("new.py", "y = 1\n"), is_likely=False),
    Change("cell", "notebook cell", "line 1 of cell 6: momentum = 0.5 → momentum = 0.25", 2, 8, edit=notebook(4, "momentum = 0.25")),
    Change("comment in a cell", "notebook cell", "momentum = 0.5 → momentum = 0.5  # half", edit=notebook(4, "momentum = 0.5  # half"), is_likely=False),
    Change("determinism flag", "determinism flag", "operations True → False", 2, 8, environment={"PROJECT_LOOSE": "1"}),
    Change("precision", "precision", "precision float64 → float32", 1, 8, environment={"PROJECT_FLOAT": "float32"}),
    Change("threads", "threads", "OMP_NUM_THREADS 2 → 1", 6, 8, environment={"OMP_NUM_THREADS": "1"}, is_quick=True),
    Change("environment variable", "environment variable", "XLA_FLAGS a in the second run", 4, 8, environment={"XLA_FLAGS": "a"}),
    Change("hash seed", "environment variable", "PYTHONHASHSEED 0 → 1", None, 9, environment={"PYTHONHASHSEED": "1"}),
    Change("language", "environment variable", "LANG C.UTF-8 → C", environment={"LANG": "C"}, is_likely=False),
    Change("package that is imported", "package", "fake-library 1.0 → 1.1", 8, 8, edit=lambda root: install(root / "site", "fake_library", "1.1", "step > 7"), is_quick=True),
    Change("package that is not imported", "package", "idle-library 1.0 → 2.0", edit=lambda root: install(root / "site", "idle_library", "2.0", "step"), is_likely=False),
    Change("lock", "lock", "the lock file has other content", edit=write("docker/requirements.txt", "numpy==2.0\n"), is_likely=False, is_committed=True),
    Change("kernel", "kernel", "kernel name python3 → other", 10, 8, ("-k", "other")),
    Change("chance", "not recorded", "draws random numbers without a seed: `os.urandom(4)`", 2, 8, environment={"PROJECT_CHANCE": "1"}),  # against a run of its own, below
]


def plant(record: Path, name: str, step: int | None = None, **fields) -> Path:
    """Copy a record, with other fields, and another loss from `step` on."""
    copy = record.parent / f"{record.name[:-4]}{name.replace(' ', '-')}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(record, copy)
    facts = json.loads((copy / "record.json").read_text())
    for path, value in fields.items():
        inner = facts
        *keys, last = path.split("__")
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = value
    (copy / "record.json").write_text(json.dumps(facts | {"id": copy.name}))
    if step:
        lines = [json.loads(line) for line in (copy / "metrics.jsonl").read_text().splitlines()]
        for line in lines[step - 1:]:
            line["values"]["loss"] += 1e-15
        (copy / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return copy


GPU = [{"index": 0, "model": "NVIDIA L4", "driver": "570.1", "memory_gb": 24.0}]
PLANTED = [  # name, kind, what it says, before, after
    ("GPU", "gpu", "GPU 0, model: NVIDIA L4 → NVIDIA H100", {"gpus": GPU}, {"gpus": [GPU[0] | {"model": "NVIDIA H100", "memory_gb": 80.0}]}),
    ("driver", "driver", "GPU 0, driver: 570.1 → 580.2", {"gpus": GPU}, {"gpus": [GPU[0] | {"driver": "580.2"}]}),
    ("CUDA", "driver", "CUDA libraries: cudart 12.5 → 12.8", {"cuda": {"cudart": "12.5"}}, {"cuda": {"cudart": "12.8"}}),
    ("cuDNN", "driver", "built for cudnn_version 9 → 8", {"build__cudnn_version": "9"}, {"build__cudnn_version": "8"}),
    ("CPU", "cpu", "processor AMD EPYC → Intel Xeon", {"machine__cpu": "AMD EPYC"}, {"machine__cpu": "Intel Xeon"}),
    ("abilities", "cpu", "abilities of the processor: avx2 → avx2 avx512f", {"machine__cpu_flags": "avx2"}, {"machine__cpu_flags": "avx2 avx512f"}),
    ("processors", "threads", "processors 2 → 16", {"machine__cpu_count": 2}, {"machine__cpu_count": 16}),
    ("image", "image", "container: image_digest sha256:1 → sha256:2", {"image__image_digest": "sha256:1"}, {"image__image_digest": "sha256:2"}),
    ("Python", "python", "python 3.11.7 → 3.12.1", {"machine__python": "3.11.7", "kernel__python": "3.11.7"}, {"machine__python": "3.12.1", "kernel__python": "3.12.1"}),
    ("seed of Keras", "seed", "determinism: keras_seed 1 → 2", {"determinism__keras_seed": 1}, {"determinism__keras_seed": 2}),
    ("threads of TensorFlow", "threads", "determinism: threads_within 2 → 1", {"determinism__threads_within": 2}, {"determinism__threads_within": 1}),
    ("TensorFloat", "precision", "tensor_float_32 True → False", {"determinism__tensor_float_32": True}, {"determinism__tensor_float_32": False}),
    ("data set", "data file", "digits has other content (sha256 aaaaaaaaaaaa → bbbbbbbbbbbb)", {"data": {"digits": {"sha256": "a" * 64}}}, {"data": {"digits": {"sha256": "b" * 64}}}),
    ("library", "package", "numpy 2.0 → 2.1", {"libraries__numpy": "2.0"}, {"libraries__numpy": "2.1"}),
    ("system", "system", "operating system Linux-6-glibc2.36 → Linux-6-glibc2.41", {"machine__system": "Linux-6-glibc2.36"}, {"machine__system": "Linux-6-glibc2.41"}),
]


INPUTS = ("parameter", "seed", "data file", "notebook cell")  # they are items of a verdict, so that another one is never "identical"


def judge(change: Change, first: Path, second: Path) -> str:
    """Say what was not found as it should be; empty where everything was."""
    records = read_record(first), read_record(second)
    causes, parted = find_causes(*records), find_divergence(*records)
    wrong = []
    if (causes[0].kind, causes[0].is_likely) != (change.kind, change.is_likely) or change.says not in causes[0].text:
        wrong.append(f"cause {causes[0]}")
    if (parted.value.step if parted.value else None) != change.step:
        wrong.append(f"step {parted.value}")
    if change.cell is not None and (parted.cell.number if parted.cell else None) != change.cell:
        wrong.append(f"cell {parted.cell}")
    if change.cell is None and change.step is None and parted:
        wrong.append(f"parted {parted}")
    verdict, has_parted = judge_runs(*records).verdict, bool(parted)
    if has_parted and verdict == "identical" or not has_parted and verdict != "identical" and change.kind not in INPUTS:
        wrong.append(f"verdict {verdict}")
    assert find_causes(*records)._repr_mimebundle_()["text/plain"] and parted._repr_mimebundle_()["text/html"]
    return "; ".join(wrong)


def show_study_run(started: tuple[Path, Path], change: Change) -> str:
    """Plant a change, run the notebook, and judge what was found."""
    root, first = started
    try:
        change.edit(root)
        if change.is_committed:
            git(root, "add", "--update")
            git(root, "commit", "--quiet", "--message", change.name)
        if change.name == "chance":  # the two runs have the same record, and chance in them
            first = train(root, PROJECT_CHANCE="1", PROJECT_LOOSE="1")
            second = train(root, PROJECT_CHANCE="1", PROJECT_LOOSE="1")
            return judge(change._replace(step=6), first, second)
        # the injected cell of a run with given values moves the others down in its notebook; the numbers are those of the first
        return judge(change, first, train(root, *change.options, **change.environment))
    finally:
        git(root, "reset", "--quiet", "--hard", "begin")
        fill(root)


def test_clocks_and_order(started, monkeypatch):
    """The step is found in the cell that trains, and it comes before the cell that prints."""
    root, first = started
    monkeypatch.chdir(root / "project")
    second = plant(first, "late", step=4)
    found = find_divergence(read_record(first), read_record(second))
    assert (found.value.step, found.cell, found.logged_in) == (4, None, 7), found
    path = next(second.glob("*.ipynb"))
    path.chmod(0o644)
    for place, order in ((7, "value"), (3, "cell")):  # the cell that prints the weight, the one that reads the data
        shutil.copy(next(first.glob("*.ipynb")), path)
        path.chmod(0o644)
        content = json.loads(path.read_text())
        content["cells"][place]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["weight 0"]}]
        path.write_text(json.dumps(content))
        found = find_divergence(read_record(first), read_record(second))
        assert (found.cell.number, found.came_first) == (place + 1, order), found


@pytest.mark.parametrize("change", [one for one in CHANGES if one.is_quick], ids=lambda one: one.name)
def test_a_change_that_was_made(started, change, monkeypatch):
    monkeypatch.chdir(started[0] / "project")
    assert show_study_run(started, change) == ""


@pytest.mark.parametrize("planted", PLANTED, ids=lambda one: one[0])
def test_a_change_that_was_written_into_the_record(started, planted, monkeypatch):
    name, kind, says, before, after = planted
    monkeypatch.chdir(started[0] / "project")
    first = plant(started[1], "before", **before)
    for step in (None, 4):
        assert judge(Change(name, kind, says, step), first, plant(started[1], "after", step, **after)) == ""


def test_several_changes_stand_in_order(started, monkeypatch):
    root, first = started
    monkeypatch.chdir(root / "project")
    one = plant(first, "several-1", gpus=GPU, data={"digits": {"sha256": "a" * 64}}, machine__cpu="a", environment__XLA_FLAGS="x", libraries__torch="1")
    other = plant(first, "several-2", gpus=[GPU[0] | {"model": "other"}], data={"digits": {"sha256": "b" * 64}}, machine__cpu="b", environment__XLA_FLAGS="y",
                  libraries__torch="2", parameters__lr__used=0.3)
    assert [cause.kind for cause in find_causes(read_record(one), read_record(other))] == ["parameter", "data file", "environment variable", "package", "gpu", "cpu"]


@pytest.mark.slow
def test_what_cannot_be_the_cause_stands_below_chance(started, monkeypatch):
    root, _ = started
    monkeypatch.chdir(root / "project")
    first = train(root, PROJECT_CHANCE="1", PROJECT_LOOSE="1")
    try:
        (root / "project" / "README.md").write_text("# Another name\n")
        second = train(root, PROJECT_CHANCE="1", PROJECT_LOOSE="1")
        found = find_causes(read_record(first), read_record(second))
        assert "os.urandom" in found[0].text and "README.md" in found[-1].text and not found[-1].is_likely
    finally:
        fill(root)


def test_nothing_differs(started, monkeypatch):
    root, first = started
    monkeypatch.chdir(root / "project")
    second = plant(first, "same")
    assert not find_divergence(read_record(first), read_record(second))
    assert {cause.kind for cause in find_causes(read_record(first), read_record(second))} == {"not recorded"}


def test_what_a_run_had_imported_is_kept(started):
    record = read_record(started[1])
    loaded = read_text(started[1].parent, record["packages"]["loaded"]).splitlines()
    assert {"numpy", "fake_library"} <= set(loaded) and "idle_library" not in loaded and "json" not in loaded
    modules = read_text(started[1].parent, record["code"]["modules"]["sha256"]).splitlines()
    assert [line.split("  ")[1] for line in modules] == ["helper.py", "local_helper.py"]
    assert (started[1] / "record.json").stat().st_size < 10_000


def test_a_list_of_modules_that_is_gone_is_no_end(started, monkeypatch):
    root, first = started
    monkeypatch.chdir(root / "project")
    second = plant(first, "no-list", code__modules={"count": 2, "sha256": "1" * 64}, packages__loaded="2" * 64)
    assert find_causes(read_record(first), read_record(second))[0].text.startswith("a module that no commit and no patch holds")
    changed = store_text(first.parent, "numpy==9\n")
    assert find_causes(read_record(first), read_record(plant(first, "no-list", packages__list=changed, packages__loaded="2" * 64)))


@pytest.mark.slow
def test_at_least_95_percent_are_right(started, monkeypatch, capsys):
    root, first = started
    monkeypatch.chdir(root / "project")
    found = {change.name: show_study_run(started, change) for change in CHANGES}
    for name, kind, says, before, after in PLANTED:
        found[name] = judge(Change(name, kind, says, 4), plant(first, "before", **before), plant(first, "after", 4, **after))
    with capsys.disabled():
        print(f"\n{sum(not wrong for wrong in found.values())} of {len(found)} right")
        print("\n".join(f"{name:<36}{wrong or 'right'}" for name, wrong in found.items()))
    assert len(found) >= 26 and sum(not wrong for wrong in found.values()) >= 0.95 * len(found)
