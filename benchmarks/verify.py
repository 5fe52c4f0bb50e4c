"""What a verification costs, as a ratio to the run itself plus a checkout of its files, measured side by side.

    .venv/bin/python benchmarks/verify.py              three rounds, about two minutes on two cores
    .venv/bin/python benchmarks/verify.py --rounds 5 -- -p epochs 40

Each round runs three programs one after the other, in turn forwards and backwards, and times them from outside:

    run         ml-repo run nbs/train.ipynb
    checkout    ml-repo checkout RUN FOLDER
    verify      ml-repo verify RUN

The tree must be clean, so that all three see the same code. Records go to a temporary folder.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
ML_REPO = str(Path(sys.executable).with_name("ml-repo"))


def timed(*command: str, records: Path) -> float:
    """Run a command of ml-repo; returns wall seconds."""
    begin = time.perf_counter()
    done = subprocess.run([ML_REPO, *command], cwd=ROOT, env=os.environ | {"ML_REPO_RECORDS": str(records)}, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return time.perf_counter() - begin


def measure(folder: Path, number: int, options: list[str]) -> dict[str, float]:
    """Time the three programs once."""
    records = folder / "experiments"
    latest = lambda: max((path.parent for path in records.glob("*/record.json")), default=None)
    steps = {"run": lambda: timed("run", "nbs/train.ipynb", "--quiet", *options, records=records),
             "checkout": lambda: timed("checkout", str(latest()), str(folder / f"files-{number}"), records=records),
             "verify": lambda: timed("verify", str(latest()), "--no-keep", records=records)}
    names = list(steps) if number % 2 == 0 else list(steps)[::-1]
    times = {name: steps[name]() for name in names}
    timed("checkout", str(latest()), str(folder / f"files-{number}"), "--remove", records=records)
    return times | {"ratio": times["verify"] / (times["run"] + times["checkout"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each program runs, at least 1 (default 3)")
    parser.add_argument("options", nargs="*", help="parameters of the run, after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timed("run", "nbs/train.ipynb", "--quiet", *given.options, records=Path(folder) / "experiments")  # caches are warm
        rounds = [measure(Path(folder), number, given.options) for number in range(given.rounds)]
    for name in ("run", "checkout", "verify"):
        print(f"{name:<10}{statistics.median(one[name] for one in rounds):8.2f} s")
    ratios = sorted(one["ratio"] for one in rounds)
    print(f"verify / (run + checkout): {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f} in {len(ratios)} rounds)")


if __name__ == "__main__":
    main()
