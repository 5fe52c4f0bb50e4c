"""papermill's own test suite passes as well with this package installed as without it."""
import os
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import BIN, checked, run
from test_lock import TEXTS, lock

pytestmark = pytest.mark.own_process

PINS = lock.pins(TEXTS["requirements.txt"])
EXTRAS = ("papermill[all]", "moto==5.1.22", "pytest-env==1.8.5")  # what the suite needs beyond the lock
HEAVY = ("tensorflow",)  # of the lock; nothing in the suite needs it
AT_LEAST = 546  # of the 547 of papermill 2.7.0: TestBrokenNotebook2 imports a name that IPython 9 no longer has


def passed(report: Path) -> set[str]:
    """The tests that passed, read from a JUnit report, as `package.module.Class::test`."""
    cases = ET.parse(report).iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}" for case in cases
            if not any(case.find(kind) is not None for kind in ("failure", "error", "skipped"))}


def files(tests: set[str]) -> list[str]:
    """The files that hold the tests, relative to papermill's folder."""
    return sorted({"/".join(test.split("::")[0].split(".")[:3]) + ".py" for test in tests})


class Suite:
    """papermill's folder, and an environment of its own to run its tests in."""

    def __init__(self, folder: Path):
        self.folder, self.python = folder, folder / "venv" / "bin" / "python"
        checked(sys.executable, "-m", "venv", folder / "venv")
        texts = {"papermill": [PINS["papermill"]],
                 "lock": [pin for name, pin in PINS.items() if name not in HEAVY],
                 "versions": [pin.split(" ")[0] for name, pin in PINS.items() if name != "papermill"]}
        for name, lines in texts.items():
            (folder / f"{name}.txt").write_text("\n".join(lines))

        probe = run(self.python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes",
                    "--requirement", folder / "papermill.txt", "--dest", folder)
        if probe.returncode:
            pytest.skip(f"papermill's tests come from a package index, and pip got none: {probe.stdout.strip()}")
        source, = folder.glob("papermill-*.tar.gz")
        checked("tar", "-xf", source, "-C", folder)
        self.source = folder / source.name.removesuffix(".tar.gz")

        self.install("--require-hashes", "--requirement", folder / "lock.txt")
        # The locked versions stand even where an extra asks for others: they are what this package is used with.
        # papermill itself is left out, because an override would take the `[all]` from it.
        self.install("--override", folder / "versions.txt", *EXTRAS)

    def install(self, *what: str | Path) -> None:
        """Install into the environment of the suite."""
        checked(BIN / "uv", "pip", "install", "--quiet", "--python", self.python, *what)

    def add(self, tree: Path) -> None:
        """Install this package from a checkout."""
        self.install("--no-deps", "--no-build-isolation", "--reinstall-package", "ml_repo", tree)

    def remove(self) -> None:
        """Take this package out again."""
        checked(BIN / "uv", "pip", "uninstall", "--quiet", "--python", self.python, "ml_repo")

    def asked(self, code: str) -> str:
        """What Python prints in the environment and the folder of the suite."""
        return checked(self.python, "-c", code, cwd=self.source).strip()

    def installed(self) -> bool:
        """Whether this package is in the environment."""
        return self.asked("import importlib.util; print(importlib.util.find_spec('ml_repo'))") != "None"

    def engine(self) -> str:
        """The engine that papermill runs a notebook with when none is named."""
        return self.asked("from papermill.engines import papermill_engines as known; print(known.get_engine(None))")

    def run(self, *tests: str) -> set[str]:
        """Run all of papermill's tests, or the files named, and return those that passed."""
        report = self.folder / "report.xml"
        # Its tests start `papermill` from the path, and compare texts that depend on the order of sets.
        result = run(self.python, "-m", "pytest", *(tests or ["papermill/tests"]), "-q", "-p", "no:cacheprovider",
                     "--continue-on-collection-errors", f"--junitxml={report}", f"--basetemp={self.folder / 'temporary'}", cwd=self.source,
                     PATH=f"{self.python.parent}{os.pathsep}{os.environ['PATH']}", PYTHONHASHSEED="0", PYTEST_ADDOPTS="")
        assert result.returncode in (0, 1), f"the suite did not run to its end:\n{result.stdout}"
        print(result.stdout.strip().splitlines()[-1])
        return passed(report)


@pytest.fixture
def suite() -> Iterator[Suite]:
    """The suite, in a folder that is gone afterwards: its environment takes a gigabyte."""
    with tempfile.TemporaryDirectory() as folder:
        yield Suite(Path(folder))


def test_a_report_is_read(tmp_path):
    (tmp_path / "report.xml").write_text(
        "<testsuites><testsuite><testcase classname='p.tests.test_a.A' name='good'/>"
        "<testcase classname='p.tests.test_a' name='bad'><failure/></testcase>"
        "<testcase classname='p.tests.test_b' name='broken'><error/></testcase>"
        "<testcase classname='p.tests.test_b' name='left'><skipped/></testcase></testsuite></testsuites>")
    assert passed(tmp_path / "report.xml") == {"p.tests.test_a.A::good"}
    assert files({"p.tests.test_a.A::good", "p.tests.test_b::left[x.y]"}) == ["p/tests/test_a.py", "p/tests/test_b.py"]


@pytest.mark.slow
def test_papermills_own_tests_pass_as_without_this_package(suite, tree):
    assert not suite.installed() and "NBClientEngine" in suite.engine()
    print("\nWithout this package:")
    without = suite.run()
    suite.add(tree)
    assert suite.installed() and "RecordingEngine" in suite.engine(), "its engine is papermill's default now"
    print("With this package:")
    with_it = suite.run()

    if differing := without ^ with_it:  # chance, or this package? Both once more, in the other order
        print(f"Again, for {', '.join(sorted(differing))}:")
        with_again = suite.run(*files(differing))
        suite.remove()
        without_again = suite.run(*files(differing))
        without = without - differing | without_again & differing
        with_it = with_it - differing | with_again & differing

    print(f"passed {len(without)} without, {len(with_it)} with; only with: {sorted(with_it - without)}")
    assert not without - with_it, f"passed before, fail now: {sorted(without - with_it)}"
    assert len(with_it) >= AT_LEAST
