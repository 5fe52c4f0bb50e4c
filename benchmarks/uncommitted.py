"""What eight megabytes of untracked binary files add to a run: the whole command with and without them, in turns.

    python benchmarks/uncommitted.py [TURNS]
"""
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat


def make_project(folder: Path) -> None:
    """Make a repository with one notebook."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(1)")], metadata={"kernelspec": kernel}), folder / "a.ipynb")
    (folder / "settings.ini").write_text("[DEFAULT]\n")
    for command in ("init --quiet", "add --all", "-c user.name=me -c user.email=me@localhost commit --quiet -m Begin"):
        subprocess.run(["git", *command.split()], cwd=folder, check=True)


def time_run(folder: Path) -> float:
    """Seconds of `ml-repo run`."""
    since = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "ml-repo", "run", "a.ipynb"], cwd=folder, check=True, stdout=subprocess.DEVNULL,
                   env=os.environ | {"ML_REPO_MIRROR": "0"})
    return time.perf_counter() - since


def main() -> None:
    turns = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as without, tempfile.TemporaryDirectory() as beside:
        for folder in (without, beside):
            make_project(Path(folder))
        for number in range(8):
            Path(beside, f"features-{number}.npy").write_bytes(random.Random(number).randbytes(2**20))
        times = [(time_run(Path(without)), time_run(Path(beside))) for _ in range(turns)]
    ratios = sorted(second / first for first, second in times)
    print(f"without {statistics.median(first for first, _ in times):.2f} s, beside 8 MiB of binary files "
          f"{statistics.median(second for _, second in times):.2f} s; ratio {statistics.median(ratios):.3f} "
          f"(median of {turns}, from {ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
