"""What a training pays for being shown in MLflow while it goes on.

    .venv/bin/python benchmarks/mirror.py [--rounds 3] [--window 60] [--threads 2]

One notebook computes and logs three metrics 20 times a second, and meanwhile the mirror is not there, is started, and goes on,
round after round. Counted is how many steps the training makes in each of these windows of time, and compared are windows that
follow each other: a machine shared with others changes its speed by several per cent within minutes, which would hide the
price in a comparison of two whole trainings.

With as many threads as processors the mirror has none to itself: the worst case, since threads that multiply one matrix wait for
the slowest of them. A training pays the start once, and afterwards what goes on costs. Here the mirror is started without a wait,
and catches up with what was logged while it was not there.
"""
import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import psutil

from ml_repo.execution.mlflow_process import start_sync
from ml_repo.integrations.mlflow_sync import PATIENCE_S
from ml_repo.records.reader import find_records

TRAINING = """
import numpy
from ml_repo.tracking.run import start_run
run, matrix, step = start_run(), numpy.random.default_rng(0).random((400, 400)), 0
while True:
    for _ in range(inner):
        product = matrix @ matrix
    run.log(step=step, split="train", loss=float(product[0, 0]), norm=1.0, accuracy=0.5)
    step += 1
"""
START = 3  # windows that a start is given
AT_ONCE = "import ml_repo.integrations.mlflow_sync as sync; live = sync.mirror_live; sync.mirror_live = lambda *places: live(*places, patience_s=0); sync.main()"


def make_project(folder: Path) -> Path:
    """Make a repository with a notebook that computes."""
    folder.mkdir()
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    cells = [nbformat.v4.new_code_cell("inner: int = 100  # products a step", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(TRAINING)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}), folder / "train.ipynb")
    for command in (["init", "--quiet"], ["add", "--all"], ["-c", "user.name=x", "-c", "user.email=x@localhost", "commit", "--quiet", "--message", "Begin"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def start_training(project: Path, inner: int, threads: int) -> tuple[subprocess.Popen, Path]:
    """Start the notebook without a mirror; returns its process and its metrics, when it logs."""
    environment = os.environ | {"ML_REPO_MIRROR": "0", "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", "from ml_repo.cli.app import main; main()", "run", "train.ipynb", "--quiet", "-p", "inner", str(inner)]
    known = set(find_records(project / "experiments"))
    process = subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (new := [one / "metrics.jsonl" for one in find_records(project / "experiments") if one not in known and (one / "metrics.jsonl").exists()]):
        assert process.poll() is None, "the training has ended"
        time.sleep(0.1)
    return process, new[0]


def measure_rate(metrics: Path, seconds: float) -> float:
    """Steps a second that the training makes in the next seconds, from the end of one step to that of another."""
    def await_step() -> tuple[int, float]:
        size = metrics.stat().st_size
        while metrics.stat().st_size == size:
            time.sleep(0.001)
        return metrics.read_bytes().count(b"\n"), time.monotonic()

    (before, since) = await_step()
    time.sleep(seconds)
    (after, until) = await_step()
    return (after - before) / (until - since)


def measure_round(project: Path, metrics: Path, window_s: float) -> tuple[float, float, float, float]:
    """Rates without the mirror, while it starts, and while it goes on; and its processor seconds."""
    without = measure_rate(metrics, window_s)
    mirror = start_sync(project, project / "experiments", [sys.executable, "-P", "-c", AT_ONCE])
    starting, going = measure_rate(metrics, START * window_s), measure_rate(metrics, window_s)
    times = psutil.Process(mirror.pid).cpu_times()
    mirror.kill()
    mirror.wait()
    return without, starting, going, times.user + times.system


def main() -> None:
    """Measure, and print what it means for a training."""
    words = argparse.ArgumentParser(description="Measure what the mirror takes from a training; the goal is a ratio of at most 1.02.")
    words.add_argument("--rounds", type=int, default=3)
    words.add_argument("--window", type=float, default=60, help="seconds that a state lasts, and a third of what a start is given")
    words.add_argument("--threads", type=int, default=os.cpu_count(), help="of the training; by default as many as processors")
    given = words.parse_args()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    os.environ["ML_REPO_MIRROR"] = "1"
    with tempfile.TemporaryDirectory() as place:
        project = make_project(Path(place, "project").resolve())
        training, metrics = start_training(project, 100, given.threads)
        inner = max(1, round(100 * measure_rate(metrics, 3) / 20))
        training.send_signal(signal.SIGTERM)
        training.wait()
        subprocess.run([sys.executable, "-c", "from ml_repo.cli.app import main; main()", "sync", "mlflow"], cwd=project, check=True, capture_output=True)
        training, metrics = start_training(project, inner, given.threads)
        rounds = []
        for number in range(given.rounds):
            rounds.append(measure_round(project, metrics, given.window))
            print("steps a second: {:.2f} without, {:.2f} while it starts, {:.2f} while it goes on; {:.1f} processor seconds of the mirror".format(*rounds[-1]), flush=True)
        last = measure_rate(metrics, given.window)
        training.send_signal(signal.SIGTERM)
        training.wait()
    bare = [(one[0] + after) / 2 for one, after in zip(rounds, [*(one[0] for one in rounds[1:]), last])]  # before and after
    lost = [START * given.window * (1 - one[1] / rate) for one, rate in zip(rounds, bare)]
    share = [1 - one[2] / rate for one, rate in zip(rounds, bare)]
    start_s, going = statistics.median(lost), statistics.median(share)
    print(f"{given.threads} thread(s). A start takes {start_s:.2f} s from the training (median of {len(lost)}, {min(lost):.2f} to {max(lost):.2f}), "
          f"afterwards {going:.2%} of its time are taken ({min(share):.2%} to {max(share):.2%}).")
    wait = PATIENCE_S if given.threads >= os.cpu_count() else 0
    worst = max(1 + start_s / (wait + START * given.window - start_s), 1 / (1 - going)) if wait else 1 / (1 - going)
    print(f"Training with the mirror over without, at most: {worst:.3f}" + (f" (the start after {wait:.0f} s, or what goes on in a long one)" if wait else ""))


if __name__ == "__main__":
    main()
