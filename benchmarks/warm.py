"""What a warm kernel saves: the time to the first cell, the time of a whole trial, and memory, against cold kernels in the same run.

    .venv/bin/python benchmarks/warm.py              three rounds, about three minutes on two cores
    .venv/bin/python benchmarks/warm.py --rounds 1

Each round runs nbs/train.ipynb with one epoch, cold and warm in turn, so that the machine's noise meets both. Afterwards four
kernels of each kind live at the same time. Their memory is the proportional one (PSS): a page that several processes share counts
in part for each; the warm process itself is shown beside it.
"""
import argparse
import os
import statistics
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

from ml_repo.execution.launch import run_notebook
from ml_repo.warm.provisioner import WarmProcess

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))


def trial(address: str | None) -> dict[str, float | str]:
    """Run a trial; seconds until the first cell, of all cells, and in all."""
    begin = time.time()
    record = run_notebook(ROOT / "nbs" / "train.ipynb", {"epochs": 1}, warm=address, quiet=True)
    total = time.time() - begin
    assert record["state"] == "completed" and record["kernel"].get("warm", False) == (address is not None), record["warnings"]
    import nbformat

    cells = nbformat.read(record.folder / "train.ipynb", 4).cells
    first = min(datetime.fromisoformat(cell.metadata.papermill.start_time).timestamp() for cell in cells if cell.metadata.get("papermill", {}).get("start_time"))
    fit = next(one for one in record["metrics"] if one["name"] == "fit_duration_s")
    return {"to the first cell": first - begin, "cells": sum(record["cells"]["duration_s"]), "fit": fit.get("last", fit.get("value")), "trial": total, "weights": record["weights"]["model"]}


def memory(notebook: Path, address: str | None, folder: Path) -> float:
    """The memory of four kernels at once, in MB."""
    from test_warm import measure_memory

    return measure_memory(notebook, address, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, WarmProcess(ROOT / "nbs" / "train.ipynb") as warm:
        os.environ["ML_REPO_RECORDS"] = folder
        begin = time.time()
        found: dict[str, list[dict]] = {"cold": [], "warm": []}
        trial(warm.address)
        print(f"first warm trial, with the imports: {time.time() - begin:.1f} s")
        for _ in range(rounds):
            for name, address in (("cold", None), ("warm", warm.address)):
                found[name].append(trial(address))
        print(f"{'median seconds':<20}{'cold':>8}{'warm':>8}{'ratio':>8}")
        for what in ("to the first cell", "cells", "fit", "trial"):
            cold, hot = (statistics.median(one[what] for one in found[name]) for name in ("cold", "warm"))
            print(f"{what:<20}{cold:>8.2f}{hot:>8.2f}{cold / hot:>8.2f}")
        print(f"different weights among {2 * rounds} trials: {len({one['weights'] for trials in found.values() for one in trials})}")
        from test_warm import write_keras

        notebook = write_keras(Path(folder, "project"))
        cold = memory(notebook, None, Path(folder, "cold"))
        with WarmProcess(notebook) as other:
            hot = memory(notebook, other.address, Path(folder, "warm"))
        print(f"four kernels with a Keras model: cold {cold:.0f} MB, warm {hot:.0f} MB, {hot / cold:.2f} of it")


if __name__ == "__main__":
    main()
