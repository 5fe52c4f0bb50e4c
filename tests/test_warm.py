"""Warm kernels: forked for real, killed in every way, and compared with cold ones."""
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from conftest import LIMIT_S, ROOT, run
from states import CELL, find_differences
from test_kills import write_repository

from ml_repo.core.content_store import read_text
from ml_repo.execution.launch import run_notebook
from ml_repo.records.reader import Record, read_record
from ml_repo.warm.provisioner import WarmProcess

pytestmark = [pytest.mark.own_process, pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux")]

PARAMETERS = "what: str = 'pass'  # a line of Python\nuntil: str = ''  # wait for this file"
CELLS = ("import os, signal, sys, time\nimport numpy as np\nfrom ml_repo.tracking.run import start_run\nrun = start_run()",
         "exec(what)", "while until and not os.path.exists(until): time.sleep(0.02)", "run.log(value=1)")


@pytest.fixture
def notebook(tmp_path) -> Path:
    return write_repository(tmp_path / "project", *CELLS, name="line.ipynb", parameters=PARAMETERS)


@pytest.fixture
def warm(notebook) -> Iterator[WarmProcess]:
    """A warm process, and nothing left of it and its kernels afterwards."""
    with WarmProcess(notebook) as process:
        yield process
        address = process.address
    until(lambda: not [one for one in psutil.process_iter() if address in " ".join(name_command(one))])


def name_command(process: psutil.Process) -> list[str]:
    with suppress(psutil.Error):
        return process.cmdline()
    return []


def until(holds, limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def execute(notebook: Path, warm: WarmProcess, what: str = "pass", **options) -> Record:
    return run_notebook(notebook, {"what": what} | options.pop("parameters", {}), warm=warm.address, quiet=True, **options)


def outputs(record: Record) -> str:
    """All that the cells have printed."""
    cells = json.loads(next(record.folder.glob("*.ipynb")).read_text())["cells"]
    return "".join("".join(one.get("text", "")) for cell in cells for one in cell.get("outputs", []))


def find_server(warm: WarmProcess) -> psutil.Process:
    """The warm process itself; its kernels are its children, with the same command."""
    found = [one for one in psutil.process_iter() if warm.address in name_command(one)]
    return min(found, key=lambda one: one.create_time())


def is_warm(record: Record) -> bool:
    assert not [warning for warning in record["warnings"] if "cold" in warning], record["warnings"]
    return record["kernel"]["warm"]


@pytest.mark.parametrize(("what", "cause"), [("os.kill(os.getpid(), signal.SIGKILL)", {"signal": "SIGKILL"}),
                                             ("os.kill(os.getpid(), signal.SIGTERM)", {"signal": "SIGTERM"}),
                                             ("os._exit(7)", {"exit_status": 7}),
                                             ("held = bytearray(300_000_000); os._exit(9)", {"exit_status": 9}),
                                             ("import ctypes; ctypes.string_at(0)", {"signal": "SIGSEGV"})])
def test_a_kernel_that_dies_is_described_as_a_cold_one_and_hurts_no_other(notebook, warm, what, cause):
    records = [run_notebook(notebook, {"what": what}, warm=address, quiet=True) for address in (None, warm.address)]
    assert [record["state"] for record in records] == ["killed", "killed"]
    assert is_warm(records[1])
    kept = [{name: value for name, value in record["cause"].items() if name in ("kind", "cell", "signal", "exit_status")} for record in records]
    assert kept[0] == kept[1] == {"kind": "kernel died", "cell": 4} | cause
    if "held" in what:
        assert records[1]["cause"]["peak_memory_gb"] > 0.3
    if "ctypes" in what:
        assert "Segmentation fault" in records[1]["cause"]["last_words"]
    assert execute(notebook, warm)["state"] == "completed"


def test_the_peak_of_memory_is_that_of_the_kernel(notebook, warm):
    large = execute(notebook, warm, "held = np.ones(50_000_000); del held")["usage"]["peak_memory_gb"]
    assert large > 0.4
    assert execute(notebook, warm)["usage"]["peak_memory_gb"] < 0.2


def test_a_run_survives_the_death_of_the_warm_process_and_the_next_is_warm_again(notebook, warm, tmp_path):
    with ThreadPoolExecutor() as pool:
        running = pool.submit(execute, notebook, warm, "open('begun', 'w')", parameters={"until": str(tmp_path / "go")}, folder=tmp_path)
        until((tmp_path / "begun").exists)
        server = find_server(warm)
        server.kill()
        until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)
        (tmp_path / "go").touch()
        assert running.result(LIMIT_S)["state"] == "completed"
    assert is_warm(execute(notebook, warm))
    assert find_server(warm).pid != server.pid


def test_a_warm_process_that_always_dies_is_left_alone(notebook, warm):
    for _ in range(3):
        assert is_warm(execute(notebook, warm))
        find_server(warm).kill()
        time.sleep(0.1)
    record = execute(notebook, warm)
    assert record["state"] == "completed" and record["kernel"]["warm"] is False
    assert "The kernel is cold, because the warm process has ended 3 times" in " ".join(record["warnings"])


def supervise(notebook: Path, warm: WarmProcess, what: str, folder: Path) -> tuple[subprocess.Popen, int]:
    """Run in another process until the notebook has written a number, which is returned."""
    what = what.replace("SAY", f"; open({str(folder / 'part')!r}, 'w').write(str(number)); os.rename({str(folder / 'part')!r}, {str(folder / 'number')!r})")
    program = f"from ml_repo.execution.launch import run_notebook; run_notebook({str(notebook)!r}, {{'what': {what!r}, 'until': '/no'}}, warm={warm.address!r}, quiet=True)"
    supervisor = subprocess.Popen([sys.executable, "-c", program], cwd=notebook.parent, stderr=subprocess.DEVNULL)
    until((folder / "number").exists, 30)
    return supervisor, int((folder / "number").read_text())


def is_gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_a_kernel_whose_two_parents_are_gone_dies_too(notebook, warm, tmp_path):
    supervisor, number = supervise(notebook, warm, "number = os.getpid()SAY", tmp_path)
    kernel, server = psutil.Process(number), find_server(warm)
    server.suspend()  # it can do nothing for anybody
    supervisor.kill()
    supervisor.wait()
    until(lambda: is_gone(kernel))
    server.resume()
    assert read_record(next((notebook.parent / "experiments").glob("line-*")))["state"] == "killed"


@pytest.mark.parametrize("is_first", [False, True], ids=["supervisor first", "kernel first"])
def test_the_children_of_a_kernel_end_with_its_supervisor(notebook, warm, tmp_path, is_first):
    supervisor, number = supervise(notebook, warm, "import subprocess; number = subprocess.Popen(['sleep', '1000']).pidSAY", tmp_path)
    child, kernel = psutil.Process(number), psutil.Process(psutil.Process(number).ppid())
    if is_first:  # as it happens when the supervisor is killed, and its connection outlives the kernel for a moment
        supervisor.send_signal(signal.SIGSTOP)
        kernel.kill()
        until(lambda: is_gone(kernel))
        time.sleep(0.2)
    supervisor.kill()
    supervisor.wait()
    until(lambda: is_gone(child))


def test_code_that_changed_on_disk_is_used(notebook, warm):
    module = notebook.parent / "mine.py"
    for number in range(3):
        module.write_text(f"answer = {number}" + "\n" * number)  # Python takes a compiled file for fresh by size and second
        record = execute(notebook, warm, "import mine; print('answer', mine.answer)", folder=module.parent)
        assert is_warm(record) and f"answer {number}" in outputs(record)


def test_a_package_that_changed_on_disk_is_imported_anew(notebook, tmp_path, monkeypatch):
    import fastcore

    place = Path(fastcore.__file__).parent.parent / "zz_warm_example.py"  # among the installed packages
    try:
        place.write_text("answer = 1")
        with WarmProcess(notebook, ["zz_warm_example"]) as warm:
            say = "import sys; print('zz_warm_example' in sys.modules); import zz_warm_example; print('answer', zz_warm_example.answer)"
            assert "True\nanswer 1" in outputs(execute(notebook, warm, say))
            place.write_text("answer = 22")
            record = execute(notebook, warm, say)
            assert is_warm(record) and "True\nanswer 22" in outputs(record)
    finally:
        place.unlink(missing_ok=True)


def test_each_of_four_kernels_at_once_has_what_is_its_own(notebook, warm, tmp_path):
    say = ("import json; print(json.dumps([os.getcwd(), os.environ['CUDA_VISIBLE_DEVICES'], os.environ['ML_REPO_RUN'], os.getpid(), os.getpgid(0), os.getsid(0),"
           " np.random.random(), __import__('random').random(), sys.argv[0]]), flush=True); os.system('echo from C')")
    program = "import sys; from ml_repo.execution.launch import run_notebook; print(run_notebook(sys.argv[1], {'what': sys.argv[2]}, warm=sys.argv[3], quiet=True, folder=sys.argv[4]).folder)"
    variables = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}  # with it, a kernel does not catch what C code prints
    folders = [tmp_path / str(number) for number in range(4)]
    started = []
    for number, folder in enumerate(folders):
        folder.mkdir()
        started.append(subprocess.Popen([sys.executable, "-c", program, str(notebook), say, warm.address, str(folder)], cwd=notebook.parent, text=True,
                                        env=variables | {"CUDA_VISIBLE_DEVICES": str(number)}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL))
    records = [read_record(process.communicate(timeout=LIMIT_S)[0].strip()) for process in started]
    assert all(is_warm(record) for record in records)
    assert all("from C" in outputs(record) for record in records)
    found = [json.loads(next(line for line in outputs(record).splitlines() if line.startswith("["))) for record in records]
    assert [one[0] for one in found] == [str(folder) for folder in folders]
    assert [one[1] for one in found] == ["0", "1", "2", "3"]
    assert [one[2] for one in found] == [str(record.folder) for record in records]
    assert all(one[3] == one[4] == one[5] for one in found)
    assert all(len({one[place] for one in found}) == 4 for place in (3, 6, 7))
    assert all(one[8].endswith("ipykernel_launcher.py") for one in found)


def test_a_signal_interrupts_a_warm_run_as_a_cold_one(notebook, warm, tmp_path):
    supervisor, _ = supervise(notebook, warm, "number = 0SAY", tmp_path)
    time.sleep(0.3)  # it waits in the next cell
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(LIMIT_S) != 0
    record = read_record(next((notebook.parent / "experiments").glob("line-*")))
    assert (record["state"], record["cause"]["signal"]) == ("interrupted", "SIGINT")
    assert "KeyboardInterrupt" in next(record.folder.glob("*.ipynb")).read_text()
    assert is_warm(execute(notebook, warm))


def test_what_does_not_fit_is_cold_and_says_why(notebook, warm, monkeypatch):
    for name, value in (("TF_ENABLE_ONEDNN_OPTS", "0"), ("PYTHONHASHSEED", "3"), ("KERAS_BACKEND", "jax"), ("OMP_NUM_THREADS", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            record = execute(notebook, warm)
        assert record["state"] == "completed" and record["kernel"]["warm"] is False
        assert f"The kernel is cold, because {name} is {value}, and was not set when the libraries were imported." in record["warnings"]
    record = run_notebook(notebook, warm="/nowhere", quiet=True)
    assert record["kernel"]["warm"] is False and "there is no warm process at /nowhere" in " ".join(record["warnings"])


def test_a_variable_that_is_set_too_late_is_in_the_record(notebook, warm):
    record = execute(notebook, warm, "os.environ['NPY_PROMOTION_STATE'] = 'weak'")
    assert "The notebook has set NPY_PROMOTION_STATE" in " ".join(record["warnings"])


def test_the_command_line_finds_the_same_warm_process_again(notebook, tmp_path):
    for _ in range(2):
        result = run("ml-repo", "run", notebook, "--warm", "--quiet", cwd=notebook.parent, TMPDIR=str(tmp_path))
        assert result.returncode == 0, result.stdout
    records = [read_record(folder) for folder in (notebook.parent / "experiments").glob("line-*")]
    assert [is_warm(record) for record in records] == [True, True]
    found = [one for one in psutil.process_iter() if str(tmp_path) in " ".join(name_command(one)) and "ml_repo.warm.server" in " ".join(name_command(one))]
    assert len(found) == 1
    found[0].terminate()
    found[0].wait(LIMIT_S)


LIGHT = ("numpy", "pandas", "matplotlib.pyplot", "PIL.Image", "tqdm.auto", "rich.console", "requests", "yaml", "bs4", "dateutil.parser", "pytz", "jinja2", "psutil",
         "sqlalchemy", "networkx", "IPython.display", "plotly.express", "altair", "polars", "lxml.etree", "click", "attr", "cycler", "pydantic")
HEAVY = ("scipy.stats", "sklearn.linear_model", "joblib", "h5py", "pyarrow.parquet", "seaborn", "statsmodels.api", "sympy", "nltk", "ipywidgets", "keras", "tensorflow", "torch",
         "xgboost", "optuna", "mlflow")


def list_installed(*names: str) -> list[str]:
    return [name for name in names if find_spec(name.partition(".")[0])]


def compare_states(root: Path, names: list[str], monkeypatch) -> list[str]:
    """Import libraries in a cold kernel and in a warm one, and compare what they decided, and which files the records name."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # the order of sets is that of one process otherwise
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    notebook = write_repository(root, "".join(f"import {name}\n" for name in names), CELL, name="line.ipynb", parameters="n: int = 1")
    folder, records = root / "work", []
    folder.mkdir()
    with WarmProcess(notebook, names) as process:
        for address in (None, process.address):
            records.append(run_notebook(notebook, warm=address, quiet=True, folder=folder))
            (folder / "states.json").rename(root / f"{len(records)}.json")
    assert is_warm(records[1]) and [record["state"] for record in records] == ["completed"] * 2
    for field in ("inputs", "library_files"):
        paths = [{file["path"] for file in (record.get(field) or {}).get("files", []) if "fontlist" not in file["path"]} for record in records]
        assert paths[0] == paths[1]
    assert records[0]["packages"]["loaded"] == records[1]["packages"]["loaded"] or read_loaded(records[0]) <= read_loaded(records[1])
    return find_differences(root / "1.json", root / "2.json")


def test_libraries_decide_the_same_in_a_warm_kernel(tmp_path, monkeypatch):
    assert compare_states(tmp_path / "project", list_installed(*LIGHT), monkeypatch) == []


@pytest.mark.slow
def test_large_libraries_decide_the_same_in_a_warm_kernel(tmp_path, monkeypatch):
    settings = Path(os.environ["KERAS_HOME"], "keras.json")  # Keras writes it where it is missing, and the second process reads it
    settings.parent.mkdir(exist_ok=True)
    settings.exists() or settings.write_text("{}")
    found = compare_states(tmp_path / "project", list_installed(*LIGHT, *HEAVY), monkeypatch)
    assert not found, "\n".join(found)


def test_a_table_is_shown_the_same_and_settings_beside_the_notebook_make_the_kernel_cold(tmp_path):
    show = "import pandas as pd, matplotlib.pyplot as plt\nprint(pd.get_option('display.max_columns'), plt.rcParams['lines.linewidth'])\npd.DataFrame({f'c{k}': range(3) for k in range(24)}).head()"
    notebook = write_repository(tmp_path / "project", show, name="line.ipynb", parameters="n: int = 1")
    with WarmProcess(notebook) as process:
        records = [run_notebook(notebook, warm=address, quiet=True, folder=notebook.parent) for address in (None, process.address)]
        (notebook.parent / "matplotlibrc").write_text("lines.linewidth: 7\n")
        records.append(run_notebook(notebook, warm=process.address, quiet=True, folder=notebook.parent))
    shown = [json.loads(next(record.folder.glob("*.ipynb")).read_text())["cells"][1]["outputs"] for record in records]
    assert is_warm(records[1]) and shown[0] == shown[1] and "20 1.5" in outputs(records[1])
    assert records[2]["kernel"]["warm"] is False and "matplotlibrc lies in the working folder" in " ".join(records[2]["warnings"]) and "20 7.0" in outputs(records[2])


PAUSE = "import gc; gc.collect(); open(what, 'w').write(str(os.getpid()))"


def measure_memory(notebook: Path, address: str | None, folder: Path, count: int = 4) -> float:
    """The memory of kernels that live at the same time, in MB; a page that several share counts in part for each, and for the warm process."""
    folder.mkdir()
    go = folder / "go"
    with ThreadPoolExecutor(count) as pool:
        program = "import sys; from ml_repo.execution.launch import run_notebook; run_notebook(sys.argv[1], {'what': sys.argv[2], 'until': sys.argv[3]}, warm=sys.argv[4] or None, quiet=True)"
        started = [subprocess.Popen([sys.executable, "-c", program, str(notebook), str(folder / str(number)), str(go), address or ""], cwd=notebook.parent, stderr=subprocess.DEVNULL)
                   for number in range(count)]
        until(lambda: len(list(folder.iterdir())) == count and all(one.read_text() for one in folder.iterdir()), 300)
        kernels = [psutil.Process(int(one.read_text())) for one in folder.iterdir()]
        total = sum(one.memory_full_info().pss for one in kernels) / 1e6
        go.touch()
        assert [one.wait(LIMIT_S) for one in started] == [0] * count
    return total


@pytest.mark.slow
def test_four_warm_kernels_take_little_memory(tmp_path):
    cells = ("import os\nimport numpy as np\nimport pandas as pd\nfrom ml_repo.tracking.run import start_run\nrun = start_run()", PAUSE, *CELLS[2:])
    notebook = write_repository(tmp_path / "project", *(cell.replace("time.sleep", "__import__('time').sleep") for cell in cells), name="line.ipynb", parameters=PARAMETERS)
    cold = measure_memory(notebook, None, tmp_path / "cold")
    with WarmProcess(notebook) as warm:
        warm_total = measure_memory(notebook, warm.address, tmp_path / "warm")
    print(f"cold {cold:.0f} MB, warm {warm_total:.0f} MB")
    assert warm_total <= 0.6 * cold


def read_loaded(record: Record) -> set[str]:
    """The packages that the kernel had imported."""
    return set(read_text(record.folder.parent, record["packages"]["loaded"]).split())


@pytest.mark.slow
def test_a_warm_training_gives_the_same_bits_as_a_cold_one(tmp_path, monkeypatch):
    monkeypatch.setenv("ML_REPO_RECORDS", str(tmp_path))
    notebook, values = ROOT / "nbs" / "train.ipynb", {"epochs": 1, "filters": 8}
    cold = run_notebook(notebook, values, quiet=True)
    with WarmProcess(notebook) as warm:
        records = [run_notebook(notebook, values, warm=warm.address, quiet=True) for _ in range(2)]
    assert [is_warm(record) for record in records] == [True, True]
    assert {record["weights"]["model"] for record in (cold, *records)} == {cold["weights"]["model"]}
    for record in records:
        assert [one for one in record["metrics"] if not one["name"].startswith("fit_")] == [one for one in cold["metrics"] if not one["name"].startswith("fit_")]
    assert records[0]["determinism"] == cold["determinism"]
    assert records[0]["code"]["modules"] == cold["code"]["modules"]
    assert read_loaded(records[0]) ^ read_loaded(cold) == set()
    assert sum(records[1]["cells"]["duration_s"][:15]) < 0.5 * sum(cold["cells"]["duration_s"][:15]), "the imports were not saved"


def write_keras(root: Path) -> Path:
    """Write a notebook whose kernels hold a Keras model."""
    imports = "import os\nos.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')\nimport keras, tensorflow as tf\nfrom ml_repo.tracking.run import start_run\nrun = start_run()"
    cells = (imports, "model = keras.Sequential([keras.layers.Input((8,)), keras.layers.Dense(1)]); model(tf.zeros((1, 8)))\n" + PAUSE, *CELLS[2:])
    return write_repository(root, *(cell.replace("time.sleep", "__import__('time').sleep") for cell in cells), name="line.ipynb", parameters=PARAMETERS)


@pytest.mark.slow
def test_four_warm_trainings_take_little_memory(tmp_path):
    notebook = write_keras(tmp_path / "project")
    cold = measure_memory(notebook, None, tmp_path / "cold")
    with WarmProcess(notebook) as warm:
        warm_total = measure_memory(notebook, warm.address, tmp_path / "warm")
    print(f"cold {cold:.0f} MB, warm {warm_total:.0f} MB")
    assert warm_total <= 0.6 * cold


@pytest.mark.slow
def test_unseeded_weights_differ_between_warm_kernels(tmp_path):
    source = ("import os\nos.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')\nimport keras, tensorflow as tf\nmodel = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(1)])\n"
              "print('drawn', model.layers[0].kernel.numpy().ravel().tolist(), tf.random.uniform([2]).numpy().tolist(), list(keras.random.uniform((1,)).numpy()))")
    notebook = write_repository(tmp_path / "project", source, name="draw.ipynb", parameters="n: int = 1  # nothing")
    with WarmProcess(notebook) as warm:
        records = [run_notebook(notebook, warm=warm.address, quiet=True) for _ in range(3)]
    assert all(is_warm(record) for record in records)
    assert len({next(line for line in outputs(record).splitlines() if line.startswith("drawn")) for record in records}) == 3
