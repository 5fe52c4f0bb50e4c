"""Real servers that a test starts for itself, each with files, keys and a network of its own."""
import os
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from conftest import await_true

JOIN = """
import os, socket, sys, threading
place = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def send():
    while data := os.read(0, 65536):
        place.sendall(data)
    place.shutdown(socket.SHUT_WR)
threading.Thread(target=send, daemon=True).start()
while data := place.recv(65536):
    os.write(1, data)
"""


def find_program(name: str, package: str) -> str:
    """The path of a program, which is installed where that is possible; else the test is skipped with the reason."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if not shutil.which(name, path=path) and os.geteuid() == 0 and shutil.which("apt-get"):
        for words in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            subprocess.run(["apt-get", "-qq", *words], capture_output=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if not (found := shutil.which(name, path=path)):
        pytest.skip(f"{name} is not here and cannot be installed: apt-get install {package}")
    return found


def can_separate() -> bool:
    """Whether a process here may have a network of its own."""
    return shutil.which("unshare") and subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode == 0


class SshServer:
    """A real sshd with a bare home, in a network of its own where that is allowed: it reaches nothing but its loopback."""

    def __init__(self, folder: Path, is_separate: bool = True, **variables: str):
        self.folder, self.home = folder, folder / "home"
        program, keygen = find_program("sshd", "openssh-server"), find_program("ssh-keygen", "openssh-client")
        self.home.mkdir(parents=True)
        for name in ("host", "user"):
            subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # that sshd asks for
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        known = {"HOME": self.home, "XDG_CACHE_HOME": self.home / ".cache", "PATH": "/usr/local/bin:/usr/bin:/bin", **variables}
        server = {"ListenAddress": "127.0.0.1", "Port": self.port, "HostKey": folder / "host", "AuthorizedKeysFile": folder / "authorized",
                  "StrictModes": "no", "PidFile": "none", "UsePAM": "no", "PasswordAuthentication": "no", "MaxStartups": "100",
                  "Subsystem": "sftp internal-sftp", "SetEnv": " ".join(f'{name}="{value}"' for name, value in known.items())}
        (folder / "sshd_config").write_text("".join(f"{name} {value}\n" for name, value in server.items()))
        (folder / "known_hosts").write_text(f"gpu1 {' '.join((folder / 'host.pub').read_text().split()[:2])}\n")
        self.command = [program, "-D", "-e", "-f", str(folder / "sshd_config")]
        self.is_separate = bool(is_separate and can_separate())
        if self.is_separate:
            self.command = ["unshare", "--net", "sh", "-c", 'ip link set lo up 2>/dev/null; exec "$@"', "sh", *self.command]
        self.process = None
        self.start()
        enter = f"nsenter --net=/proc/{self.process.pid}/ns/net " if self.is_separate else ""
        (folder / "join.py").write_text(JOIN)
        (folder / "config").write_text(
            f"Host gpu1\n  HostName 127.0.0.1\n  HostKeyAlias gpu1\n  Port {self.port}\n  IdentityFile {folder / 'user'}\n  IdentitiesOnly yes\n"
            f"  UserKnownHostsFile {folder / 'known_hosts'}\n  GlobalKnownHostsFile none\n"
            f"  ProxyCommand {enter}{sys.executable} -S {folder / 'join.py'} {self.port}\n")
        self.ssh = f"ssh -F {folder / 'config'}"

    def start(self) -> None:
        """Start the server, and wait until it listens."""
        log = open(self.folder / "sshd.log", "ab")
        begun = log.tell()
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        await_true(lambda: b"Server listening" in (self.folder / "sshd.log").read_bytes()[begun:] or self.process.poll() is not None, "sshd listens")
        assert self.process.poll() is None, (self.folder / "sshd.log").read_text()

    def cut(self) -> int:
        """Cut all connections, as a network that goes down: nobody says good-bye. Returns how many there were."""
        joins = self.connections()
        for process in joins:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        return len(joins)

    def connections(self) -> list[psutil.Process]:
        """The processes that connections go through."""
        return [process for process in psutil.process_iter() if self._has(process, str(self.folder / "join.py"))]

    @staticmethod
    def _has(process: psutil.Process, word: str) -> bool:
        with suppress(psutil.Error):
            return word in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
        return False

    def stop(self) -> None:
        """Stop the server, its connections, and what was started through them."""
        self.cut()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("HOME") == str(self.home):
                    process.kill()


class Slurm:
    """A real SLURM of one node: its controller, its node and munge, with files of their own."""

    def __init__(self, folder: Path):
        if os.geteuid() != 0:
            pytest.skip("SLURM is started by root only")
        for program in ("slurmctld", "slurmd", "munged"):
            find_program(program, "slurm-wlm")
        folder.mkdir()
        (folder / "munge").mkdir(mode=0o700)
        (folder / "munge" / "key").write_bytes(os.urandom(1024))
        (folder / "munge" / "key").chmod(0o400)
        ports = []
        for _ in range(2):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                ports.append(free.getsockname()[1])
        name = socket.gethostname().partition(".")[0]
        self.sock, self.config, self.folder = folder / "munge" / "sock", folder / "slurm.conf", folder
        settings = {
            "ClusterName": "test", "SlurmctldHost": f"{name}(127.0.0.1)", "SlurmctldPort": ports[0], "SlurmdPort": ports[1], "SlurmUser": "root",
            "SlurmdUser": "root", "AuthType": "auth/munge", "AuthInfo": f"socket={self.sock}", "CredType": "cred/munge", "StateSaveLocation": folder / "state",
            "SlurmdSpoolDir": folder / "spool", "SlurmctldPidFile": folder / "ctld.pid", "SlurmdPidFile": folder / "d.pid", "SlurmctldLogFile": folder / "ctld.log",
            "SlurmdLogFile": folder / "d.log", "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none", "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_Core", "MpiDefault": "none", "ReturnToService": 2, "KillWait": 30, "MailProg": "/bin/true", "JobRequeue": 1}
        lines = [f"{key}={value}" for key, value in settings.items()]
        lines += [f"NodeName={name} NodeAddr=127.0.0.1 CPUs=1 State=UNKNOWN", "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP PreemptMode=REQUEUE"]
        self.config.write_text("\n".join(lines) + "\n")
        for place in ("state", "spool"):
            (folder / place).mkdir()
        self.variables = {"SLURM_CONF": str(self.config)}
        environment = {**os.environ, **self.variables, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
        munge = [f"--{key}={folder / 'munge' / value}" for key, value in {"key-file": "key", "socket": "sock", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}.items()]
        subprocess.run(["munged", *munge, "--force"], check=True, env=environment, capture_output=True)
        self.processes = [subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                          for words in (["slurmctld", "-D", "-i"], ["slurmd", "-D"])]
        await_true(lambda: b"idle" in subprocess.run(["sinfo", "--noheader"], env=environment, capture_output=True).stdout, "the node of SLURM is ready")

    def stop(self) -> None:
        """Stop the cluster and what it runs."""
        subprocess.run(["scancel", "--user", "root", "--signal", "KILL"], env={**os.environ, **self.variables}, capture_output=True)
        for process in reversed(self.processes):
            process.terminate()
        for process in self.processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
                continue
            process.kill()
        with suppress(OSError, ValueError):
            os.kill(int((self.folder / "munge" / "pid").read_text()), signal.SIGTERM)
