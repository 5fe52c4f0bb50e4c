"""How soon a run in the background gives the terminal back, beside what nobody can avoid and what it avoids.

    .venv/bin/python benchmarks/background.py

Each round starts every program once, one after the other; the medians of five rounds are compared. The runs are real: a
notebook of one cell, in a repository of its own, and the next round waits for them.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
CELL = {"cell_type": "code", "execution_count": None, "id": "a", "metadata": {"tags": ["parameters"]}, "outputs": [], "source": "x: int = 1"}
NOTEBOOK = {"cells": [CELL], "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}, "nbformat": 4, "nbformat_minor": 5}
PROGRAMS = {
    "python, which does nothing": [sys.executable, "-c", ""],
    "ml-repo --help": [BIN / "ml-repo", "--help"],
    "ml-repo run --detach": [BIN / "ml-repo", "run", "one.ipynb", "--detach"],
    "ml-repo show latest, just after": [BIN / "ml-repo", "show", "latest"],
    "python -c 'import papermill'": [sys.executable, "-c", "import papermill"],
}


def measure(folder: Path) -> dict[str, float]:
    """Start each program once; seconds."""
    found = {}
    for name, command in PROGRAMS.items():
        since = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"})
        found[name] = time.perf_counter() - since
    subprocess.run([BIN / "ml-repo", "wait", "--quiet", "latest"], cwd=folder, check=True, capture_output=True)
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
        (folder / "one.ipynb").write_text(json.dumps(NOTEBOOK))
        rounds = [measure(folder) for _ in range(5)]
    medians = {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    for name, taken in medians.items():
        print(f"{name:<34}{taken:>7.3f} s{taken / medians['python, which does nothing']:>8.1f} of a Python that does nothing")


if __name__ == "__main__":
    main()
