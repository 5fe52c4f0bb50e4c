"""Commands, processes of the library and kernels, forked from processes that have imported what they need once.

A fork is a process of its own, with its own arguments, variables, folder, files and exit status. Where it would differ from a process that begins with its
imports (a variable that Python or a library has read by then, another Python), a new process is started; so it is for tests with the mark `own_process`, which
look at how processes begin and end, for slow ones, and, for kernels alone, with the mark `own_kernel`.
"""
import atexit
import fcntl
import gc
import hashlib
import importlib
import json
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache, partial
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from forked import BIN, FUNCTION, ForkedPopen, Server
from jupyter_client.provisioning import local_provisioner

from ml_repo.core.files import write_atomic
from ml_repo.core.programs import load_papermill
from ml_repo.execution import detach, launch as launching
from ml_repo.notebook.imports import is_fixed, is_free
from ml_repo.reproduce import task_process
from ml_repo.warm.client import Cold, fork_kernel
from ml_repo.warm.forking import reset_shared_state
from ml_repo.warm.provisioner import make_order
from ml_repo.warm.staleness import watch_variables

LIBRARY = str(task_process.LIBRARY.parent)
MODULES = (
    "concurrent.futures.thread", "multiprocessing.connection", "multiprocessing.synchronize", "xml.etree.ElementTree", "IPython.core.interactiveshell",
    "ipykernel.kernelspec", "inotify_simple", "jsonschema", "nbclient", "nbformat", "papermill.engines", "papermill.execute", "rich.table", "tqdm.auto",
    "ml_repo.bundle.replay", "ml_repo.cli.app", "ml_repo.execution.detach", "ml_repo.execution.engine", "ml_repo.execution.launch",
    "ml_repo.execution.papermill_plugin", "ml_repo.records.disk_usage", "ml_repo.records.notice", "ml_repo.reproduce.rerun", "ml_repo.results.doing",
    "ml_repo.results.search", "ml_repo.results.terminal_page", "ml_repo.study.study", "ml_repo.verify.junit", "ml_repo.verify.report", "ml_repo.verify.summary",
    "ml_repo.verify.verify")
NUMERIC = re.compile("OMP_|KMP_|GOMP_|OPENBLAS_|GOTO_|MKL_|BLIS_|NUMEXPR_|NPY_|TF_|XLA_|KERAS_|JAX_")  # read by NumPy and what needs it, which a server does not import
VARIABLES: dict[str, str | None] = {}  # that count for this server, as it has read them

# ---------------------------------------------------------------- the server

def serve(listener: socket.socket, owner: int) -> Callable[[], Any] | None:
    """Fork for each request; returns what is to be done in the fork, and None in the server when its owner has ended."""
    with selectors.DefaultSelector() as waiting:
        waiting.register(listener, selectors.EVENT_READ)
        waiting.register(os.pidfd_open(owner), selectors.EVENT_READ, ())
        while True:
            for key, _ in waiting.select():
                if key.data == ():
                    return None
                if key.data:  # a fork has ended
                    process, connection = key.data
                    waiting.unregister(key.fd)
                    os.close(key.fd)
                    status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
                    with suppress(OSError), connection:
                        connection.send(str(status).encode())
                    continue
                connection = listener.accept()[0]
                data, files, *_ = socket.recv_fds(connection, 1 << 20, 100)
                if not is_fitting(letter := json.loads(data)):
                    for file in files:
                        os.close(file)
                    with suppress(OSError), connection:
                        connection.send(b"0")
                    continue
                if (process := os.fork()) == 0:
                    for other in list(waiting.get_map().values()):
                        os.close(other.fd)
                        other.data and other.data[1].close()
                    listener.detach()
                    connection.close()
                    return lambda: become(letter, files)
                for file in files:
                    os.close(file)
                connection.send(str(process).encode())
                waiting.register(os.pidfd_open(process), selectors.EVENT_READ, (process, connection))


def counts(name: str) -> bool:
    """Whether a variable is read by what a server has imported."""
    return is_fixed(name) and not NUMERIC.match(name)


def is_fitting(letter: dict[str, Any]) -> bool:
    """Whether a new process would have read the variables that this one has read at its imports, and would be of this library."""
    environment, found = letter["environment"], FUNCTION.fullmatch(letter["command"][0])
    return (not found or found[1] in (None, LIBRARY)) and all(environment.get(name) == value for name, value in VARIABLES.items()) and all(
        name in VARIABLES or not counts(name) for name in environment)


def become(letter: dict[str, Any], files: list[int]) -> Any:
    """Give this fork what a new process would have, and do what it is for."""
    if letter["is_session"]:
        os.setsid()
    moved = [fcntl.fcntl(file, fcntl.F_DUPFD, 200) for file in files]  # out of the way of the numbers that they are to have
    for file in files:
        os.close(file)
    for file, number in zip(moved, letter["numbers"]):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(letter["environment"])
    os.chdir(letter["folder"])
    reset_shared_state({})
    signal.pthread_sigmask(signal.SIG_SETMASK, letter["blocked"])
    ForkedPopen.allowed = {*letter["forked"]}
    program, *arguments = letter["command"]
    if found := FUNCTION.fullmatch(program):
        sys.argv, sys.path[:1] = ["-c", *arguments], [found[1]] if found[1] else []
        return getattr(importlib.import_module(found[2]), found[3])()
    sys.argv = [program, *arguments]
    [command] = entry_points(group="console_scripts", name=Path(program).name)
    return command.load()()


def main() -> None:
    """Import what commands need, and fork them."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    place, owner = Path(sys.argv[1]), int(sys.argv[2])
    before = dict(os.environ)
    with watch_variables() as looked_up:
        load_papermill()
        for name in MODULES:
            importlib.import_module(name)
        get_mapping_from_secret_type_to_class()  # imports the patterns of secrets
    sys.path[0] = str(BIN)
    switch_on(lambda environment: place, lambda: place.parent, owner)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(type=socket.SOCK_SEQPACKET, family=socket.AF_UNIX)
    listener.bind(str(place / "new"))
    listener.listen(64)
    VARIABLES.update({name: before.get(name) for name in {*looked_up, *before} if counts(name) or name in looked_up and not is_free(name)})
    assert "numpy" not in sys.modules, "it would have read variables of its own"
    (place / "new").rename(place / "socket")
    if (program := serve(listener, owner)) is not None:
        sys.exit(program())


# ---------------------------------------------------------------- the programs that ask

def read_fixed(environment: Mapping[str, str], does_count: Callable[[str], bool] = is_fixed) -> str:
    """The variables that are read once, in the beginning."""
    return json.dumps({name: value for name, value in environment.items() if does_count(name)}, sort_keys=True)


USUAL, OFTEN = read_fixed(os.environ), 3  # requests with the same variables, from which on a process of their own that forks is worth its start


def find_warm_process(home: Path, owner: int, environment: Mapping[str, str]) -> str:
    """Name the folder of the warm process that forks a kernel: one that has imported its libraries for a notebook with TensorFlow.

    It starts when a kernel is asked for."""
    modules, variables = [], {}
    with suppress(KeyError, OSError, ValueError):
        for notebook in Path(environment["ML_REPO_RUN"]).glob("*.ipynb"):
            order = make_order(notebook)
            if {"keras", "tensorflow"} & set(order["modules"]):
                modules, variables = order["modules"], order["variables"]
    folder = home / hashlib.sha256(json.dumps([modules, variables, read_fixed(environment)], sort_keys=True).encode()).hexdigest()[:8]
    folder.mkdir(mode=0o700, exist_ok=True)
    with open(folder / "asked", "a") as asked:
        asked.write(".")
        if asked.tell() < OFTEN and read_fixed(environment) != USUAL:
            raise Cold("hardly anybody asks for it")
    if not (folder / "order.json").exists():
        order = make_order(None, modules, owner=owner, idle_s=120.0)
        write_atomic(folder / "order.json", json.dumps(order | {"variables": order["variables"] | variables}))
    return str(folder)


def switch_on(find: Callable[[Mapping[str, str]], Path | None], home: Callable[[], Path], owner: int) -> None:
    """Have the processes that the library starts here forked: kernels, and those that supervise them."""
    def launch(command: list[str], stdin: Any = None, stdout: Any = None, stderr: Any = None, env: Mapping[str, str] | None = None, cwd: str | None = None,
               **options: Any) -> Any:
        environment = {**(os.environ if env is None else env), "JPY_PARENT_PID": str(os.getpid())}
        with suppress(Cold):
            if "kernels" in ForkedPopen.allowed and not options and stdin is None and None not in (stdout, stderr):
                return fork_kernel(find_warm_process(home(), owner, environment), command, environment, cwd or os.getcwd(), stdout.fileno(), stderr.fileno())
        return start_kernel(command, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, **options)

    def begin(*arguments: Any) -> Any:  # a kernel that is forked need not begin early
        return None if "kernels" in ForkedPopen.allowed else start_early(*arguments)

    start_kernel, local_provisioner.launch_kernel = local_provisioner.launch_kernel, launch
    start_early, launching._start_early = launching._start_early, begin
    for module in (detach, task_process):
        module.subprocess = SimpleNamespace(**{**vars(subprocess), "Popen": partial(ForkedPopen, find=find)})


@cache
def find_home() -> Path:
    """Make the folder of all processes that fork, which end with this one."""
    home, owner = Path(tempfile.mkdtemp(prefix="ml-")), os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(home, ignore_errors=True))
    return home


SERVERS: dict[str, Server] = {}
ASKED: Counter[str] = Counter()
STARTING = threading.Lock()


def find_server(environment: Mapping[str, str]) -> Path | None:
    """Find the process that forks commands with some variables, or start it; None where hardly anybody asks for it."""
    key = read_fixed(environment, counts)
    with STARTING:
        ASKED[key] += 1
        if key not in SERVERS and (key == read_fixed(os.environ, counts) or ASKED[key] >= OFTEN):
            SERVERS[key] = Server(find_home() / f"commands-{len(SERVERS)}", environment)
        return SERVERS[key].folder if key in SERVERS else None


if __name__ == "__main__":
    main()
