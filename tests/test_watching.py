"""What a run reads and writes is in its record, by whatever means it does so."""
import gzip
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import await_true, checked, run
from test_record import commit, make_repository, write_notebook

from ml_repo.provenance import file_watch
from ml_repo.records.reader import find_records, read_record
from ml_repo.reproduce.input_files import list_inputs, list_listings

PARAMETERS = "n: int = 4  # how many, at least 1"
EXTENSION = next(name for name in ("_heapq", "_lsprof", "_queue", "_json") if os.path.isfile(getattr(find_spec(name), "origin", None) or ""))
WRITERS = {  # the cell that writes a file, by its name; each time with other bytes
    "frame.csv": "import pandas as pd; frame = pd.DataFrame({'x': np.random.rand(4)}); frame.to_csv('frame.csv')",
    "frame.parquet": "frame.to_parquet('frame.parquet')",
    "table.parquet": "import pyarrow as pa, pyarrow.parquet as pq; pq.write_table(pa.table({'x': np.random.rand(4)}), 'table.parquet')",
    "array.h5": "import h5py\nwith h5py.File('array.h5', 'w') as file:\n    file['x'] = np.random.rand(4)",
    "array.npy": "np.save('array', np.random.rand(4))",
    "mapped.dat": "mapped = np.memmap('mapped.dat', dtype='f8', mode='w+', shape=4); mapped[:] = np.random.rand(4); mapped.flush(); del mapped",
    "object.joblib": "import joblib; joblib.dump(np.random.rand(4), 'object.joblib')",
    "picture.png": "from PIL import Image; Image.fromarray(np.random.randint(0, 255, (4, 4), 'u1')).save('picture.png')",
    "figure.svg": "import matplotlib; matplotlib.use('agg'); import matplotlib.pyplot as plt; plt.figure(figsize=(1, 1)); plt.plot(np.random.rand(4)); plt.savefig('figure.svg'); plt.close()",
    "matrix.mat": "import scipy.io; scipy.io.savemat('matrix.mat', {'x': np.random.rand(4)})",
    "archive.zip": "import zipfile\nwith zipfile.ZipFile('archive.zip', 'w') as archive:\n    archive.writestr('x', os.urandom(8))",
    "packed.gz": "import gzip; gzip.open('packed.gz', 'wb').write(os.urandom(8))",
    "base.db": "import sqlite3\nbase = sqlite3.connect('base.db'); base.execute('create table t(x)'); base.execute('insert into t values (random())'); base.commit(); base.close()",
    "low.bin": "number = os.open('low.bin', os.O_CREAT | os.O_WRONLY); os.write(number, os.urandom(8)); os.close(number)",
    "map.bin": "import mmap\nwith open('map.bin', 'w+b') as file:\n    file.truncate(8); area = mmap.mmap(file.fileno(), 8); area[:] = os.urandom(8); area.close()",
    "path.txt": "from pathlib import Path; Path('path.txt').write_bytes(os.urandom(8))",
    "renamed.txt": "import tempfile\nwith tempfile.NamedTemporaryFile(dir='.', prefix='draft', delete=False) as file:\n    file.write(os.urandom(8))\nos.replace(file.name, 'renamed.txt')",
    "copied.bin": "import shutil; shutil.copy('low.bin', 'copied.bin')",
    "tree/leaf.bin": "os.makedirs('draft_tree'); Path('draft_tree/leaf.bin').write_bytes(os.urandom(8)); os.rename('draft_tree', 'tree')",
    "linked.bin": "os.link('low.bin', 'linked.bin')",
    "child.bin": "import subprocess; subprocess.run('head -c 8 /dev/urandom > child.bin', shell=True, check=True)",
    "shell.bin": "!head -c 8 /dev/urandom > shell.bin",
    "magic.txt": "%%writefile magic.txt\nwritten by a magic command",
    "library.txt": "import ctypes\nlibc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p\nfile = libc.fopen(b'library.txt', b'w'); libc.fputs(os.urandom(4).hex().encode(), ctypes.c_void_p(file)); libc.fclose(ctypes.c_void_p(file));",
    "pool-1.txt": "import multiprocessing\ndef write(number):\n    with open(f'pool-{number}.txt', 'wb') as file:\n        file.write(os.urandom(8))\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    pool.map(write, range(2))",
    "loky-1.npy": "joblib.Parallel(2)(joblib.delayed(np.save)(f'loky-{number}', np.random.rand(4)) for number in range(2));",
    "log.txt": "import logging; logging.basicConfig(filename='log.txt', force=True); logging.warning('a line')",
    "deep/er/made.bin": "os.makedirs('deep/er'); subprocess.run(['cp', 'low.bin', 'deep/er/made.bin'], check=True)",
}
READERS = {  # the cell that reads a file of data/, by its name
    "x.h5": "import h5py\nwith h5py.File('data/x.h5') as file:\n    print(file['x'][:].sum())",
    "x.parquet": "import pyarrow.parquet as pq; print(pq.read_table('data/x.parquet', memory_map=True).num_rows)",
    "x.feather": "import pyarrow.feather as pf; print(pf.read_table('data/x.feather').num_rows)",
    "x.csv": "import pandas as pd; print(pd.read_csv('data/x.csv').x.sum())",
    "x.npy": "print(float(np.load('data/x.npy', mmap_mode='r').sum()))",
    "x.db": "import sqlite3; print(sqlite3.connect('data/x.db').execute('select sum(x) from t').fetchone())",
    "x.zip": "import zipfile; print(zipfile.ZipFile('data/x.zip').read('x'))",
    "x.gz": "import gzip; print(gzip.open('data/x.gz').read())",
    "low.bin": "number = os.open('data/low.bin', os.O_RDONLY); print(os.read(number, 8)); os.close(number)",
    "map.bin": "import mmap\nwith open('data/map.bin', 'rb') as file:\n    print(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)[:])",
    "child.txt": "import subprocess; print(subprocess.check_output(['cat', 'data/child.txt']))",
    "shell.txt": "!cat data/shell.txt",
    "scale.sh": "print(subprocess.check_output(['sh', 'data/scale.sh']))",
    "script.py": "print(subprocess.check_output([sys.executable, 'data/script.py']))",
    "imported.py": "None  # by the script",
    "library.txt": "import ctypes\nlibc = ctypes.CDLL(None); libc.fopen.restype = ctypes.c_void_p\nfile = libc.fopen(b'data/library.txt', b'r'); buffer = ctypes.create_string_buffer(9)\nlibc.fread(buffer, 1, 8, ctypes.c_void_p(file)); libc.fclose(ctypes.c_void_p(file)); print(buffer.value)",
    "pool-1.txt": "import multiprocessing\ndef read(number):\n    with open(f'data/pool-{number}.txt') as file:\n        return file.read()\nwith multiprocessing.get_context('fork').Pool(2) as pool:\n    print(pool.map(read, range(2)))",
    "loky-1.npy": "import joblib; print(joblib.Parallel(2)(joblib.delayed(np.load)(f'data/loky-{number}.npy') for number in range(2)))",
    f"{EXTENSION}{EXTENSION_SUFFIXES[0]}": f"from importlib.util import module_from_spec, spec_from_file_location\nspec = spec_from_file_location('{EXTENSION}', 'data/{EXTENSION}{EXTENSION_SUFFIXES[0]}'); module = module_from_spec(spec); sys.modules['{EXTENSION}'] = module; spec.loader.exec_module(module); print(module.__name__)",
    "ran.py": "%run data/ran.py",
    "linked/far.txt": "print(open('data/linked/far.txt').read())",
}
BEGIN = "import os, sys\nimport numpy as np"


def last_record(project: Path):
    return read_record(find_records(project / "experiments")[-1])


def names(record, field: str) -> set[str]:
    """All files in a field, also where the record has only the first of them."""
    return {file["path"] for file in read_list(record, field)}


def read_list(record, field: str) -> list[dict]:
    recorded = record[field]
    if "list" not in recorded:
        return recorded["files"]
    text = next((record.folder.parent / ".store").glob(f"{recorded['list']}*")).read_text()
    return [json.loads(line) for line in text.splitlines()]


def verify(project: Path, *options: str, **variables: str) -> dict:
    result = run("sh", "-c", '"$@" 2> /dev/null', "sh", "ml-repo", "verify", "latest", "--json", "--no-keep", *options, cwd=project, **variables)
    (found,) = json.loads(result.stdout)
    assert result.returncode == found["exit_code"]
    return found


def begin(project: Path, *cells: str, ignored: str = "", **variables: str):
    """Run a notebook of some cells in a new repository; returns its record."""
    project.mkdir(parents=True, exist_ok=True)
    write_notebook(project / "a.ipynb", PARAMETERS, *cells)
    make_repository(project)
    with open(project / ".gitignore", "a") as file:
        file.write(ignored)
    commit(project)
    checked("ml-repo", "run", "a.ipynb", "--quiet", cwd=project, **variables)
    return last_record(project)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return begin(tmp_path_factory.mktemp("written").resolve() / "project", BEGIN, *WRITERS.values())


@pytest.mark.parametrize("name", WRITERS)
def test_a_written_file_is_an_output(written, name):
    assert name in names(written, "outputs")


def test_nothing_else_is_an_output(written):
    others = names(written, "outputs") - set(WRITERS)
    assert others == {"pool-0.txt", "loky-0.npy"}  # of the same workers
    assert written["watched"]["gaps"] == []
    doubtful = {file["path"] for file in read_list(written, "outputs") if not file.get("is_certain", True)}
    assert doubtful == set()


def fill_data(data: Path) -> None:
    """Make the files that are read; none of them is in git."""
    import h5py
    import numpy as np
    import pandas as pd

    (data.parent.parent / "far").mkdir(parents=True)
    (data.parent.parent / "far/far.txt").write_text("far")
    data.mkdir(parents=True)
    (data / "linked").symlink_to(data.parent.parent / "far")
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    frame.to_parquet(data / "x.parquet")
    frame.to_feather(data / "x.feather")
    frame.to_csv(data / "x.csv")
    with h5py.File(data / "x.h5", "w") as file:
        file["x"] = np.arange(4.0)
    for name in ("x", "loky-0", "loky-1"):
        np.save(data / f"{name}.npy", np.arange(4.0))
    with sqlite3.connect(data / "x.db") as base:
        base.execute("create table t(x)")
        base.execute("insert into t values (4)")
    base.close()
    with zipfile.ZipFile(data / "x.zip", "w") as archive:
        archive.writestr("x", "1")
    (data / "x.gz").write_bytes(gzip.compress(b"1"))
    for name in ("low.bin", "map.bin", "child.txt", "shell.txt", "library.txt", "pool-0.txt", "pool-1.txt"):
        (data / name).write_text(f"of {name}"[:8])
    (data / "scale.sh").write_text("echo 2\n")
    (data / "script.py").write_text("import imported\nprint(imported.FACTOR)\n")
    (data / "imported.py").write_text("FACTOR = 2\n")
    (data / "ran.py").write_text("print('ran')\n")
    shutil.copy(find_spec(EXTENSION).origin, data / f"{EXTENSION}{EXTENSION_SUFFIXES[0]}")


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    project = tmp_path_factory.mktemp("read").resolve() / "project"
    fill_data(project / "data")
    cells = [cell for name, cell in READERS.items() if os.path.exists(project / "data" / name)]
    return begin(project, BEGIN, *cells, ignored="/data\n")


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_was_read_is_an_input(read, name):
    if not (read.folder.parent.parent / "data" / name).exists():
        pytest.skip("this Python has no such extension module")
    assert f"data/{name}" in {file["path"] for file in list_inputs(read)}


def test_an_unchanged_run_is_identical_although_its_inputs_are_not_in_git(read):
    found = verify(read.folder.parent.parent)
    assert (found["verdict"], found["problem"]) == ("identical", ""), [item for item in found["items"] if item["verdict"] != "identical"]


@pytest.mark.parametrize("name, change", [("x.h5", "gone"), ("shell.txt", "other"), ("pool-1.txt", "gone")])
def test_a_lost_input_is_named_and_never_a_difference(read, name, change):
    file = read.folder.parent.parent / "data" / name
    content = file.read_bytes()
    try:
        file.unlink() if change == "gone" else file.write_bytes(content[::-1])
        found = verify(read.folder.parent.parent)
    finally:
        file.write_bytes(content)
    assert found["verdict"] == "cannot be judged" and f"data/{name}" in found["problem"]


def test_a_file_that_was_only_looked_for_is_named(tmp_path):
    (tmp_path / "p/data").mkdir(parents=True)
    (tmp_path / "p/data/weights.bin").write_text("1234")
    begin(tmp_path / "p", "import os", "print(os.stat('data/weights.bin').st_size)", ignored="/data\n")
    found = verify(tmp_path / "p")
    assert found["verdict"] == "cannot be judged" and found["problem"].startswith("data/weights.bin is not"), found


def test_a_listing_is_an_input_and_comes_back(tmp_path):
    data = tmp_path / "p/data"
    data.mkdir(parents=True)
    for name in "abc":
        (data / f"{name}.csv").write_text(name)
    record = begin(tmp_path / "p", "from glob import glob", "print(len(glob('data/*.csv')))", ignored="/data\n")
    assert list_listings(record) == {"data": ["a.csv", "b.csv", "c.csv"]}
    assert verify(tmp_path / "p")["verdict"] == "identical"
    (data / "d.csv").write_text("d")
    checked("ml-repo", "run", "a.ipynb", "--quiet", cwd=tmp_path / "p")
    kinds = json.loads(checked("ml-repo", "diff", record["id"], "latest", "--json", cwd=tmp_path / "p"))
    assert "data/" in json.dumps(kinds)


def test_an_input_that_the_run_overwrites_is_known_as_it_was(tmp_path):
    project = tmp_path / "p"
    project.mkdir()
    (project / "count.txt").write_text("7")
    record = begin(project, "from pathlib import Path", "count = Path('count.txt'); print(count.read_text()); count.write_text(str(int(count.read_text()) + 1));")
    (count,) = [file for file in list_inputs(record) if file["path"] == "count.txt"]
    assert (count["size_bytes"], count["sha256"][:8]) == (1, "7902699b")  # of "7"
    assert "count.txt" in names(record, "outputs") and verify(project)["verdict"] == "identical"


def test_code_that_no_commit_holds_is_an_input(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/colleague.py").write_text("FACTOR = 2\n")
    startup = tmp_path / "ipython/profile_default/startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("SET_BY_STARTUP = 3\n")
    variables = {"IPYTHONDIR": str(tmp_path / "ipython")}
    record = begin(tmp_path / "p", "import sys", f"sys.path.append({str(tmp_path / 'shared')!r})\nimport colleague\nprint(colleague.FACTOR, SET_BY_STARTUP)", **variables)
    inputs = {file["path"] for file in list_inputs(record)}
    assert str(tmp_path / "shared/colleague.py") in inputs
    assert any(path.endswith("startup/00.py") for path in inputs)
    assert verify(tmp_path / "p", **variables)["verdict"] == "identical"
    (startup / "00.py").write_text("SET_BY_STARTUP = 4\n")
    found = verify(tmp_path / "p", **variables)
    assert found["verdict"] == "cannot be judged" and "startup/00.py" in found["problem"], found


def test_records_and_logs_of_inner_runs_are_no_outputs(tmp_path):
    project = tmp_path / "p"
    project.mkdir()
    write_notebook(project / "inner.ipynb", "print('hello')", tagged=())
    begin(project, "import papermill\npapermill.execute_notebook('inner.ipynb', None, progress_bar=False);", "!ml-repo run inner.ipynb --quiet > /dev/null 2>&1")
    outer = next(read_record(folder) for folder in find_records(project / "experiments") if folder.name.startswith("a-"))
    assert len(find_records(project / "experiments")) == 3
    assert names(outer, "outputs") == set()


def test_what_another_program_opens_is_marked(tmp_path):
    project = tmp_path / "p"
    project.mkdir()
    (project / "notes.md").write_text("to do")
    (project / "plan.py").write_text("a = 1")
    wait = f"import time, pathlib\nready, go = (pathlib.Path({str(tmp_path)!r}, name) for name in ('ready', 'go'))\nready.touch()\nwhile not go.exists():\n    time.sleep(0.01)"
    write_notebook(project / "a.ipynb", PARAMETERS, wait)
    make_repository(project)
    process = subprocess.Popen([Path(sys.executable).with_name("ml-repo"), "run", "a.ipynb", "--quiet"], cwd=project)
    try:
        await_true((tmp_path / "ready").exists, "the first cell")
        (project / "notes.md").read_text()
        (project / "plan.py").write_text("a = 2")
        (tmp_path / "go").touch()
        assert process.wait(300) == 0
    finally:
        process.kill()
    record = last_record(project)
    certain = {file["path"]: file.get("is_certain", True) for field in ("inputs", "outputs") for file in read_list(record, field)}
    assert certain.get("notes.md", False) is False and certain["plan.py"] is False


def test_a_verdict_says_what_could_not_be_watched(tmp_path):
    record = begin(tmp_path / "p", "print(n)")
    assert verify(tmp_path / "p")["problem"] == ""
    file = record.folder / "record.json"
    fields = json.loads(file.read_text())
    fields["watched"]["gaps"] = ["/srv/data lies on a network file system (nfs4)."]
    file.write_text(json.dumps(fields))
    found = verify(tmp_path / "p")
    assert found["verdict"] == "identical" and "/srv/data lies on a network file system" in found["problem"]


def test_without_notifications_what_was_written_is_still_found(tmp_path, monkeypatch):
    monkeypatch.setattr(file_watch, "open_notifications", lambda: None)
    (tmp_path / "old.csv").write_text("1")
    watch = file_watch.FileWatch(tmp_path, tmp_path)
    watch.start()
    watch.arm(os.getpid())
    subprocess.run(["sh", "-c", "echo 2 > new.csv; mv old.csv moved.csv"], cwd=tmp_path, check=True)
    seen = watch.stop()
    assert {Path(path).name for path in seen.written} == {"new.csv", "moved.csv"}
    assert seen.by == ["snapshots"] and "does not notify" in seen.gaps[0]


def test_too_many_folders_are_said(tmp_path, monkeypatch):
    from ml_repo.provenance import file_tree

    monkeypatch.setattr(file_tree, "FOLDER_LIMIT", 3)
    for number in range(6):
        (tmp_path / str(number)).mkdir()
    watch = file_watch.FileWatch(tmp_path, tmp_path)
    watch.start()
    assert "Only the first 3 folders" in watch.stop().gaps[0]
