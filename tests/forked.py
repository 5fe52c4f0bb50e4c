"""Processes that a server forks (`forks.py`), as `subprocess.Popen` starts them. This file imports nothing of the library."""
import atexit
import inspect
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
COMMANDS = ("ml-repo", "papermill")
FUNCTION = re.compile(r"(?:import sys; sys\.path\.insert\(0, '(.+)'\); )?from (ml_repo\.(?!study\.workers)[\w.]+) import (\w+); \3\(\)")  # as `command_for` writes it; a worker ends where its driver is not its parent
GIVEN = inspect.signature(subprocess.Popen._execute_child)


class Server:
    """A process that forks commands."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *before: str):  # `before`: a command line that runs the process, such as that of `unshare`
        self.folder, self.owner = folder, os.getpid()
        folder.mkdir(mode=0o700)
        program = Path(__file__).with_name("forks.py")
        self.process = subprocess.Popen([*before, sys.executable, program, folder, str(self.owner)], env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while not (self.folder / "socket").exists():
            assert self.process.poll() is None, "the process that forks commands has not begun"
            time.sleep(0.01)
        atexit.register(self.stop)

    def stop(self) -> None:
        """End it, unless this is a fork."""
        if os.getpid() == self.owner:
            self.process.terminate()
            self.process.wait()


class ForkedPopen(subprocess.Popen):
    """A process that is forked where it is one of the library's; otherwise it is started."""

    allowed = {"commands", "kernels"}  # what is forked now, here and in forks

    def __init__(self, *arguments: Any, find: Callable[[Mapping[str, str]], Path | None], **named: Any):  # `find`: the folder of the server for some variables
        self._find, self._connection = find, None
        super().__init__(*arguments, **named)

    def _translate(self, given: Mapping[str, Any], environment: Mapping[str, str]) -> list[str] | None:
        """The command line for the server; None where the process has to be started."""
        unusual = [given.get(name) for name in ("executable", "preexec_fn", "startupinfo", "shell", "gid", "gids", "uid")]
        unusual += [given.get(name) not in (None, -1) for name in ("umask", "process_group")]
        if sys.platform != "linux" or "commands" not in self.allowed or any(unusual) or isinstance(given["args"], (str, bytes, os.PathLike)):
            return None
        words = [os.fsdecode(word) for word in given["args"]]
        if words[:3] == [sys.executable, "-P", "-c"] and FUNCTION.fullmatch(words[3]):
            return words[3:]
        found = words[0] in COMMANDS and shutil.which(words[0], path=environment.get("PATH"))
        return [found, *words[1:]] if found and Path(found) == BIN / words[0] else None

    def _execute_child(self, *arguments: Any, **named: Any) -> None:
        given = GIVEN.bind(self, *arguments, **named).arguments
        environment = dict(os.environ if given["env"] is None else given["env"])
        folder = os.path.abspath(given["cwd"] or os.getcwd())
        words = self._translate(given, environment)
        server = self._find(environment) if words and os.path.isdir(folder) else None
        if server is not None:
            streams = [number if given[name] == -1 else given[name] for number, name in enumerate(("p2cread", "c2pwrite", "errwrite"))]
            self._ask(server, {"command": words, "environment": environment, "folder": folder, "is_session": bool(given.get("start_new_session")),
                               "forked": sorted(self.allowed), "numbers": [0, 1, 2, *given["pass_fds"]],
                               "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, []))}, [*streams, *given["pass_fds"]])
        if self._connection is None:
            return super()._execute_child(*arguments, **named)
        sys.audit("subprocess.Popen", given["args"][0], given["args"], given["cwd"], given["env"])
        self._child_created = True
        self._close_pipe_fds(*(given[name] for name in ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")))

    def _ask(self, server: Path, letter: dict[str, Any], files: list[int]) -> None:
        """Ask a server for a fork; it refuses other variables than those that it has imported its modules with."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        connection.connect(str(server / "socket"))
        socket.send_fds(connection, [json.dumps(letter).encode()], files)
        if process := int(connection.recv(64)):
            self.pid, self._connection = process, connection
        else:
            connection.close()

    def _internal_poll(self, *arguments: Any, **named: Any) -> int | None:
        if self._connection is None:
            return super()._internal_poll(*arguments, **named)
        is_open = self._connection.fileno() >= 0  # garbage may lose its connection first
        if self.returncode is None and is_open and select.select([self._connection], [], [], 0)[0]:
            self._wait(None)
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._connection is None:
            return super()._wait(timeout)
        with self._waitpid_lock:
            if self.returncode is None:
                if not select.select([self._connection], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired(self.args, timeout)
                self.returncode = int(self._connection.recv(64))
                self._connection.close()
        return self.returncode
