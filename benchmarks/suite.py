"""How long the tests of this repository take, the notebooks and the whole-program checks; for benchmarks/table.py.

    .venv/bin/python benchmarks/suite.py --json FILE     as long as `make test`

A clone of this tree in a temporary folder runs what `make test` runs, with the environment of this Python. Seconds of a clock, and processor
seconds of all processes that have ended, which are all but those that outlive their parent. A test that fails is told and counts as well.
"""
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from measurements import keep, make_parser

ROOT = Path(__file__).resolve().parent.parent
PARTS = {
    "notebooks": [sys.executable, "tests/notebooks.py", "--n_workers", "2"],
    "whole-program checks": [sys.executable, "-m", "pytest", "tests", "-n", "2", "--dist", "loadfile", "-q", "-p", "no:cacheprovider"],
}


def main() -> None:
    options = make_parser(__doc__, "only the notebooks of core, and the gates", "the same; there is no peer").parse_args()
    measured = []
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "TMPDIR": folder, "PYTHONPATH": str(project)}
        for name, command in PARTS.items():
            if not (project / "tests" / "notebooks.py").exists() and name == "notebooks":
                command = ["nbdev_test", "--n_workers", "2"]  # of earlier commits
            less = {"notebooks": ["--path", "nbs/core"], "whole-program checks": ["tests/test_gates.py"]}[name] if options.quick else []
            before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            status = subprocess.run([*command, *less], cwd=project, env=environment, stdout=sys.stderr).returncode
            wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
            if status:
                print(f"the {name} failed", file=sys.stderr)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            measured += [{"row": "tests", "what": f"{name}{suffix}", "program": "ml_repo", "version": version("ml_repo"), "value": round(value, 1), "unit": unit}
                         for suffix, value, unit in (("", wall, "s"), (", processor", used, "processor s"))]
    keep(measured, options.json)


if __name__ == "__main__":
    main()
