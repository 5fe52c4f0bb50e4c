"""What the record and the training notebook cost, as ratios measured side by side.

    .venv/bin/python benchmarks/overhead.py            five rounds, about fifteen minutes on two cores
    .venv/bin/python benchmarks/overhead.py --rounds 1

Each round runs five programs one after the other, the last four by papermill:

    script      plain.py: load the digits, fit, predict; no figures, no records
    plain       the same script as the only cell of a notebook, by papermill's own engine (--engine nbclient)
    recorded    the same notebook, with a record
    notebook    nbs/train.ipynb, with a record
    empty       two notebooks that print a word: plain and recorded, which shows the fixed price of a record in seconds

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

from ml_repo.core.metrics import read_metrics

ROOT = Path(__file__).parent.parent
PLAIN = (Path(__file__).parent / "plain.py").read_text()
PAPERMILL = str(Path(sys.executable).with_name("papermill"))


def timed(*command: str) -> tuple[float, float, str]:
    """Run a command; returns wall seconds, processor seconds of it and its children, and what it printed."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    printed = subprocess.run(command, cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, printed


def write_notebook(path: Path, source: str) -> str:
    """Write a notebook with one cell; returns its name."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "python3", "language": "python"}
    nbformat.write(notebook, path)
    return str(path)


def fit_times(text: str) -> dict[str, float]:
    """Read what plain.py printed."""
    found = re.search(r"fit_duration_s ([\d.]+) fit_cpu_s ([\d.]+)", text)
    return {"fit": float(found[1]), "fit, processor": float(found[2])} if found else {}


def by_papermill(notebook: str, output: Path, *options: str) -> dict[str, float]:
    """Run a notebook by papermill and time it."""
    wall, cpu, _ = timed(PAPERMILL, notebook, str(output), *options)
    return {"process": wall, "process, processor": cpu} | fit_times(json.dumps(nbformat.read(output, 4)))


def measure(folder: Path) -> dict[str, dict[str, float]]:
    """Run the programs once. The folder asks for records, as this repository does."""
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    lone, empty = write_notebook(folder / "plain.ipynb", PLAIN), write_notebook(folder / "empty.ipynb", "print('done')")
    wall, cpu, printed = timed(sys.executable, str(Path(__file__).parent / "plain.py"))
    results = {"script": {"process": wall, "process, processor": cpu} | fit_times(printed)}
    for name, notebook in (("plain", lone), ("empty, plain", empty)):
        results[name] = by_papermill(notebook, folder / "out.ipynb", "--engine", "nbclient")
        results[name.replace("plain", "recorded")] = by_papermill(notebook, folder / "out.ipynb")
    assert len(list(folder.glob("experiments/*/record.json"))) % 2 == 0, "only two of the four runs keep a record"
    results["notebook"] = by_papermill("nbs/train.ipynb", folder / "out.ipynb")
    values = read_metrics(folder / "out.ipynb")
    results["notebook"] |= {"fit": values["", "fit_duration_s"], "fit, processor": values["", "fit_processor_s"]}
    return results


BASE = {"recorded": "plain", "empty, recorded": "empty, plain"}  # what a program is compared with; the others with the script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="how often each program runs, at least 1 (default 5)")
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(parser.parse_args().rounds):
            rounds.append(measure(Path(folder)))
            print(f"round {number + 1} done", file=sys.stderr)
    print(f"{'':<17}{'seconds':<20}{'median s':>9}  {'compared with':<14}{'ratio':>6}{'smallest, largest':>20}{'difference s':>14}")
    for program in rounds[0]:
        base = BASE.get(program, "empty, plain" if program.startswith("empty") else "script")
        for quantity in (name for name in ("fit", "fit, processor", "process", "process, processor") if name in rounds[0][program]):
            ratios = [one[program][quantity] / one[base][quantity] for one in rounds]
            seconds = statistics.median(one[program][quantity] for one in rounds)
            more = statistics.median(one[program][quantity] - one[base][quantity] for one in rounds)
            print(f"{program:<17}{quantity:<20}{seconds:>9.2f}  {base:<14}{statistics.median(ratios):>6.3f}"
                  f"{min(ratios):>13.3f},{max(ratios):>6.3f}{more:>14.2f}")


if __name__ == "__main__":
    main()
