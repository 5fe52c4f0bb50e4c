"""A run in a container is as good a record as any other, and is made again in the same image.

These tests need a container engine. One that answers is used; else `dockerd` is started here (Debian: docker.io), with its
own folder; else they are skipped, and say why. The base image is what docker/Dockerfile names, ML_REPO_TEST_BASE, or a
stand-in made by mmdebstrap.
"""
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from conftest import BIN, LIMIT_S, ROOT, await_true, checked, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from servers import SshServer, can_separate
from test_record import git, make_repository, write_notebook
from test_resume import END, LOOP, VALUES

from ml_repo.records.reader import Record, find_records, read_record

pytestmark = pytest.mark.slow

DOCKERFILE = ROOT / "docker" / "Dockerfile"
OWNER = 1234  # who has the repository in these tests; not root, and not the user of the image
# What the library imports without an example, and what a person works with; TensorFlow and the like are left out.
SMALL = ("papermill", "ipykernel", "click", "detect-secrets", "psutil", "nvidia-ml-py", "pyyaml", "packaging", "fastcore", "rich",
         "nh3", "numpy", "setuptools", "jupyterlab", "nbdev", "pre-commit")
TRUSTING = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # for root, in somebody's repository
CONTRACT = "lr: float = 0.1  # step size, above 0\nwait_s: float = 0.0  # seconds, at least 0"
WORK = """
import os, time
from pathlib import Path
from ml_repo.provenance.repository import find_repository
from ml_repo.tracking.run import start_run
import numpy
run = start_run()
print("data", open(find_repository() / "data/prices.csv").read().strip(), "user", os.getuid(), flush=True)
run.log(split="test", result=float(numpy.random.default_rng(0).normal() * lr))
run.artifact_path("weights.bin").write_bytes(bytes(range(256)))
time.sleep(wait_s)
"""


def docker(*words: str | Path, **options) -> str:
    """Ask docker for something that must work."""
    return checked("docker", *words, **options)


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """A running engine; one that is started here is stopped at the end, and its images are gone."""
    if run("docker", "info").returncode == 0:
        yield "docker"
        return
    if missing := [name for name in ("docker", "dockerd") if not shutil.which(name)]:
        pytest.skip(f"no container engine runs here, and {' and '.join(missing)} is not installed (Debian: apt-get install docker.io mmdebstrap docker-registry)")
    if os.getuid() != 0:
        pytest.skip("no container engine runs here, and only root can start one")
    folder = Path(tempfile.mkdtemp(prefix="ml-repo-engine-", dir="/var/tmp"))
    hook = folder / "hook" / "nvidia-container-runtime-hook"  # with it, --gpus works without a GPU
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\ncat > /dev/null\n")
    hook.chmod(0o755)
    with open(folder / "log.txt", "w") as log:
        process = subprocess.Popen(["dockerd", "--data-root", str(folder / "data"), "--exec-root", str(folder / "run")], stdout=log, stderr=log,
                                   env=os.environ | {"PATH": f"{hook.parent}:{os.environ['PATH']}"}, start_new_session=True)
    try:
        for _ in range(150):
            if process.poll() is not None or run("docker", "info").returncode == 0:
                break
            time.sleep(0.2)
        if run("docker", "info").returncode:
            pytest.skip(f"no container engine can be started here: {(folder / 'log.txt').read_text()[-600:]}")
        yield "docker"
        if containers := docker("ps", "--all", "--quiet").split():
            run("docker", "rm", "--force", *containers)
    finally:
        process.terminate()
        process.wait(60)
        run("umount", folder / "data")  # an engine that could not start leaves it mounted
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def base(engine, tmp_path_factory) -> str:
    """The base image of the Dockerfile, or where no registry is reached, one that stands in for it."""
    named = re.search(r"^ARG BASE_IMAGE=(.*)$", DOCKERFILE.read_text(), re.MULTILINE)[1]
    for name in filter(None, [os.environ.get("ML_REPO_TEST_BASE"), named, "ml_repo/base"]):
        if run("docker", "image", "inspect", name).returncode == 0 or ("@" in name and run("timeout", "300", "docker", "pull", "--quiet", name).returncode == 0):
            return name
    if not shutil.which("mmdebstrap"):
        pytest.skip(f"the base image {named} cannot be pulled, and without mmdebstrap no stand-in can be made (or name one: ML_REPO_TEST_BASE)")
    folder = tmp_path_factory.mktemp("base")
    paths = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("man", "doc", "locale")]
    checked("mmdebstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-venv", *paths, "bookworm", folder / "base.tar")
    docker("import", "--change", "ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin", folder / "base.tar", "ml_repo/raw")
    (folder / "base.tar").unlink()
    shutil.copy(os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"), folder / "ca.crt")  # of this network, which may have its own
    (folder / "Dockerfile").write_text("FROM ml_repo/raw\nCOPY ca.crt /etc/ssl/certs/ca-certificates.crt\nRUN ln -sf python3 /usr/bin/python\n"
                                       "ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt\n")
    docker("build", "--quiet", "--tag", "ml_repo/base", folder)
    return "ml_repo/base"


def shorten_lock(text: str) -> str:
    """The pins of a lock that SMALL needs, as they are."""
    wanted, found = list(SMALL), set()
    while wanted:
        name = canonicalize_name(wanted.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = [Requirement(one) for one in distribution(name).requires or []]
        except PackageNotFoundError:
            continue
        wanted += [one.name for one in needs if one.marker is None or one.marker.evaluate({"extra": ""})]
    pins = re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+--hash.*)*", text, flags=re.MULTILINE)
    return "# a short lock\n" + "\n".join(pin for pin in pins if re.split(r"[=\[ ]", pin, maxsplit=1)[0] in found) + "\n"


def make_project(clone: Path, folder: Path) -> Path:
    """The repository with a lock of few packages and a training notebook of a second, as somebody else's."""
    shutil.copytree(clone, folder, symlinks=True)
    lock = folder / "docker" / "requirements.txt"
    lock.write_text(shorten_lock(lock.read_text()))
    write_notebook(folder / "nbs" / "train.ipynb", CONTRACT, WORK)
    git(folder, "commit", "--quiet", "--all", "--message", "Take a small notebook")
    (folder / "data").mkdir()
    (folder / "data" / "prices.csv").write_text("1,2\n")
    give(folder, OWNER)
    return folder


def give(folder: Path, owner: int) -> None:
    """Make somebody the owner of everything in a folder."""
    checked("chown", "--recursive", f"{owner}:{owner}", folder)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that every user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="ml-repo-container-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def project(place, clone) -> Path:
    """A repository that belongs to OWNER."""
    if os.getuid() != 0:
        pytest.skip("only root can play several users")
    return make_project(clone, place / "project")


@pytest.fixture(scope="module")
def image(engine, base, project) -> Iterator[str]:
    """The image of the project, built by the literal command. Whoever has an image of this name gets it back."""
    before = run("docker", "image", "inspect", "--format", "{{.Id}}", "example_ml")
    docker("build", "-t", "example_ml", "docker", "--build-arg", f"BASE_IMAGE={base}", "--build-arg", "GPU=0", cwd=project)
    yield "example_ml"
    if before.returncode == 0:
        docker("tag", before.stdout.strip(), "example_ml")
    for name in ("odd_ml", "own_ml", *docker("images", "--filter", "reference=localhost:5077/anna/*", "--format", "{{.ID}}").split()):
        run("docker", "rmi", "--force", name)


def as_owner(project: Path, *words: str | Path, owner: int = OWNER) -> subprocess.CompletedProcess:
    """Run a program outside of a container as the owner, who may use the engine, and may read where the tests' Python lies."""
    group = Path("/var/run/docker.sock").stat().st_gid
    home = project.parent / f"home-{owner}"
    home.mkdir(exist_ok=True)
    os.chown(home, owner, owner)
    return run("setpriv", "--reuid", str(owner), "--regid", str(owner), "--groups", str(group), "--inh-caps", "+dac_read_search",
               "--ambient-caps", "+dac_read_search", *words, cwd=project, HOME=str(home), PYTHONPATH=str(project), TMPDIR="/tmp")


def ask(project: Path, *words: str) -> str:
    """What git says to root about somebody's repository, in which it writes nothing."""
    return git(project, "-c", "safe.directory=*", "--no-optional-locks", *words)


def only_new(project: Path, known: set[Path]) -> Record:
    """The one record that came since."""
    [new] = set(find_records(project / "experiments")) - known
    return read_record(new)


def records(project: Path) -> set[Path]:
    """All records of a project."""
    return set(find_records(project / "experiments"))


def strangers(project: Path, owner: int = OWNER) -> list[Path]:
    """What in a project does not belong to its owner."""
    return [path for path in project.rglob("*") if path.lstat().st_uid != owner]


def result(record: Record) -> float:
    """What the notebook measured."""
    return record["metrics"][0]["value"]


def digest_of(image: str) -> str:
    """The id of an image."""
    return docker("image", "inspect", "--format", "{{.Id}}", image).strip()


def containers(image: str) -> list[str]:
    """Containers of an image, also those that have ended."""
    return docker("ps", "--all", "--quiet", "--filter", f"ancestor={image}").split()


@pytest.fixture(scope="module")
def first(image, project) -> Record:
    """A run by papermill's own command in the container, which is told what it is."""
    known = records(project)
    docker("run", "--rm", "-v", f"{project}:/workspace", "-e", f"ML_REPO_IMAGE={image}", "-e", f"ML_REPO_IMAGE_DIGEST={digest_of(image)}", image,
           "papermill", "nbs/train.ipynb", "out.ipynb", "-p", "lr", "0.5")
    return only_new(project, known)


def test_a_run_in_a_container_keeps_a_whole_record(first, image, project):
    assert first["state"] == "completed" and first["warnings"] == []
    assert first["image"] | {"is_container": True, "engine": "docker", "image": image, "image_digest": digest_of(image)} == first["image"]
    assert first["code"]["commit"] == ask(project, "rev-parse", "HEAD") and not first["code"]["is_dirty"]
    assert first["packages"]["matches_lock"] and f"user {OWNER}" in (first.folder / "log.txt").read_text()
    assert strangers(project) == [] and (project / "out.ipynb").is_file()
    assert ask(project, "status", "--porcelain") == "?? experiments/"
    (project / "out.ipynb").unlink()


def test_it_is_made_again_in_the_same_image_from_outside(first, image, project):
    known = records(project)
    done = as_owner(project, BIN / "ml-repo", "rerun", first["id"], "--image", "--quiet")
    assert done.returncode == 0, done.stdout
    again = only_new(project, known)
    assert (again["state"], result(again), again["parents"], again["launched_by"]) == ("completed", result(first), [first["id"]], "rerun")
    assert again["image"] == first["image"] and again["rerun"]["environment"] == "image" and again["rerun"]["is_exact"]
    assert again["folder"] == first["folder"] == "." and again["code"]["tree"] == first["code"]["tree"]
    assert (again.folder / "log.txt").read_text() == (first.folder / "log.txt").read_text()
    assert again["packages"] == first["packages"] and again["inputs"] == first["inputs"]
    assert [one for one in again["outputs"]["files"] if "weights" in one["path"]] == [one for one in first["outputs"]["files"] if "weights" in one["path"]]
    assert again.folder.parent == first.folder.parent and strangers(project) == []
    assert len(ask(project, "worktree", "list").splitlines()) == 1
    assert containers(image) == []


def test_without_the_image_it_says_what_differs(first, image, project, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nRUN cd /opt/venv/lib/python3*/site-packages && mkdir odd-1.0.dist-info "
                                         "&& printf 'Name: odd\\nVersion: 1.0\\n' > odd-1.0.dist-info/METADATA\n")
    docker("build", "--tag", "odd_ml", tmp_path)
    known = records(project)
    docker("run", "--rm", "-v", f"{project}:/workspace", "-e", f"ML_REPO_IMAGE_DIGEST={digest_of('odd_ml')}", "odd_ml",
           "papermill", "nbs/train.ipynb", "experiments/out.ipynb", "-p", "lr", "0.5")
    record, known = only_new(project, known), records(project)
    done = as_owner(project, BIN / "ml-repo", "rerun", record["id"])
    assert done.returncode == 2 and f"This environment is not that of {record['id']}:\n  odd: 1.0 in the run, none now" in done.stdout and "--image" in done.stdout
    assert as_owner(project, BIN / "ml-repo", "rerun", record["id"], f"--image={image}", "--quiet").returncode == 0  # another one is a choice
    assert only_new(project, known)["image"]["image_digest"] == digest_of(image)
    known = records(project)
    assert as_owner(project, BIN / "ml-repo", "rerun", record["id"], "--image", "--quiet").returncode == 0
    assert only_new(project, known)["image"]["image_digest"] == digest_of("odd_ml")


def test_root_leaves_the_files_to_their_owner(first, project):
    known = records(project)
    done = run(BIN / "ml-repo", "rerun", first["id"], "--image", "--quiet", "-p", "lr", "1.0", cwd=project, PYTHONPATH=str(project), **TRUSTING)
    assert done.returncode == 0, done.stdout
    again = only_new(project, known)
    assert result(again) == 2 * result(first) and f"user {OWNER}" in (again.folder / "log.txt").read_text()
    assert strangers(project) == []


def test_an_image_that_is_gone_is_told(first, project):
    other = first.folder.parent / "train-20261122T203755Z-gone"
    shutil.copytree(first.folder, other)
    fields = json.loads((other / "record.json").read_text())
    fields |= {"id": other.name, "image": fields["image"] | {"image_digest": "sha256:" + "0" * 64}}
    (other / "record.json").write_text(json.dumps(fields))
    done = as_owner(project, BIN / "ml-repo", "rerun", other.name, "--image")
    shutil.rmtree(other)
    assert done.returncode == 2 and "never pushed to a registry" in done.stdout


@pytest.fixture(scope="module")
def registry(engine) -> Iterator[str]:
    """A registry of our own."""
    if not shutil.which("docker-registry"):
        pytest.skip("there is no docker-registry (Debian: apt-get install docker-registry)")
    folder, port = Path(tempfile.mkdtemp(dir="/var/tmp")), 5077
    (folder / "config.yml").write_text(f"version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {folder}/data}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n")
    process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"localhost:{port}"
    finally:
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, seconds: float = LIMIT_S) -> int:
    """Ask until somebody answers; returns the status."""
    end = time.monotonic() + seconds
    while True:
        try:
            return urlopen(url, timeout=5).status
        except HTTPError as error:
            return error.code
        except (URLError, ConnectionError, TimeoutError):
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def test_a_pushed_image_is_pulled_by_its_digest(registry, first, image, project, tmp_path):
    name = f"{registry}/anna/example_ml"
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nLABEL made={time.time()}\n")
    docker("build", "--tag", name, tmp_path)
    identity, digest = digest_of(name), re.search(r"digest: (sha256:[0-9a-f]{64})", docker("push", name))[1]
    found = []
    for names in ({"ML_REPO_IMAGE": "example_ml", "ML_REPO_IMAGE_DIGEST": identity}, {"ML_REPO_IMAGE": name, "ML_REPO_IMAGE_DIGEST": digest}):  # before the push, and after
        known = records(project)
        docker("run", "--rm", "-v", f"{project}:/workspace", *(f"--env={key}={value}" for key, value in names.items()), f"{name}@{digest}",
               "papermill", "nbs/train.ipynb", "experiments/out.ipynb", "-p", "lr", "0.5")
        found.append(only_new(project, known))
    docker("rmi", name)  # as on a machine that never had it
    assert run("docker", "image", "inspect", identity).returncode
    known = records(project)
    done = as_owner(project, BIN / "ml-repo", "rerun", found[0]["id"], "--image", "--quiet")
    assert done.returncode == 2 and "never pushed" in done.stdout  # its record knows no registry
    for record in reversed(found):  # the one pulls it, and the other finds it under its id
        known = records(project)
        done = as_owner(project, BIN / "ml-repo", "rerun", record["id"], "--image", "--quiet")
        assert done.returncode == 0, done.stdout
        again = only_new(project, known)
        assert again["image"]["image_digest"] == record["image"]["image_digest"] and result(again) == result(first)
    assert strangers(project) == []


# The image and its literal commands


def test_the_literal_commands(image, project):
    known = records(project)
    docker("run", "-v", f"{project}:/tmp", image, "python", "/tmp/train.py")
    docker("run", "-v", f"{project}:/tmp", image, "python", "/tmp/train.py", "-p", "lr", "0.5", "--note", "by hand")
    docker("run", "--rm", "-v", f"{project}:/workspace", image, "papermill", "nbs/train.ipynb", "out.ipynb", "-p", "lr", "0.5")
    made = sorted((read_record(one) for one in records(project) - known), key=lambda one: one["id"])
    assert [one["state"] for one in made] == ["completed"] * 3 and [one["parameters"]["lr"]["used"] for one in made] == [0.1, 0.5, 0.5]
    assert result(made[1]) == result(made[2]) and made[1]["note"] == "by hand" and [one["warnings"] for one in made] == [[]] * 3
    lock = Path(project, "docker", "requirements.txt")
    for one in made:
        assert one["image"]["is_container"] and one["image"]["lock"] == one["packages"]["lock"] == hashlib.sha256(lock.read_bytes()).hexdigest()
        assert one["code"]["commit"] and not one["code"]["is_dirty"] and one["packages"]["matches_lock"]
    assert strangers(project) == []
    (project / "out.ipynb").unlink()
    assert ask(project, "status", "--porcelain") == "?? experiments/"  # no temporary files, with /tmp mounted
    docker("rm", *containers(image))


def test_gpus_are_handed_on_or_the_cure_is_told(image, project):
    known = records(project)
    done = run("docker", "run", "--rm", "--gpus", "all", "-v", f"{project}:/tmp", image, "python", "/tmp/train.py")
    ours = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "--gpu", "--image", image)
    if done.returncode == 0:
        assert ours.returncode == 0 and {read_record(one)["environment"]["NVIDIA_VISIBLE_DEVICES"] for one in records(project) - known} == {"all"}
    else:
        assert "could not select device driver" in done.stdout
        assert ours.returncode == 2 and "install nvidia-container-toolkit" in ours.stdout and records(project) == known


@pytest.mark.parametrize("owner", [1000, 1234, 70000])
def test_files_belong_to_the_owner_of_the_folder(image, project, place, owner):
    folder = place / f"of-{owner}"
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("experiments"))
    give(folder, owner)
    docker("run", "--rm", "-v", f"{folder}:/workspace", image, "papermill", "nbs/train.ipynb", "out.ipynb")
    docker("run", "--rm", "-v", f"{folder}:/tmp", image, "python", "/tmp/train.py")
    docker("run", "--rm", "--user", f"{owner}:{owner}", "-v", f"{folder}:/workspace", image, "papermill", "nbs/train.ipynb", "out.ipynb")
    docker("run", "--rm", "--user", f"{owner}", "-v", f"{folder}:/workspace", "-w", "/workspace/nbs", image, "papermill", "train.ipynb", "../out.ipynb")
    made = [read_record(one) for one in records(folder)]
    assert [one["state"] for one in made] == ["completed"] * 4 and strangers(folder, owner) == []
    assert all(f"user {owner}" in (one.folder / "log.txt").read_text() for one in made)


def test_no_process_of_the_image_is_root(image, place):
    assert docker("run", "--rm", image, "id", "-u").strip() == "1000"
    folder = place / "plain"
    folder.mkdir()
    give(folder, 4321)
    assert docker("run", "--rm", "-v", f"{folder}:/workspace", image, "sh", "-c", "id -u; touch new; git init -q here; pwd").split() == ["4321", "/workspace"]
    assert strangers(folder, 4321) == []


@pytest.mark.parametrize("words", [["papermill", "nbs/train.ipynb", "out.ipynb"], ["python", "train.py"]])
def test_docker_stop_keeps_what_was_there(image, project, words):
    known = records(project)
    name = docker("run", "--detach", "-v", f"{project}:/workspace", image, *words, "-p", "wait_s", "100").strip()
    end = time.monotonic() + LIMIT_S
    while "user" not in "".join((one / "log.txt").read_text() for one in records(project) - known if (one / "log.txt").exists()):
        assert time.monotonic() < end, docker("logs", name)
        time.sleep(0.2)
    start = time.monotonic()
    docker("stop", name)
    duration_s = time.monotonic() - start
    record = only_new(project, known)
    assert record["state"] == "interrupted" and record["metrics"] and duration_s < 8
    cells = json.loads((record.folder / "train.ipynb").read_text())["cells"]
    assert "data 1,2" in str(cells[-1]["outputs"]) and [one["path"] for one in record["outputs"]["files"] if "weights" in one["path"]]
    docker("rm", name)
    (project / "out.ipynb").unlink(missing_ok=True)


def test_a_change_of_a_notebook_installs_nothing(image, base, project):
    notebook = project / "nbs" / "00_fingerprint.ipynb"
    text = notebook.read_text()
    notebook.write_text(text.replace("fingerprint", "finger print"))
    try:
        start = time.monotonic()
        said = docker("build", "-t", image, "docker", "--build-arg", f"BASE_IMAGE={base}", "--build-arg", "GPU=0", cwd=project)
        assert time.monotonic() - start < 30 and "Downloading" not in said and "Installed" not in said
    finally:
        notebook.write_text(text)


# Our own commands


def test_build_check_and_digest(engine, base, image, project):
    done = as_owner(project, BIN / "ml-repo", "image", "build", "own_ml", "--no-gpu", "--base", base)
    assert done.returncode == 0, done.stdout
    labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", "own_ml"))
    assert labels["org.opencontainers.image.revision"] == ask(project, "rev-parse", "HEAD")
    assert labels["ml_repo.lock"] == hashlib.sha256((project / "docker" / "requirements.txt").read_bytes()).hexdigest()
    assert done.stdout.splitlines()[-1] == digest_of("own_ml") == as_owner(project, BIN / "ml-repo", "image", "digest", "own_ml").stdout.strip()
    about = json.loads(as_owner(project, BIN / "ml-repo", "image", "check", "own_ml", "--json").stdout)
    assert about["is_lock_of_today"] and about["commit"] == labels["org.opencontainers.image.revision"] and not about["is_pushed"]
    lock = project / "docker" / "requirements.txt"
    text = lock.read_text()
    lock.write_text(text + "# later\n")
    try:
        done = as_owner(project, BIN / "ml-repo", "image", "check", "own_ml")
        assert done.returncode == 1 and "Build it again" in done.stdout
    finally:
        lock.write_text(text)


def test_run_in_the_image(first, image, project, place):
    known = records(project)
    done = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "lr", "0.5", "--note", "two words", "--tag", "one", "--tag", "two", "--image", image)
    assert done.returncode == 0, done.stdout
    record = only_new(project, known)
    assert (record["image"]["image"], record["image"]["image_digest"]) == (image, digest_of(image)) and result(record) == result(first)
    assert (record["note"], record["tags"], record["launched_by"]) == ("two words", ["one", "two"], "ml-repo run") and "-p lr 0.5" in record["command"]
    assert record["warnings"] == [] and record["code"]["commit"] and strangers(project) == []

    known = records(project)
    (place / "values.yaml").write_text("lr: 0.25\n")
    done = as_owner(project, BIN / "python", "train.py", "-f", "../values.yaml", "--image")  # the name of the repository's image
    assert done.returncode == 0, done.stdout
    record = only_new(project, known)
    assert result(record) == result(first) / 2 and record["image"]["image_digest"] == digest_of(image)

    done = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "lrr", "0.5", "--image")
    assert done.returncode == 2 and "Did you mean lr?" in done.stdout
    done = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "--image", "no_such_ml")
    assert done.returncode == 2 and "ml-repo image build no_such_ml" in done.stdout


def test_data_and_records_elsewhere(image, project, place):
    disk = place / "disk"
    (disk / "data").mkdir(parents=True)
    (disk / "data" / "prices.csv").write_text("3,4\n")
    give(disk, OWNER)
    (project / "data").rename(project / "other")
    (project / "data").symlink_to(disk / "data")
    try:
        done = as_owner(project, "env", f"ML_REPO_RECORDS={disk}/runs", "OMP_NUM_THREADS=1", BIN / "ml-repo", "run", "nbs/train.ipynb", "--image", image)
        assert done.returncode == 0, done.stdout
        [record] = map(read_record, find_records(disk / "runs"))
        assert "data 3,4" in (record.folder / "log.txt").read_text() and record["environment"]["OMP_NUM_THREADS"] == "1"
        assert strangers(disk) == []
    finally:
        (project / "data").unlink()
        (project / "other").rename(project / "data")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_in_its_container(image, project, number):
    known = records(project)
    process = subprocess.Popen([BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "wait_s", "100", "--image", image], cwd=project, stdout=subprocess.DEVNULL,
                               env=os.environ | TRUSTING | {"PYTHONPATH": str(project)})
    end = time.monotonic() + LIMIT_S
    while "user" not in "".join((one / "log.txt").read_text() for one in records(project) - known if (one / "log.txt").exists()):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.2)
    process.send_signal(number)
    assert process.wait(20) == 128 + number
    assert only_new(project, known)["state"] == "interrupted" and strangers(project) == []
    assert containers(image) == []


def test_verified_in_its_image(first, project):
    known = records(project)
    done = as_owner(project, BIN / "ml-repo", "verify", first["id"], "--image")
    assert done.returncode == 0 and "identical" in done.stdout, done.stdout
    done = run(BIN / "ml-repo", "verify", first["id"], "--image", cwd=project, PYTHONPATH=str(project), **TRUSTING)  # root, of somebody's run
    assert done.returncode == 0 and "identical" in done.stdout, done.stdout
    assert records(project) == known


def test_verified_within_a_container(first, image, project):
    known = docker("run", "--rm", "-v", f"{project}:/workspace", "-e", f"ML_REPO_IMAGE_DIGEST={digest_of(image)}", image, "ml-repo", "verify", first["id"])
    assert "identical" in known and strangers(project) == []


def test_in_a_folder_of_root_root_is_the_owner(image, project, place):
    folder = place / "of-root"
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("experiments"))
    give(folder, 0)
    variables = {"PYTHONPATH": str(folder)}
    checked(BIN / "ml-repo", "run", "nbs/train.ipynb", "--image", image, cwd=folder, **variables)
    assert "identical" in checked(BIN / "ml-repo", "verify", "latest", "--image", cwd=folder, **variables)
    docker("run", "--rm", "-v", f"{folder}:/workspace", image, "papermill", "nbs/train.ipynb", "out.ipynb")
    assert [read_record(one)["state"] for one in records(folder)] == ["completed"] * 2 and strangers(folder, 0) == []


def test_push_and_pull(registry, image, project, tmp_path):
    (tmp_path / "Dockerfile").write_text(f"FROM {image}\nLABEL made={time.time()}\n")
    name = f"{registry}/anna/own_ml:1"
    docker("build", "--tag", name, tmp_path)
    assert "says nothing of a registry" in as_owner(project, BIN / "ml-repo", "image", "push").stdout
    done = as_owner(project, BIN / "ml-repo", "image", "push", name)
    reference = done.stdout.strip()
    assert done.returncode == 0 and re.fullmatch(rf"{registry}/anna/own_ml@sha256:[0-9a-f]{{64}}", reference), done.stdout
    docker("rmi", name)
    assert as_owner(project, BIN / "ml-repo", "image", "pull", reference).stdout.strip() == reference
    known = records(project)
    assert as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "--image", reference).returncode == 0
    assert "@".join(only_new(project, known)["image"][key] for key in ("image", "image_digest")) == reference


# JupyterLab and the devcontainer


def ask_lab(folder_words: list[str | Path], token: str, port: int) -> str:
    """Ask JupyterLab for its state from inside of a container; returns the status."""
    code = f"from urllib.request import urlopen as o; from urllib.error import HTTPError as e\ntry: print(o('http://127.0.0.1:{port}/api/kernelspecs?token={token}').read().decode())\nexcept e as x: print(x.code)"
    return checked(*folder_words, "python", "-c", code).strip().splitlines()[-1]


def test_the_image_opens_jupyterlab(image, project):
    name = docker("run", "--detach", "--rm", "--publish", "127.0.0.1:8899:8888", "-v", f"{project}:/workspace", image).strip()
    try:
        wait_for("http://127.0.0.1:8899/api")
        assert wait_for("http://127.0.0.1:8899/api/kernelspecs") == 403
        token = re.search(r"token=(\w+)", docker("logs", name))[1]
        assert json.load(urlopen(f"http://127.0.0.1:8899/api/kernelspecs?token={token}"))["default"] == "python3"
        assert docker("exec", name, "stat", "-c", "%u", "/proc/1").strip() == str(OWNER)
    finally:
        start = time.monotonic()
        docker("stop", name)
        assert time.monotonic() - start < 8


def test_a_run_in_the_background_is_stopped_and_killed(image, project):
    known = records(project)
    name = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "lr", "0.5", "--detach", "--image").stdout.split()[-1]
    assert as_owner(project, BIN / "ml-repo", "wait", name).returncode == 0
    record = only_new(project, known)
    assert record["image"]["image_digest"] == digest_of(image) and record["state"] == "completed"
    for words, state in ((["stop"], "interrupted"), (["stop", "--kill"], "killed")):
        known = records(project)
        name = as_owner(project, BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "wait_s", "600", "--detach", "--image").stdout.split()[-1]
        folder = project / "experiments" / name
        await_true(lambda: (folder / "log.txt").exists() and "data 1,2" in (folder / "log.txt").read_text(), "it works")
        assert containers(image)
        assert as_owner(project, BIN / "ml-repo", *words, name).returncode == 0
        assert only_new(project, known)["state"] == state
        await_true(lambda: containers(image) == [], "its container is gone")
    assert strangers(project) == []


def test_a_bundle_brings_the_image_to_an_engine_that_has_lost_it(image, tmp_path):
    """The repository holds no ml_repo, neither does the image, and the machine has no network."""
    (tmp_path / "repository" / "nbs").mkdir(parents=True)
    write_notebook(tmp_path / "repository" / "nbs" / "draw.ipynb", "lr: float = 0.1", "import numpy, ml_repo\nrun = ml_repo.start_run()\n"
                                                                                  "run.log(result=float(numpy.random.default_rng(0).normal()) * lr)")
    repository, file, identity = make_repository(tmp_path / "repository"), tmp_path / "run.zip", digest_of(image)
    checked("ml-repo", "run", "nbs/draw.ipynb", "--image", image, "--quiet", cwd=repository)
    assert "image" in checked("ml-repo", "bundle", "latest", file, "--image", "--no-wheels", cwd=repository)
    shutil.rmtree(repository)
    docker("rmi", "--force", identity)
    try:
        alone = ["unshare", "--net"] if can_separate() else []
        said = checked(*alone, "ml-repo", "verify", file, "--image", "--trust", cwd=tmp_path, HOME=str(tmp_path))
        assert ": identical" in said and digest_of(identity) == identity
    finally:
        docker("tag", identity, image)  # as it was


def test_another_machine_uses_the_image_and_its_queue(image, tmp_path):
    (tmp_path / "repository" / "nbs").mkdir(parents=True)
    write_notebook(tmp_path / "repository" / "nbs" / "loop.ipynb", VALUES, LOOP, END)
    repository = make_repository(tmp_path / "repository")
    server = SshServer(tmp_path / "server")
    words = ["ml-repo", "run", "--on", "ssh://gpu1/~/project", "nbs/loop.ipynb", "--image", image]
    try:
        refused = run(*words[:-1], "no_such_image", "--python", sys.executable, cwd=repository, ML_REPO_SSH=server.ssh)
        assert refused.returncode == 2 and "ml-repo image build" in refused.stdout and not list((repository / "experiments").glob("loop-*/record.json"))
        first = checked(*words, "-p", "epochs", "4", "--env", "OWN_WORD", cwd=repository, ML_REPO_SSH=server.ssh, OWN_WORD="7").split()[-1]
        assert run("ml-repo", "wait", first, cwd=repository, ML_REPO_SSH=server.ssh).returncode == 0
        record = read_record(repository / "experiments" / first)
        assert "identical" in checked("ml-repo", "verify", first, "--image", cwd=repository)
        assert record["image"]["image_digest"] == digest_of(image) and len([line for line in record.logged if line.get("step")]) == 4
        second = checked(*words, "-p", "epochs", "500", cwd=repository, ML_REPO_SSH=server.ssh).split()[-1]
        there = server.home / "project" / "experiments" / second
        await_true(lambda: len(read_record(there).logged) > 3, "it goes on")
        assert "interrupted" in checked("ml-repo", "stop", second, cwd=repository, ML_REPO_SSH=server.ssh)
        checked("ml-repo", "resume", second, "--there", cwd=repository, ML_REPO_SSH=server.ssh)
        await_true(lambda: read_record(there)["state"] == "running" and len(read_record(there).logged) > 2, "it goes on there")
        checked("ml-repo", "stop", second, cwd=repository, ML_REPO_SSH=server.ssh)
        record = read_record(repository / "experiments" / second)
        steps = [line["step"] for line in record.logged if line.get("step")]
        assert steps == list(range(1, len(steps) + 1)) and record["image"]["image_digest"] == digest_of(image)
        await_true(lambda: containers(image) == [], "its container is gone")
    finally:
        server.stop()


@pytest.fixture(scope="session")
def devcontainer(tmp_path_factory) -> Path:
    """The program that opens devcontainers without an editor."""
    if found := shutil.which("devcontainer"):
        return Path(found)
    folder = tmp_path_factory.mktemp("npm")
    done = run("npm", "install", "--prefix", folder, "@devcontainers/cli@0.89.0") if shutil.which("npm") else None
    if done is None or done.returncode:
        pytest.skip(f"the devcontainer CLI is not installed, and cannot be: {done.stdout[-300:] if done else 'there is no npm'}")
    return folder / "node_modules" / ".bin" / "devcontainer"


def test_the_devcontainer_opens(devcontainer, image, base, project, place):
    folder = place / "dev"
    shutil.copytree(project, folder, symlinks=True, ignore=shutil.ignore_patterns("experiments"))
    text = "\n".join(line for line in (folder / ".devcontainer.json").read_text().splitlines() if not line.strip().startswith("//"))
    settings = json.loads(text)
    settings["build"] = settings["build"] | {"args": {"GPU": "0", "BASE_IMAGE": base}}
    (place / "devcontainer.json").write_text(json.dumps(settings))
    give(folder, OWNER)
    shim = place / "bin" / "id"  # this user has no name here, and the program asks for it
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\n[ "$*" = "-u -n" ] && echo anna || exec /usr/bin/id "$@"\n')
    shim.chmod(0o755)
    program = ["env", f"PATH={shim.parent}:{os.environ['PATH']}", devcontainer]
    options = ["--workspace-folder", folder, "--override-config", place / "devcontainer.json"]
    read = json.loads(as_owner(folder, *program, "read-configuration", "--workspace-folder", folder).stdout.splitlines()[-1])
    assert read["configuration"]["remoteUser"] == "dev" and read["configuration"]["hostRequirements"] == {"gpu": "optional"}
    done = as_owner(folder, *program, "up", *options)
    assert done.returncode == 0, done.stdout[-3000:]
    container = json.loads(done.stdout.splitlines()[-1])["containerId"]

    def inside(*words: str) -> str:
        done = as_owner(folder, *program, "exec", *options, *words)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    try:
        assert inside("id", "-u").splitlines()[-1] == str(OWNER)
        where = inside("python", "-c", "import ml_repo; print(ml_repo.__file__)").splitlines()[-1]
        assert where.endswith("dev/ml_repo/__init__.py") and "Editable project location" in inside("uv", "pip", "show", "ml_repo")
        assert (folder / ".git" / "hooks" / "pre-commit").is_file() and "nbdev" in (folder / ".git" / "config").read_text() + (folder / ".gitconfig").read_text()
        inside("papermill", "nbs/train.ipynb", "out.ipynb", "-p", "lr", "0.5")
        inside("pre-commit", "run", "nbdev_export", "--all-files")
        assert read_record(find_records(folder / "experiments")[0])["state"] == "completed"
        token = re.search(r"token=(\w+)", inside("jupyter", "lab", "list"))[1]
        ask_lab_words = ["docker", "exec", "--user", "dev", container]
        assert json.loads(ask_lab(ask_lab_words, token, 8888))["default"] == "python3"
        assert ask_lab(ask_lab_words, "wrong", 8888) == "403"
        assert strangers(folder) == []
    finally:
        made = docker("inspect", "--format", "{{.Config.Image}}", container).strip()
        docker("rm", "--force", container)
        run("docker", "rmi", made, made.removesuffix("-uid"))
