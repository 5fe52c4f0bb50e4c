"""What the training notebook costs over the same training in a plain script, as ratios measured side by side.

    .venv/bin/python benchmarks/overhead.py            five rounds, about eight minutes on two cores
    .venv/bin/python benchmarks/overhead.py --rounds 1

Each round runs three programs one after the other, with the same model, data, seeds and determinism:

    script      plain.py: load the digits, fit, predict; no figures, no records
    plain       the same script as the only cell of a notebook, run by papermill
    notebook    nbs/train.ipynb, run by papermill

The fit is timed inside the program, the process from outside; times of all rounds go into the medians. The machine's
own noise is shown by the spread: the smallest and the largest ratio of a round.
"""
import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat

from ml_repo.metrics import read_metrics

ROOT = Path(__file__).parent.parent
PLAIN = (Path(__file__).parent / "plain.py").read_text()
PAPERMILL = str(Path(sys.executable).with_name("papermill"))


def timed(*command: str) -> tuple[float, float, str]:
    """Run a command; returns wall seconds, processor seconds of it and its children, and what it printed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    printed = subprocess.run(command, cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Run the three programs once."""
    lone_cell = folder / "plain.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PLAIN)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, lone_cell)

    def fit(text: str) -> dict[str, float]:
        found = re.search(r"fit_duration_s ([\d.]+) fit_cpu_s ([\d.]+)", text)
        return {"fit": float(found[1]), "fit, processor": float(found[2])}

    wall, cpu, printed = timed(sys.executable, str(Path(__file__).parent / "plain.py"))
    script = {"process": wall, "process, processor": cpu} | fit(printed)
    wall, cpu, _ = timed(PAPERMILL, str(lone_cell), str(folder / "plain-out.ipynb"))
    plain = {"process": wall, "process, processor": cpu} | fit(json.dumps(nbformat.read(folder / "plain-out.ipynb", 4)))
    wall, cpu, _ = timed(PAPERMILL, "nbs/train.ipynb", str(folder / "out.ipynb"))
    values = read_metrics(folder / "out.ipynb")
    ours = {"process": wall, "process, processor": cpu, "fit": values["", "fit_duration_s"],
            "fit, processor": values["", "fit_processor_s"]}
    return {"script": script, "plain papermill": plain, "notebook": ours}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each program runs, at least 1 (default 5)")
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(parser.parse_args().rounds):
            rounds.append(measure(Path(folder)))
            print(f"round {number + 1} done", file=sys.stderr)
    print(f"{'':<18}{'seconds':<26}{'median s':>9}{'ratio to the script':>21}{'smallest, largest':>20}")
    for program in rounds[0]:
        for quantity in ("fit", "fit, processor", "process", "process, processor"):
            ratios = [one[program][quantity] / one["script"][quantity] for one in rounds]
            seconds = statistics.median(one[program][quantity] for one in rounds)
            print(f"{program:<18}{quantity:<26}{seconds:>9.2f}{statistics.median(ratios):>21.3f}"
                  f"{min(ratios):>13.3f},{max(ratios):>6.3f}")


if __name__ == "__main__":
    main()
