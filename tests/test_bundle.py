"""A run in one file: repeated where its clone is gone and there is no network, and never packed as something that it was not."""
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, await_true, run
from test_record import commit, git, make_repository, write_notebook

from ml_repo.bundle.archive import read_listing
from ml_repo.bundle.offline import find_offline_prefix
from ml_repo.records.reader import find_records
from ml_repo.scaffold.lock import find_uv

WORK = """
import os, helper
from pathlib import Path
rows = [float(line) for line in Path("data/prices.csv").read_text().split()]
print("names", sorted(os.listdir("data/parts")))
value = sum(rows) * lr * helper.FACTOR
Path("out.txt").write_text(f"{value}\\n")
from ml_repo.tracking.run import start_run
start_run().log(split="test", value=value)
value
"""
PARAMETERS = "lr: float = 0.1  # step size, above 0\nname: str = 'a b'"
OFFLINE, WHY = find_offline_prefix()
needs_namespace = pytest.mark.skipif(not OFFLINE, reason=f"NOT TESTED: no network namespace can be made here: {WHY}")


@pytest.fixture(scope="session")
def small(tmp_path_factory) -> Path:
    """The programs of a small environment: this library and what it needs, from the index."""
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([*find_uv(), "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    words = [*find_uv(), "pip", "install", "--quiet", "--python", python, "--editable", ROOT, "rocrate>=0.15"]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"NOT TESTED: the index of packages does not answer: {done.stderr.strip()[-300:]}")
    (python.parent / "uv").symlink_to(shutil.which(find_uv()[0]))
    return python.parent


def ask(small: Path, *words: str | Path, cwd: Path, before: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess:
    """Run a command of the small environment, and of nothing else of ours."""
    path = os.pathsep.join([str(small), *(folder for folder in os.environ["PATH"].split(os.pathsep) if ".venv" not in folder)])
    program = small / words[0] if (small / words[0]).is_file() else words[0]
    return run(*before, program, *words[1:], cwd=cwd, PATH=path, **variables)


def make_project(folder: Path, prepare: Callable[[Path], None] = lambda folder: None, work: str = WORK) -> Path:
    """A repository with data that git ignores, and changes that are not committed."""
    folder.mkdir(parents=True)
    write_notebook(folder / "train.ipynb", PARAMETERS, work)
    (folder / "helper.py").write_text("FACTOR = 1\n")
    (folder / "LICENSE").write_text("Apache License\n")
    make_repository(folder)
    (folder / "helper.py").write_text("FACTOR = 2\n")
    (folder / "table.bin").write_bytes(bytes(range(256)))
    (folder / "data" / "parts").mkdir(parents=True)
    (folder / "data" / "prices.csv").write_text("1\n2\n3.5\n")
    for number in range(3):
        (folder / "data" / "parts" / f"{number}.csv").write_text(f"{number}\n")
    prepare(folder)
    return folder


def run_once(small: Path, folder: Path, *options: str, notebook: str = "train.ipynb") -> Path:
    """Run the notebook of a project, and give the folder of its record."""
    known = set(find_records(folder / "experiments"))
    done = ask(small, "ml-repo", "run", notebook, "-p", "lr", "0.5", "--quiet", *options, cwd=folder)
    new = set(find_records(folder / "experiments")) - known
    assert new, done.stdout
    return new.pop()


def refuse(small: Path, folder: Path, *words: str | Path) -> str:
    """What `ml-repo bundle` says where it writes no file."""
    before = sorted(os.listdir(folder.parent))
    done = ask(small, "ml-repo", "bundle", *words, cwd=folder)
    assert done.returncode and sorted(os.listdir(folder.parent)) == before, done.stdout
    return " ".join(done.stdout.split())


def verify_alone(small: Path, file: Path, *options: str, before: tuple[str, ...] = OFFLINE) -> tuple[int, str, dict]:
    """Verify a bundle where nothing of this machine is left: another home, no cache, no repository, no route."""
    alone = file.parent / f"alone-{time.monotonic_ns()}"
    alone.mkdir()
    done = ask(small, "ml-repo", "verify", file, "--json", *options, cwd=alone, before=before, HOME=str(alone), UV_CACHE_DIR=str(alone / "uv"),
               XDG_CACHE_HOME=str(alone / "cache"), UV_OFFLINE="1")
    text = done.stdout
    verdicts = json.loads(text[text.index("\n["):]) if "\n[" in text else [{}]
    shutil.rmtree(alone)
    return done.returncode, text, verdicts[0]


@pytest.mark.slow  # half a minute of processor time, most of it for the wheels
@needs_namespace
def test_a_bundle_is_verified_without_clone_index_and_network(small, tmp_path):
    """The promise: one file, and nothing else of what there was when the run was made."""
    project = make_project(tmp_path / "project")
    record, file = run_once(small, project), tmp_path / "run.zip"
    (project / "data" / "prices.csv").write_text("1\n2\n4\n")
    assert "data/prices.csv is changed" in refuse(small, project, record.name, file)
    (project / "data" / "prices.csv").write_text("1\n2\n3.5\n")
    made = ask(small, "ml-repo", "bundle", record.name, file, cwd=project)
    assert made.returncode == 0 and "SHA-256" in made.stdout, made.stdout
    assert "not overwritten" in refuse(small, project, record.name, file)
    shutil.rmtree(project)
    code, text, verdict = verify_alone(small, file)
    assert (code, verdict.get("verdict")) == (0, "identical"), text
    assert verdict["environment"] == "venv" and not any("could not be switched off" in note for note in verdict["notes"])
    assert sorted(item["name"] for item in verdict["items"] if item["name"].startswith(("metric", "file"))) == ["file out.txt", "metric test_value"]
    with zipfile.ZipFile(file) as archive:
        names = set(archive.namelist())
        assert json.loads(archive.read("ro-crate-metadata.json"))["@context"] == "https://w3id.org/ro/crate/1.2/context"
    assert names >= {"README.txt", "code/helper.py", "data/data/parts/0.csv", "results/out.txt", "requirements.txt"}
    assert not read_listing(file)["left_out"]


@pytest.fixture(scope="module")
def packed(small, tmp_path_factory) -> Path:
    """The bundle of a run whose clone is gone."""
    folder = tmp_path_factory.mktemp("packed")
    project = make_project(folder / "project")
    record = run_once(small, project)
    made = ask(small, "ml-repo", "bundle", record.name, folder / "run.zip", cwd=project)
    assert made.returncode == 0, made.stdout
    shutil.rmtree(project)
    return folder / "run.zip"


def pack_and_leave(small: Path, project: Path, record: Path, *options: str) -> tuple[Path, str]:
    """Pack a run, remove its clone, and give the bundle and what the command has said."""
    file = project.parent / "run.zip"
    made = ask(small, "ml-repo", "bundle", record.name, file, *options, cwd=project)
    assert made.returncode == 0, made.stdout
    shutil.rmtree(project)
    return file, " ".join(made.stdout.split())


@pytest.mark.slow
@needs_namespace
def test_the_readme_repeats_a_run_by_hand(small, packed, tmp_path):
    """The commands of README.txt, line by line, without network."""
    shutil.copy(packed, tmp_path / "run.zip")
    with zipfile.ZipFile(packed) as archive:
        readme = archive.read("README.txt").decode()
    part = readme.partition("Repeat it by hand\n")[2].partition("What comes out")[0]
    commands = [line.strip() for line in part.splitlines() if line.startswith("  ")]
    assert commands[0].startswith("unzip -q run.zip -d bundle"), commands
    script = "set -e\n" + "\n".join(commands).replace("unzip -q run.zip -d bundle", f"{sys.executable} -m zipfile -e run.zip bundle")
    done = ask(small, "bash", "-c", script, cwd=tmp_path, before=OFFLINE, HOME=str(tmp_path), UV_CACHE_DIR=str(tmp_path / "uv"))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "bundle" / "work" / "out.txt").read_text() == "6.5\n"
    assert "6.5" in (tmp_path / "bundle" / "again.ipynb").read_text()


@pytest.mark.slow
@needs_namespace
def test_the_packed_library_is_enough(small, packed, tmp_path):
    """A machine that has never seen this library installs it from the bundle."""
    shutil.copy(packed, tmp_path / "run.zip")
    with zipfile.ZipFile(packed) as archive:
        readme = archive.read("README.txt").decode()
    part = readme.partition("Repeat it and compare all results\n")[2].partition("Repeat it by hand")[0]
    lines = [line.strip() for line in part.splitlines() if line.startswith("  ")]
    script = "set -e\n" + "\n".join(lines).replace("unzip -q run.zip -d bundle", f"{sys.executable} -m zipfile -e run.zip bundle")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").symlink_to(shutil.which(find_uv()[0]))
    path = os.pathsep.join([str(tmp_path / "bin"), "/usr/local/bin", "/usr/bin", "/bin"])
    done = run(*OFFLINE, "bash", "-c", script, cwd=tmp_path, PATH=path, HOME=str(tmp_path), UV_CACHE_DIR=str(tmp_path / "uv"),
               UV_PYTHON=sys.executable)
    assert done.returncode == 0 and "identical" in done.stdout, done.stdout


@pytest.mark.slow
def test_a_changed_bundle_is_refused(small, packed, tmp_path):
    """One number of the data: the program that changed it set the checksums of ZIP right."""
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(tmp_path / "changed.zip", "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info, data.replace(b"3.5", b"3.6") if info.filename == "data/data/prices.csv" else data)
    done = ask(small, "ml-repo", "verify", "changed.zip", cwd=tmp_path)
    assert done.returncode == 3 and "data/data/prices.csv is not as the list of the bundle says" in " ".join(done.stdout.split())
    (tmp_path / "torn.zip").write_bytes(packed.read_bytes()[:-5000])
    done = ask(small, "ml-repo", "verify", "torn.zip", cwd=tmp_path)
    assert done.returncode == 3 and "only the beginning of one" in " ".join(done.stdout.split())


@pytest.mark.slow
def test_archives_can_read_a_bundle(packed, tmp_path):
    """The public validator finds nothing that RO-Crate 1.2 and the profile Process Run Crate require."""
    if not shutil.which("npm"):
        pytest.skip("NOT TESTED: npm is not here, which has the context of RO-Crate")
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*find_uv(), "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"], check=True)
    words = [[*find_uv(), "pip", "install", "--quiet", "--python", python, "roc-validator==0.13.0"], ["npm", "pack", "--silent", "ro-crate@3.7.2"]]
    for command in words:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"NOT TESTED: {command[0]} does not get its packages: {done.stderr.strip()[-300:]}")
    subprocess.run(["tar", "-xzf", next(tmp_path.glob("*.tgz"))], cwd=tmp_path, check=True)
    program, context = Path(__file__).with_name("validate_crate.py"), tmp_path / "package" / "lib" / "context.json"

    def validate(crate: Path, profile: str) -> list[str]:
        done = subprocess.run([python, program, context, crate, profile, "RECOMMENDED"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()

    found = [*validate(packed, "ro-crate-1.2"), *validate(packed, "process-run-crate")]
    assert not [line for line in found if line.startswith("REQUIRED")], found
    advised = {line.split(" ", 2)[2].split(" (")[0] for line in found}
    assert advised <= {"The Root Data Entity SHOULD have a `publisher` property", "Local Dataset Data Entities SHOULD list their contents via `hasPart`",
                       "A License entity SHOULD have an absolute HTTP(S) URL as its @id", "The Application SHOULD have a url", "The SoftwareApplication id SHOULD be an absolute URI",
                       "The Action SHOULD have an agent that is a Person or Organization"}, advised
    broken = tmp_path / "broken.zip"
    with zipfile.ZipFile(packed) as old, zipfile.ZipFile(broken, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            new.writestr(info, data.replace(b'"instrument"', b'"tool"') if info.filename == "ro-crate-metadata.json" else data)
    assert any(line.startswith("REQUIRED") for line in validate(broken, "process-run-crate")), "the validator looks at nothing"


@pytest.mark.slow
def test_a_stopped_command_leaves_nothing(small, tmp_path):
    """Ctrl-C while wheels are fetched, and while the file is written; and the leftovers of a process that was killed."""
    project = make_project(tmp_path / "project")
    record = run_once(small, project)
    before = sorted(os.listdir(tmp_path))
    environment = os.environ | {"PATH": f"{small}{os.pathsep}{os.environ['PATH']}"}
    for word in ("wheels:", "writing"):
        process = subprocess.Popen([small / "ml-repo", "bundle", record.name, tmp_path / "run.zip"], cwd=project, env=environment,
                                   stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        for line in process.stderr:
            if word in line:
                process.send_signal(signal.SIGINT)
                break
        assert process.wait() != 0
        process.stderr.close()
        assert sorted(os.listdir(tmp_path)) == before, word
    process = subprocess.Popen([small / "ml-repo", "bundle", record.name, tmp_path / "run.zip"], cwd=project, env=environment,
                               stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)
    await_true(lambda: [*tmp_path.glob(".run.zip.*.tmp")], "no file is written", pause_s=0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "run.zip").exists() and [*tmp_path.glob(".run.zip.*.tmp")]
    made = ask(small, "ml-repo", "bundle", record.name, tmp_path / "run.zip", cwd=project)
    assert made.returncode == 0 and sorted(os.listdir(tmp_path)) == sorted([*before, "run.zip"]), made.stdout


PACKAGE = """[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "{}"
version = "1.0"
"""


def write_package(folder: Path, name: str) -> Path:
    """A package with one number in it."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text("VALUE = 3\n")
    (folder / "pyproject.toml").write_text(PACKAGE.format(name))
    return folder


def install(small: Path, *words: str | Path) -> None:
    """Install packages into the small environment, or take them out."""
    subprocess.run([small / "uv", "pip", *words, "--quiet", "--python", small / "python"], check=True)


def is_identical(small: Path, file: Path) -> str:
    """Verify a bundle; empty where it is identical, otherwise what the command has said."""
    code, text, verdict = verify_alone(small, file)
    return "" if (code, verdict.get("verdict")) == (0, "identical") else text


@pytest.mark.slow
@needs_namespace
def test_data_on_another_disk_comes_along(small, tmp_path):
    """The commit holds a link to a disk, which the other machine does not have."""
    (tmp_path / "disk" / "parts").mkdir(parents=True)
    (tmp_path / "disk" / "prices.csv").write_text("1\n2\n3.5\n")
    (tmp_path / "disk" / "parts" / "a.csv").write_text("1\n")

    def prepare(project: Path) -> None:
        shutil.rmtree(project / "data")
        (project / "data").symlink_to(tmp_path / "disk")
        (project / ".gitignore").write_text("experiments/\n")
        commit(project)

    project = make_project(tmp_path / "project", prepare)
    file, said = pack_and_leave(small, project, run_once(small, project))
    shutil.rmtree(tmp_path / "disk")
    assert "Not in it" not in said and not is_identical(small, file)


@pytest.mark.slow
@needs_namespace
def test_packages_from_folders_are_packed_or_named(small, tmp_path):
    """One is installed as a wheel would be, one is only a pointer to its folder."""
    built, pointed = (write_package(tmp_path / name, name) for name in ("tools_built", "tools_pointed"))
    install(small, "install", built)
    install(small, "install", "--editable", pointed)
    try:
        project = make_project(tmp_path / "project", work="import tools_built\nprint(tools_built.VALUE, lr)")
        file, said = pack_and_leave(small, project, run_once(small, project))
    finally:
        install(small, "uninstall", "tools-built", "tools-pointed")
    shutil.rmtree(built)
    assert "tools-built 1.0 was installed from" in said and "tools-pointed 1.0 was installed editable from" in said
    assert not is_identical(small, file)


@pytest.mark.slow
@needs_namespace
def test_the_repository_s_own_package_comes_with_its_files(small, tmp_path):
    """It is installed editable from the clone, and the index may have another of that name."""
    def prepare(project: Path) -> None:
        write_package(project / "src", "birds")
        (project / "src" / "pyproject.toml").rename(project / "pyproject.toml")
        commit(project)
        install(small, "install", "--editable", project)

    work = "import birds\nfrom importlib.metadata import version\nprint(birds.VALUE, version('birds'), lr)"
    try:
        project = make_project(tmp_path / "project", prepare, work)
        file, said = pack_and_leave(small, project, run_once(small, project))
    finally:
        install(small, "uninstall", "birds")
    with zipfile.ZipFile(file) as archive:
        assert not [name for name in archive.namelist() if "birds" in name and name.startswith("wheels/")]
    assert "birds" not in said and not is_identical(small, file)


@pytest.mark.slow
def test_a_bundle_without_wheels_needs_an_index_and_this_library(small, tmp_path):
    """The run uses ml_repo, which no index has. Of one that was made by hand, nobody knows all files that it has read."""
    for name, words in (("run", ("ml-repo", "run", "train.ipynb", "--quiet")), ("hand", ("jupyter", "execute", "train.ipynb"))):
        project = make_project(tmp_path / name)
        done = ask(small, *words, cwd=project)
        assert done.returncode == 0, done.stdout
        done = ask(small, "ml-repo", "bundle", "latest", tmp_path / f"{name}.zip", "--no-wheels", cwd=project)
        assert done.returncode == 0 and ("made by hand" in done.stdout) == (name == "hand"), done.stdout
        shutil.rmtree(project)
        done = ask(small, "ml-repo", "verify", tmp_path / f"{name}.zip", "--trust", cwd=tmp_path, HOME=str(tmp_path))
        assert (": identical" if name == "run" else "for want of a file: data/prices.csv") in done.stdout, done.stdout


@pytest.mark.slow
@needs_namespace
def test_an_older_commit_with_a_submodule(small, tmp_path):
    """What came later has no part in it, and the repository of the submodule is not needed."""
    library = tmp_path / "library"
    library.mkdir()
    (library / "lib.py").write_text("VALUE = 1\n")
    make_repository(library)

    def prepare(project: Path) -> None:
        git(project, "-c", "protocol.file.allow=always", "submodule", "add", "--quiet", str(library), "vendor")
        commit(project)

    project = make_project(tmp_path / "project", prepare, "import sys\nsys.path.insert(0, 'vendor')\nimport lib\nprint(lib.VALUE, lr)")
    record = run_once(small, project)
    (project / "helper.py").write_text("FACTOR = 9\n")
    (project / "later.py").write_text("1\n")
    commit(project)
    file, said = pack_and_leave(small, project, record)
    shutil.rmtree(library)
    with zipfile.ZipFile(file) as archive:
        assert "code/vendor/lib.py" in archive.namelist() and "code/later.py" not in archive.namelist()
    assert not is_identical(small, file)


@pytest.mark.slow
@needs_namespace
def test_a_failed_run_that_saw_thousands_of_files(small, tmp_path):
    """It fails again, in the same cell; of the files of a folder it read every hundredth."""
    def prepare(project: Path) -> None:
        for number in range(3000):
            (project / "data" / "parts" / f"{number:05}.csv").write_text(f"{number}\n")

    work = ("import os\nfrom pathlib import Path\nnames = sorted(os.listdir('data/parts'))\n"
            "print(len(names), [Path('data/parts', name).read_text() for name in names[::100]])\nraise RuntimeError(str(lr))")
    project = make_project(tmp_path / "project", prepare, work)
    file, _ = pack_and_leave(small, project, run_once(small, project))
    assert not is_identical(small, file)
