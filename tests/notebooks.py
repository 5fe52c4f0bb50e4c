"""Test the notebooks as nbdev_test does, and take its options, but each in a process of its own.

It is forked from a process that has imported what most notebooks need, and nothing of this library. So a notebook finds
what a new process has, leaves nothing to the next one (modules, folder, variables), and does not wait for imports. The
commands of the library that it starts, and their kernels, are forked as well (`forks.py`). With `--slow`, they are new processes.
"""
import gc
import importlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from pathlib import Path

from fastcore.foundation import L
from forked import ForkedPopen, Server
from nbdev import test
from nbdev.config import get_config

OF_MOST = ("fastcore.test", "IPython.core.debugger", "matplotlib.pyplot", "nbclient", "numpy", "psutil", "rich.console", "sqlite3", "yaml")
IMPORTS = re.compile(r'^\s*"\s*(?:import|from) (keras|mlflow|optuna|pandas|sklearn|tensorflow)\b', re.MULTILINE)  # of a cell
LONGEST = ("15_keras_tuner", "09_keras_checkpoint", "04_mlflow_sync", "05_lock", "new_project")  # where no times are known
IS_SLOW = "--slow" in sys.argv  # as in `make test-all`


class Popen(ForkedPopen):
    """What stands in for `subprocess.Popen` in a notebook."""

    server: Server
    home: tempfile.TemporaryDirectory  # of the server

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, find=lambda environment: self.server.folder, **named)


def start_server() -> None:
    """Start the process that forks commands, with the variables that `shell` sets."""
    Popen.home = tempfile.TemporaryDirectory(prefix="ml-")
    Popen.server = Server(Path(Popen.home.name, "commands"), os.environ | {"FORCE_COLOR": "", "ML_REPO_MIRROR": "0"})


def find_needs(file: Path) -> list[str]:
    """Name the large libraries that a notebook imports."""
    text = file.read_text(encoding="utf-8")
    return [] if "skip_exec: true" in text else sorted(set(IMPORTS.findall(text)))


def read_times(file: Path) -> dict[str, float]:
    """Read how long each notebook took last time, in seconds."""
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError):
        return {}


def test_one(result: Connection, check: Callable, file: Path, options: dict) -> None:
    """Test a notebook in this process, and send what came of it."""
    sys.modules["numpy"].random.seed()  # as a new process does; Python sees to its own generator
    if not IS_SLOW:
        ForkedPopen.allowed, subprocess.Popen = {"commands", "kernels"}, Popen
    result.send(check(file, **options))


def run_in_forks(check: Callable, files: Sequence[Path], n_workers: int = 1, pause: float = 0, **options) -> L:
    """Stand in for fastcore's `parallel`, which tests many notebooks in one process. Few imports and long times come first."""
    fork, running, results = multiprocessing.get_context("fork"), {}, {}
    times = read_times(known := Path(get_config().config_path, "_proc", "notebook_times.json"))
    needs = {file: find_needs(file) for file in files}
    is_heavy = {file: bool({"keras", "tensorflow"} & set(needs[file])) for file in files}
    starting = threading.Thread(target=(lambda: None) if IS_SLOW else start_server)
    starting.start()
    waiting = sorted(files, key=lambda file: (is_heavy[file], bool(needs[file]), -times.get(str(file), file.stem in LONGEST)))
    while waiting or running:
        while waiting and len(running) < max(n_workers, 1):
            file = waiting.pop(0)
            for name in (*OF_MOST, *needs[file]):
                importlib.import_module(name)
            starting.join()
            assert get_config().lib_name not in sys.modules, "a notebook has to import the library itself"
            gc.freeze()  # libraries that look for garbage themselves, such as KerasTuner, need not look here
            result, sender = fork.Pipe(duplex=False)
            process = fork.Process(target=test_one, args=(sender, check, file, options))
            process.start()
            sender.close()
            running[process] = file, result
        wait([process.sentinel for process in running], timeout=1)  # a process that a notebook has left may keep it open
        for process in [process for process in running if process.exitcode is not None]:
            file, result = running.pop(process)
            results[file] = False, 0
            with suppress(EOFError):  # it sent nothing
                results[file] = result.recv() if result.poll() else results[file]
            if process.exitcode:
                print(f"{file}: its process ended with {process.exitcode}", file=sys.stderr)
    known.parent.mkdir(exist_ok=True)
    known.write_text(json.dumps(times | {str(file): results[file][1] for file in files}))
    return L(results[file] for file in files)


if __name__ == "__main__":
    sys.argv = [word for word in sys.argv if word != "--slow"]
    test.parallel = run_in_forks
    test.nbdev_test()
