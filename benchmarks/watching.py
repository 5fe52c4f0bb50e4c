"""What it costs to watch the files of a run: on a training, on an empty notebook, in a repository of 10,000 files.

    .venv/bin/python benchmarks/watching.py [--rounds 5]

Each round runs the same notebook with and without the watch from outside, one after the other, in the same repository; the two swap places
every round. Compared are the medians. Targets: at most 1.02 times as long for a training, 0.1 s more for an empty notebook, 0.15 s more in
a repository of 10,000 files. Python's audit hook runs both times; `hook` is the time of 1,000 opens with it, over that without it.
`own` is how much more processor time the supervisor takes, which does the watching: it says more than the wall time where that varies by
several percent from run to run. The training computes in one thread, so that the numbers do not say how two threads share two cores.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

TRAINING = """import numpy as np
data = np.random.default_rng(0).normal(size=(20_000, 64))
np.save('data.npy', data)
weights = np.zeros(64)
for epoch in range(n):
    batch = np.load('data.npy')
    for step in range(20):
        weights -= 1e-4 * batch.T @ (batch @ weights - batch[:, 0]) / len(batch)
    np.save(f'weights-{epoch}.npy', weights)"""
RUN = """import sys, time
if sys.argv[1] == "without":
    from ml_repo.execution import supervisor
    make = supervisor.Supervisor.__init__
    def unwatched(self, *arguments, **named):
        make(self, *arguments[:7])
    supervisor.Supervisor.__init__ = unwatched
from ml_repo.execution.launch import run_notebook
run_notebook("a.ipynb", quiet=True)  # imports what a run needs
since = time.perf_counter(), time.process_time()
run_notebook("a.ipynb", quiet=True)
print(time.perf_counter() - since[0], time.process_time() - since[1])
"""
HOOK = """import sys, time
from ml_repo.provenance.opened_files import note_opened_files
if sys.argv[1] == "with":
    note_opened_files()
since = time.perf_counter(), time.process_time()
for _ in range(1000):
    open("a.ipynb").close()
print(time.perf_counter() - since[0], time.process_time() - since[1])
"""


def make_project(folder: Path, source: str, files: int = 0) -> Path:
    """Make a repository with a notebook and some files in folders of twenty."""
    parameters = nbformat.v4.new_code_cell("n: int = 60  # epochs, at least 1", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [parameters, nbformat.v4.new_code_cell(source)]
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "a.ipynb")
    for number in range(files):
        (file := folder / f"data/{number // 20}/{number}.csv").parent.mkdir(parents=True, exist_ok=True)
        file.write_text(str(number))
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    (folder / ".gitignore").write_text("*.npy\nexperiments/\n")
    person = ["-c", "user.name=you", "-c", "user.email=you@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*person, "commit", "-qm", "begin"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return folder


def measure(program: str, project: Path, kind: str) -> tuple[float, float]:
    """Run a program in a project; seconds by the clock and of its processor time that it measured itself."""
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    result = subprocess.run([sys.executable, "-c", program, kind], cwd=project, env=one_thread, text=True, capture_output=True, check=True)
    wall, own = map(float, result.stdout.split()[-2:])
    return wall, own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each is run")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        empty = make_project(Path(folder, "empty"), "")
        cases = {"training": (RUN, make_project(Path(folder, "training"), TRAINING)), "empty notebook": (RUN, empty),
                 "10,000 files": (RUN, make_project(Path(folder, "files"), "", 10_000)), "hook, 1,000 opens": (HOOK, empty)}
        print(f"{'':<20}{'without':>10}{'with':>10}{'ratio':>8}{'more':>10}{'own':>10}")
        for name, (program, project) in cases.items():
            times: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
            for number in range(rounds):
                for kind in list(times)[:: 1 if number % 2 else -1]:
                    times[kind].append(measure(program, project, kind))
            (without, own), (watched, own_watched) = ([statistics.median(column) for column in zip(*times[kind])] for kind in ("without", "with"))
            more = f"{watched / without:>8.3f}{watched - without:>+8.3f} s{own_watched - own:>+8.3f} s"
            print(f"{name:<20}{without:>8.3f} s{watched:>8.3f} s{more}", flush=True)


if __name__ == "__main__":
    main()
