"""What a training pays for being shown in MLflow while it goes on.

    .venv/bin/python benchmarks/mirror.py [--rounds 3] [--seconds 480] [--threads 1]

The same notebook, which computes and logs a metric 20 times a second, is run with the mirror and without it, side by side:
in each round once so and once so, in turns. Each run has a repository of its own with MLflow's database in it, as every
repository has after its first run; so each pays for the start of the mirror and for the import of MLflow. Told is the time of
the cell that computes, on the clock and of the processor, and what the mirror itself has used. With as many threads as
processors the mirror has none to itself: the worst case, since threads that multiply one matrix wait for the slowest of them.
Where no processor is idle the mirror waits for 400 seconds before it starts, so a shorter training would show nothing of it.
What the start costs it costs once, so the share falls with the length of a longer one.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil

from ml_repo.mirror import find_mirror
from ml_repo.reading import find_records, read_record

TRAINING = """
import time
import numpy
from ml_repo.run import start_run
run, matrix = start_run(), numpy.random.default_rng(0).random((400, 400))
since, before = time.perf_counter(), time.process_time()
for step in range(steps):
    for _ in range(inner):
        product = matrix @ matrix
    run.log(step=step, split="train", loss=float(product[0, 0]), norm=1.0, accuracy=0.5)
run.log(step=steps, training_s=time.perf_counter() - since, processor_s=time.process_time() - before)
"""


def make_project(folder: Path) -> Path:
    """Make a repository with a notebook that computes."""
    folder.mkdir()
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    cells = [nbformat.v4.new_code_cell("steps: int = 100  # at least 1\ninner: int = 100  # products a step", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(TRAINING)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}), folder / "train.ipynb")
    for command in (["init", "--quiet"], ["add", "--all"], ["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "--message", "Begin"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def find_cost(project: Path) -> float:
    """Processor seconds of the mirror of a project; 0 where there is none."""
    found = [one.info for one in psutil.process_iter(["cmdline", "cpu_times"])]
    times = [one["cpu_times"] for one in found if "ml_repo.sync" in " ".join(one["cmdline"] or []) and str(project) in one["cmdline"]]
    return sum(one.user + one.system for one in times)


def train(folder: Path, mirror: bool, steps: int, inner: int, threads: int) -> dict[str, float]:
    """Run the notebook in a project of its own; returns seconds on the clock and of the processor."""
    project = make_project(folder)
    environment = os.environ | {"ML_REPO_MIRROR": str(int(mirror)), "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    program = [sys.executable, "-c", "from ml_repo.cli import main; main()"]
    if mirror:
        subprocess.run([*program, "sync", "mlflow"], cwd=project, env=environment, check=True, capture_output=True)
    command = [*program, "run", "train.ipynb", "--quiet", "-p", "steps", str(steps), "-p", "inner", str(inner)]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    cost, record = find_cost(project.resolve()), read_record(find_records(project / "experiments")[0])
    while find_mirror(project / "experiments"):  # so that it does not disturb the next run
        time.sleep(0.5)
    return {one["name"]: one["value"] for one in record["metrics"]} | {"mirror_s": cost}


def compare(rounds: list[dict[bool, dict[str, float]]], name: str) -> str:
    """Say in a line what a figure is with the mirror over without it."""
    ratios = [one[True][name] / one[False][name] for one in rounds]
    return (f"{name}: with the mirror {statistics.median(one[True][name] for one in rounds):.2f} s, without {statistics.median(one[False][name] for one in rounds):.2f} s, "
            f"ratio {statistics.median(ratios):.3f} (median of {len(ratios)}, {min(ratios):.3f} to {max(ratios):.3f})")


def main() -> None:
    words = argparse.ArgumentParser(description="Compare trainings with and without the mirror; the goal is a ratio of at most 1.02.")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--seconds", type=float, default=480, help="of one training, about; below 400 the mirror may still wait for an idle processor")
    words.add_argument("--threads", type=int, default=os.cpu_count(), help="of the training; by default as many as processors")
    given = words.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as place:
        took = train(Path(place, "calibration"), False, 20, 100, given.threads)["training_s"]
        steps, inner = max(1, round(given.seconds * 20)), max(1, round(100 / took))
        rounds = []
        for number in range(given.rounds):
            order = (True, False) if number % 2 else (False, True)
            rounds.append({mirror: train(Path(place, f"{number}-{mirror}"), mirror, steps, inner, given.threads) for mirror in order})
            print(json.dumps({"with": rounds[-1][True], "without": rounds[-1][False]}), flush=True)
    print(f"{given.threads} thread(s)", compare(rounds, "training_s"), compare(rounds, "processor_s"), sep="\n")
    print("processor seconds of the mirror:", ", ".join(f"{one[True]['mirror_s']:.1f}" for one in rounds))


if __name__ == "__main__":
    main()
