"""What the whole-program checks share."""
import atexit
import base64
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # by nohup, or by a shell that put the tests into the background; what is started here would ignore them, too
        signal.signal(number, usual)


def forget_person() -> None:
    """Keep the settings of whoever runs the tests out of them: variables, Keras' and matplotlib's settings, git's."""
    of_tests = {"ML_REPO_PICTURES", "ML_REPO_TEST_SEED", "ML_REPO_TEST_KILLS", "ML_REPO_TEST_BASE", "ML_REPO_FORMATS_PYTHON"}
    for name in list(os.environ):
        if name.startswith(("ML_REPO_", "KERAS_", "MLFLOW_", "GIT_AUTHOR_", "GIT_COMMITTER_")) and name not in of_tests:
            del os.environ[name]
    folder = Path(tempfile.mkdtemp(prefix="ml-repo-tests-"))
    owner = os.getpid()
    atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
    trusted = subprocess.run(["git", "config", "--global", "--get-all", "safe.directory"], text=True, capture_output=True).stdout.split("\n")
    safe = "".join(f"\tdirectory = {name}\n" for name in trusted if name)
    (folder / "gitconfig").write_text(f"[user]\n\tname = test\n\temail = test@localhost\n[safe]\n{safe}")
    os.environ |= {"GIT_CONFIG_GLOBAL": str(folder / "gitconfig"), "KERAS_HOME": str(folder / "keras"),
                   "MATPLOTLIBRC": str(Path(find_spec("matplotlib").origin).parent / "mpl-data" / "matplotlibrc"),
                   "ML_REPO_TRUSTED": "*",  # records that a test has copied; what is asked otherwise is tested in test_trust.py
                   "ML_REPO_MIRROR": "0"}  # no MLflow beside the runs of tests; those of the mirror ask for it


forget_person()

import forks  # noqa: E402 - its processes take over the variables
from forked import ForkedPopen  # noqa: E402


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--slow`, which `make test-all` gives."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known, and have kernels forked."""
    config.addinivalue_line("markers", "slow: takes minutes; run only with --slow")
    config.addinivalue_line("markers", "own_process: looks at how processes begin and end, so none is forked from one that has imported its libraries")
    config.addinivalue_line("markers", "own_kernel: looks at the kernel as a process, so it is started by its supervisor")
    config.option.loadscopereorder = False  # of pytest-xdist: the order below holds, instead of the number of tests
    forks.switch_on(forks.find_server, forks.find_home, os.getpid())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Start processes as the test has to have them."""
    is_slow, is_own, has_own_kernel = (item.get_closest_marker(name) is not None for name in ("slow", "own_process", "own_kernel"))
    ForkedPopen.allowed = set() if is_slow or is_own else {"commands"} if has_own_kernel else {"commands", "kernels"}


LONGEST = ("train", "extras", "study", "gates", "upkeep", "resume", "kills", "warm", "record", "autolog", "live", "views", "causes", "verify", "jobs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that all workers end together; skip what is marked slow, unless it was asked for."""
    ranks = {f"test_{name}": rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(LONGEST)))
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run `make test-all`"))


def run(*command: str | Path, cwd: Path = ROOT, find: Callable = forks.find_server, stderr: int = subprocess.STDOUT, **environment: str) -> subprocess.CompletedProcess:
    """Run a command as a user would, with the tools of this environment first on the path."""
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | environment
    variables.pop("PYTEST_CURRENT_TEST", None)  # with it, a kernel does not catch what C code prints
    words = [str(part) for part in command]
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": stderr}
    with ForkedPopen(words, cwd=cwd, env=variables, text=True, find=find, **streams) as process:
        printed = process.communicate()[0]
    return subprocess.CompletedProcess(words, process.returncode, printed)


def checked(*command: str | Path, cwd: Path = ROOT, find: Callable = forks.find_server, **environment: str) -> str:
    """Run a command that must succeed and return what it printed."""
    result = run(*command, cwd=cwd, find=find, **environment)
    assert result.returncode == 0, f"{' '.join(map(str, command))} exited with {result.returncode}:\n{result.stdout}"
    return result.stdout


class Executed:
    """An executed notebook, read as a person reads it."""

    def __init__(self, path: Path, printed: str = ""):
        self.path, self.printed, self.cells = path, printed, json.loads(path.read_text())["cells"]

    def bundles(self) -> list[dict]:
        return [output["data"] for cell in self.cells for output in cell.get("outputs", []) if "data" in output]

    def text(self) -> str:
        """All that was shown as text."""
        return "\n".join("".join(bundle.get("text/plain", "")) for bundle in self.bundles())

    def figures(self) -> list[bytes]:
        return [base64.b64decode(bundle["image/png"]) for bundle in self.bundles() if "image/png" in bundle]

    def fact(self, name: str) -> str:
        """The value of a fact that the notebook showed in a table."""
        return re.search(rf"^ ?{name} +(.*)$", self.text(), flags=re.MULTILINE)[1].strip()


LIMIT_S = 900  # until a wait gives up: long enough for a machine with ten times as much to do, and for what gives way to others


def await_true(happened: Callable[[], object], what: str, limit_s: float = LIMIT_S, pause_s: float = 0.05) -> object:
    """Wait until something has happened, and return what came of it; only a fault takes as long as the limit."""
    until = time.monotonic() + limit_s
    while not (result := happened()):
        assert time.monotonic() < until, f"{what() if callable(what) else what}: not within {limit_s} s"
        time.sleep(pause_s)
    return result


HAS_EXAMPLE = (ROOT / "nbs" / "project").is_dir()
needs_example = pytest.mark.skipif(not HAS_EXAMPLE, reason="NOT TESTED: the example was taken away (make remove-example)")


def list_shipped() -> list[Path]:
    """The records that are committed. Those of the person who runs the tests lie beside them, and are none of a test's business."""
    names = checked("git", "ls-files", "-z", "--", "experiments/*/record.json").split("\0")
    return sorted((ROOT / name).parent for name in names if name and (ROOT / name).is_file())


def copy_shipped(folder: Path) -> Path:
    """Copy the committed records, with their texts and nothing else, into `folder`."""
    if not HAS_EXAMPLE:
        pytest.skip(needs_example.kwargs["reason"])
    for name in checked("git", "ls-files", "-z", "--", "experiments").split("\0"):
        if name and (ROOT / name).is_file():
            (target := folder / Path(name).relative_to("experiments")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
    return folder


@pytest.fixture(scope="session")
def shipped(tmp_path_factory) -> Path:
    """A folder with the committed records, to read from."""
    return copy_shipped(tmp_path_factory.mktemp("shipped") / "experiments")


@pytest.fixture(scope="session")
def clone(tmp_path_factory) -> Path:
    """This tree as a fresh clone would have it, uncommitted changes included, records left out."""
    folder = tmp_path_factory.mktemp("clone")
    files = checked("git", "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    present = [name for name in files if name and (ROOT / name).exists() and not name.startswith("experiments/")]
    subprocess.run(["tar", "-cf", "tree.tar", "-C", str(ROOT), *present], cwd=folder, check=True)
    subprocess.run(["tar", "-xf", "tree.tar"], cwd=folder, check=True)
    (folder / "tree.tar").unlink()
    checked("git", "init", "--quiet", "--initial-branch", "main", cwd=folder)
    for key, value in {"user.name": "test", "user.email": "test@localhost", "commit.gpgsign": "false"}.items():
        checked("git", "config", key, value, cwd=folder)
    checked("git", "add", "--all", cwd=folder)
    checked("git", "commit", "--quiet", "--message", "Take this tree", cwd=folder)
    return folder


@pytest.fixture
def tree(clone):
    """The clone, put back to its commit afterwards."""
    yield clone
    checked("git", "reset", "--quiet", "--hard", cwd=clone)
    checked("git", "clean", "--quiet", "-fdx", cwd=clone)


@pytest.fixture(scope="session")
def wheel(clone, tmp_path_factory) -> Path:
    """The wheel of this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    checked("uv", "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, clone)
    return next(folder.glob("*.whl"))
