"""Many kinds of planted changes: the first cause and the first cell are right, and an unchanged run is never called another one."""
import gzip
import json
import pickle
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from conftest import checked, run
from PIL import Image
from test_record import write_notebook

from ml_repo.records.reader import find_records, read_record
from ml_repo.verify.causes import find_causes
from ml_repo.verify.divergence import find_divergence
from ml_repo.verify.report import judge_runs

CELLS = {
    "commit": "import subprocess\nprint(subprocess.check_output(['git', 'rev-parse', 'HEAD'], text=True))",
    "versions": "import platform, sys\nimport fake_library\nprint(sys.version.split()[0], platform.platform(), fake_library.__version__)",
    "clock": "import time\nstart = time.time()\nprint('started', time.strftime('%Y-%m-%d %H:%M:%S'))",
    "yaml": "import yaml\nconfig = yaml.safe_load(open('config.yaml'))\nprint('depth', config['depth'])",
    "csv": "import numpy as np\nprint('mean', np.loadtxt('data/table.csv', delimiter=',').mean())",
    "json": "import json\nprint('names', json.load(open('cache/names.json')))",
    "sqlite": "import sqlite3\nprint('rows', sqlite3.connect('cache/rows.db').execute('select sum(x) from t').fetchone())",
    "pickle": "import pickle\nfrom pathlib import Path\nprint('weights', pickle.loads(Path('cache/weights.pkl').read_bytes()))",
    "image": "from PIL import Image\nprint('light', np.asarray(Image.open('data/picture.png')).sum())",
    "listing": "import os\nprint('files', len(os.listdir('extra')))",
    "shell": "print('scale', subprocess.run(['sh', 'scale.sh'], capture_output=True, text=True).stdout)",
    "variable": "alpha = float(os.environ.get('MY_ALPHA', '1'))\nprint('alpha', alpha)",
    "module": "from tools.scale import factor\nprint('factor', factor())",
    "setting": "from tools import settings\nprint('rate', settings.rate())",
    "seed": "import random\nrandom.seed(0)\nprint('draw', random.random())",
    "memory map": "print('array', np.load('cache/array.npy', mmap_mode='r').sum())",
    "gzip": "import gzip\nprint('lines', gzip.open('cache/lines.gz').read())",
    "program": "print('tool', subprocess.run([sys.executable, 'programs/tool.py'], capture_output=True, text=True).stdout)",
    "shell cell": "!sh second.sh",
    "library": "print('library', fake_library.factor(8))",
    "parameter": "print('step', lr * 3)",
    "threads": "import zlib\nprint('threads', zlib.crc32(os.environ.get('OMP_NUM_THREADS').encode()))",
    "toml": "import tomllib\nprint('width', tomllib.loads(Path('conf/model.toml').read_text())['width'])",
    "words": "print('words', sorted({word for word in Path('data/words.txt').read_text().split()}))",
    "end": "print(f'took {time.time() - start:.3f} s')",
}
NUMBERS = {name: number for number, name in enumerate(CELLS, 2)}


class Change(NamedTuple):
    """A planted change, and what a person says about it."""
    cell: str  # the first that computes something else
    kinds: str  # of the first cause, one of them
    says: str  # a part of the first cause
    edit: Callable[[Path], object] = lambda root: None
    options: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    is_committed: bool = False


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def make_database(root: Path, value: int) -> None:
    (root / "cache" / "rows.db").unlink(missing_ok=True)
    with sqlite3.connect(root / "cache" / "rows.db") as connection:
        connection.execute("create table t (x)")
        connection.execute("insert into t values (?)", (value,))
    connection.close()


def make_image(root: Path, value: int) -> None:
    Image.new("L", (4, 4), value).save(root / "data" / "picture.png")


def make_notebook(root: Path, **cells: str) -> None:
    write_notebook(root / "a.ipynb", "lr: float = 0.1  # step size, above 0", *(CELLS | {name.replace("_", " "): text for name, text in cells.items()}).values())


def install(root: Path, version: str, factor: int) -> None:
    site = root.parent / "site"
    shutil.rmtree(site, ignore_errors=True)
    (site / f"fake_library-{version}.dist-info").mkdir(parents=True)
    (site / f"fake_library-{version}.dist-info" / "METADATA").write_text(f"Metadata-Version: 2.1\nName: fake-library\nVersion: {version}\n")
    (site / "fake_library.py").write_text(f"__version__ = {version!r}\n\n\ndef factor(step):\n    return step * {factor}\n")


CHANGES = {
    "YAML that git tracks": Change("yaml", "data file, code line, patch", "config.yaml", write("config.yaml", "depth: 4\n"), is_committed=True),
    "YAML, not committed": Change("yaml", "data file, code line, patch", "config.yaml", write("config.yaml", "depth: 5\n")),
    "TOML in a folder": Change("toml", "data file, code line, patch", "conf/model.toml", write("conf/model.toml", "width = 9\n"), is_committed=True),
    "CSV that git tracks": Change("csv", "data file, code line, patch", "data/table.csv", write("data/table.csv", "1,2\n3,5\n"), is_committed=True),
    "words that git tracks": Change("words", "data file, code line, patch", "data/words.txt", write("data/words.txt", "a b d"), is_committed=True),
    "image": Change("image", "data file, code line, patch", "data/picture.png", lambda root: make_image(root, 6)),
    "JSON that git ignores": Change("json", "data file", "cache/names.json", write("cache/names.json", '["a", "c"]')),
    "SQLite": Change("sqlite", "data file", "cache/rows.db", lambda root: make_database(root, 8)),
    "pickle": Change("pickle", "data file", "cache/weights.pkl", write("cache/weights.pkl", pickle.dumps([1, 3]))),
    "memory-mapped array": Change("memory map", "data file", "cache/array.npy", lambda root: np.save(root / "cache" / "array.npy", np.arange(6))),
    "gzip": Change("gzip", "data file", "cache/lines.gz", write("cache/lines.gz", gzip.compress(b"other", mtime=0))),
    "one more file in a folder": Change("listing", "folder", "extra/", write("extra/more.txt", "x")),
    "shell script": Change("shell", "code line", "line 1 of scale.sh", write("scale.sh", "echo 3\n"), is_committed=True),
    "shell script of a shell cell": Change("shell cell", "data file, code line, patch", "second.sh", write("second.sh", "echo 9\n")),
    "program of a child": Change("program", "data file, code line, patch", "programs/tool.py", write("programs/tool.py", "print(9)\n"), is_committed=True),
    "module": Change("module", "code line", "tools/scale.py", write("tools/scale.py", "def factor():\n    return 3\n"), is_committed=True),
    "module, not committed": Change("module", "patch", "tools/scale.py", write("tools/scale.py", "def factor():\n    return 4\n")),
    "variable of the notebook": Change("variable", "environment variable", "MY_ALPHA", environment={"MY_ALPHA": "0.5"}),
    "variable of a module": Change("setting", "environment variable", "MY_RATE", environment={"MY_RATE": "0.5"}),
    "threads": Change("threads", "threads", "OMP_NUM_THREADS", environment={"OMP_NUM_THREADS": "1"}),
    "parameter": Change("parameter", "parameter", "lr 0.1 → 0.2", options=("-p", "lr", "0.2")),
    "cell": Change("yaml", "notebook cell", "config['depth'] + 1", lambda root: make_notebook(root, yaml=CELLS["yaml"].replace("['depth'])", "['depth'] + 1)")), is_committed=True),
    "seed removed": Change("seed", "notebook cell", "random.seed(0)", lambda root: make_notebook(root, seed=CELLS["seed"].replace("random.seed(0)\n", "")), is_committed=True),
    "version of a package": Change("library", "package", "fake-library 1.0 → 1.1", lambda root: install(root, "1.1", 3)),
    "lost file": Change("json", "missing file", "cache/names.json", lambda root: (root / "cache" / "names.json").unlink()),
}
CHANCES = {  # a notebook of one cell, by what is left to chance
    "unseeded generator": ("import random\nprint('draw', random.random())", "without a seed: `random.random()`"),
    "unseeded generator of NumPy": ("import numpy as np\nrng = np.random.default_rng()\nprint('draw', rng.normal())", "np.random.default_rng()"),
    "order of a set": ("print('words', list({'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j'}))", "the order of a set"),
    "time-dependent code": ("import time\nx = 3\nprint('result', 7 * time.time_ns() % 1000003)", "reads the clock"),
}


def fill(root: Path) -> None:
    """Put everything back to what the first run saw."""
    for name in ("data", "cache", "extra", "conf", "tools", "programs"):
        shutil.rmtree(root / name, ignore_errors=True)
        (root / name).mkdir(parents=True)
    make_notebook(root)
    texts = {"settings.ini": "[DEFAULT]\npapermill_engine = ml_repo\n", ".gitignore": "cache/\nextra/\n__pycache__/\nexperiments/\n", "config.yaml": "depth: 3\n",
             "conf/model.toml": "width = 8\n", "data/table.csv": "1,2\n3,4\n", "data/words.txt": "a b c", "cache/names.json": '["a", "b"]', "extra/one.txt": "1", "scale.sh": "echo 2\n",
             "second.sh": "echo 5\n", "tools/__init__.py": "", "tools/scale.py": "def factor():\n    return 2\n", "programs/tool.py": "print(7)\n",
             "tools/settings.py": "import os\n\n\ndef rate():\n    return os.getenv('MY_RATE', '1')\n"}
    for name, text in texts.items():
        write(name, text)(root)
    make_database(root, 7)
    make_image(root, 5)
    write("cache/weights.pkl", pickle.dumps([1, 2]))(root)
    write("cache/lines.gz", gzip.compress(b"lines", mtime=0))(root)
    np.save(root / "cache" / "array.npy", np.arange(5))
    install(root, "1.0", 2)


def git(root: Path, *arguments: str) -> None:
    checked("git", "-C", root, "-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false", *arguments)


def train(root: Path, *options: str, notebook: str = "a.ipynb", **environment: str) -> Path:
    """Run the notebook as a user does; returns the folder of its record."""
    before = set(find_records(root / "experiments"))
    result = run("ml-repo", "run", notebook, "--quiet", *options, cwd=root, **{
        "OMP_NUM_THREADS": "2", "PYTHONPATH": str(root.parent / "site"), "PYTHONDONTWRITEBYTECODE": "1"} | environment)
    made = set(find_records(root / "experiments")) - before
    assert made, result.stdout
    return made.pop()


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Path, Path]:
    """A project with one commit, and the record of one run; everybody puts it back."""
    root = tmp_path_factory.mktemp("planted") / "project"
    root.mkdir()
    fill(root)
    git(root, "init", "--quiet", "--initial-branch", "main")
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "Begin")
    git(root, "tag", "begin")
    record = train(root)
    assert read_record(record)["state"] == "completed", json.loads((record / "record.json").read_text())["cause"]
    return root, record


def judge(change: Change, first: Path, second: Path) -> list[str]:
    """List what is wrong: the first cause, the first cell, the verdict."""
    records = read_record(first), read_record(second)
    cause, parted = find_causes(*records)[0], find_divergence(*records)
    wrong = [] if cause.kind in change.kinds.split(", ") and change.says in cause.text else [f"cause: {cause}"]
    wrong += [] if parted.cell and parted.cell.number == NUMBERS[change.cell] else [f"cell: {parted.cell}"]
    verdict = judge_runs(*records).verdict
    return wrong + ([] if verdict == "differs" else [f"verdict {verdict}"])


def plant(started: tuple[Path, Path], change: Change) -> list[str]:
    """Make a change, run the notebook, judge, and put the project back."""
    root, first = started
    try:
        change.edit(root)
        if change.is_committed:
            git(root, "commit", "--quiet", "--all", "--message", "Change it")
        return judge(change, first, train(root, *change.options, **change.environment))
    finally:
        git(root, "reset", "--quiet", "--hard", "begin")
        fill(root)


def leave_to_chance(root: Path, source: str, says: str) -> list[str]:
    """Run a notebook twice whose result is another one each time."""
    write_notebook(root / "chance.ipynb", "lr: float = 0.1  # step size, above 0", source)
    try:
        records = [read_record(train(root, notebook="chance.ipynb")) for _ in range(2)]
        cause, parted = find_causes(*records)[0], find_divergence(*records)
        wrong = [] if says in cause.text else [f"cause: {cause}"]
        wrong += [] if parted.cell and parted.cell.number == 2 else [f"cell: {parted.cell}"]
        verdict = judge_runs(*records).verdict
        return wrong + ([] if verdict == "differs" else [f"verdict {verdict}"])
    finally:
        (root / "chance.ipynb").unlink()


def test_an_unchanged_run_is_the_same(started, monkeypatch):
    root, first = started
    monkeypatch.chdir(root)
    records = read_record(first), read_record(train(root))
    judgement = judge_runs(*records)
    assert judgement.verdict == "identical", [item for item in judgement.items if item.verdict != "identical"]
    assert not find_divergence(*records)


@pytest.mark.parametrize("name", ["shell script", "variable of a module"])
def test_a_planted_change_is_found(started, monkeypatch, name):
    monkeypatch.chdir(started[0])
    assert plant(started, CHANGES[name]) == []


@pytest.mark.slow
def test_at_least_95_percent_of_planted_changes_are_found(started, monkeypatch, capsys):
    monkeypatch.chdir(started[0])
    found: dict[str, list[str]] = {}
    with capsys.disabled():
        for name in (*CHANGES, *CHANCES):
            found[name] = plant(started, CHANGES[name]) if name in CHANGES else leave_to_chance(started[0], *CHANCES[name])
            print(f"\n{name:<36}{'; '.join(found[name]) or 'right'}", end="", flush=True)
        print(f"\n{sum(not wrong for wrong in found.values())} of {len(found)} right")
    for part in ("cause", "cell", "verdict"):
        faults = [name for name, wrong in found.items() if any(text.startswith(part) for text in wrong)]
        assert len(faults) <= 0.05 * len(found), (part, faults)
    assert len(found) >= 24
