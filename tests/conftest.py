"""What the whole-program checks share."""
import base64
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) == signal.SIG_IGN:  # by nohup, or by a shell that put the tests into the background; what is started here would ignore them, too
        signal.signal(number, usual)
os.environ["ML_REPO_MIRROR"] = "0"  # no MLflow beside the runs of tests; those of the mirror ask for it


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take `--slow`, which `make test-all` gives."""
    parser.addoption("--slow", action="store_true", help="run the tests marked slow as well")


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark `slow` known."""
    config.addinivalue_line("markers", "slow: takes minutes; run only with --slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what is marked slow, unless it was asked for."""
    if not config.getoption("--slow"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="slow: run `make test-all`"))


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run a command as a user would, with the tools of this environment first on the path."""
    variables = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"} | environment
    variables.pop("PYTEST_CURRENT_TEST", None)  # with it, a kernel does not catch what C code prints
    return subprocess.run([str(part) for part in command], cwd=cwd, env=variables, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)


def checked(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a command that must succeed and return what it printed."""
    result = run(*command, cwd=cwd, **environment)
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
