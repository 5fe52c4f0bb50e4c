"""What a logged value costs the process that trains, beside the simplest ways to keep a number.

    .venv/bin/python benchmarks/log_cost.py

Each round does the same 10,000 values in four ways, one after the other; the medians of five rounds are compared.
"""
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ml_repo.tracking.run import Run

VALUES = 10_000


def per_value(write: Callable[[int], None]) -> float:
    """Time VALUES calls; microseconds a call."""
    since = time.perf_counter()
    for step in range(VALUES):
        write(step)
    return (time.perf_counter() - since) / VALUES * 1e6


def measure(folder: Path) -> dict[str, float]:
    """Do the values in each way once."""
    run = Run(folder)
    with open(folder / "plain.txt", "w") as text, open(folder / "flushed.jsonl", "w") as lines:
        return {
            "print to a file, not flushed": per_value(lambda step: print(step, 0.25, file=text)),
            "a JSON line, flushed": per_value(lambda step: (lines.write(json.dumps({"step": step, "loss": 0.25}) + "\n"), lines.flush())),
            "run.log, one value": per_value(lambda step: run.log(step=step, split="train", loss=0.25)),
            "run.log, four values a call": per_value(lambda step: run.log(step=step, split="train", loss=0.25, accuracy=0.5, norm=1.5, lr=0.1)) / 4,
        }


def main() -> None:
    rounds = []
    for _ in range(5):
        with tempfile.TemporaryDirectory() as folder:
            rounds.append(measure(Path(folder)))
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    for name, cost in medians.items():
        print(f"{name:<32}{cost:>7.1f} µs a value{cost / medians['a JSON line, flushed']:>8.2f} of a flushed JSON line")


if __name__ == "__main__":
    main()
