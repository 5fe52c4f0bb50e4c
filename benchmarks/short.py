"""What a short run costs beside papermill, and what its verification costs beside the run; for benchmarks/table.py.

    .venv/bin/python benchmarks/short.py run --json FILE        an empty notebook, ours and papermill, time and memory
    .venv/bin/python benchmarks/short.py verify --json FILE     verify of the same notebook, and judging 2 MB of HTML

The notebook prints a word, in a repository of its own, at the top of a folder that holds nothing else. Seconds are those of a clock, and those
of the processor with all children. Memory is the largest proportional one (PSS: a page that processes share counts in part for each) of the
process that was started, without its kernel. Each program runs once before it is measured, so that its files are in the system's memory.
"""
import resource
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from measurements import keep, make_parser

BIN = Path(sys.executable).parent
RUN = [str(BIN / "ml-repo"), "run", "one.ipynb", "--quiet"]
VERIFY = [str(BIN / "ml-repo"), "verify", "latest"]
PAPERMILL = [str(BIN / "papermill"), "--engine", "nbclient", "one.ipynb", "out.ipynb"]


def make_repository(folder: Path) -> None:
    "Make a repository with a notebook that prints a word."
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('done')")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "one.ipynb")
    (folder / ".gitignore").write_text("experiments\nout.ipynb\n")
    for words in (["init", "--quiet"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "--quiet", "-m", "a"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def read_memory(process: int) -> float:
    "Read the proportional memory of a process, in MB; 0 where it has ended or the system does not say."
    try:
        return next(int(line.split()[1]) for line in open(f"/proc/{process}/smaps_rollup") if line.startswith("Pss:")) / 1000
    except (OSError, StopIteration):
        return 0.0


def run(command: list[str], folder: Path, watch: bool = False) -> tuple[float, float, float]:
    "Run a command; its wall seconds, processor seconds, and memory where it is watched, which slows it."
    before, begin, most = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), 0.0
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)
        while watch and process.poll() is None:
            most = max(most, read_memory(process.pid))
            time.sleep(0.02)
        if process.wait():
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} exited with {process.returncode}: {output.read().decode()[-2000:]}")
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, most


def write(row: str, what: str, program: str, value: float, unit: str) -> dict[str, Any]:
    "Write a measurement as `table.py` reads it."
    package = program.partition(" ")[0]
    return {"row": row, "what": what, "program": program, "version": version(package), "value": round(value, 4), "unit": unit}


def measure_run(folder: Path, ours: bool) -> list[dict[str, Any]]:
    "Measure a run of an empty notebook."
    measured = []
    for program, command in (("ml_repo", RUN), ("papermill", PAPERMILL))[:1 if ours else 2]:
        memory = run(command, folder, watch=True)[2]
        wall, processor, _ = run(command, folder)
        measured += [write("run", "an empty notebook", program, wall, "s"),
                     write("run", "an empty notebook, processor", program, processor, "processor s"),
                     write("run", "memory beside its kernel", program, memory, "MB")]
    return measured


def judge_html(rows: int) -> float:
    "Judge a cell with a table in HTML, one number of which differs; seconds."
    from ml_repo.notebook.cell_diff import Cell
    from ml_repo.verify.cell_check import judge_cell

    def show(number: float) -> Cell:
        table = "".join(f"<tr><td>{row}</td><td>{row * 0.37:.4f}</td><td>{row * 1.7 + (row == rows // 2) * number:.4f}</td></tr>\n" for row in range(rows))
        output = nbformat.v4.new_output("display_data", {"text/html": f"<table>{table}</table>", "text/plain": "a table"})
        return Cell(1, "code", "show(table)", [output])

    cells = show(0.0), show(0.5)
    begin = time.perf_counter()
    judged = judge_cell(*cells)
    assert judged.verdict != "identical", judged
    return time.perf_counter() - begin


def measure_verify(folder: Path, quick: bool) -> list[dict[str, Any]]:
    "Measure a verification beside its run."
    for command in (RUN, VERIFY):
        run(command, folder)
    ran, verified = run(RUN, folder), run(VERIFY, folder)
    judge_html(100)
    return [write("verify", "run of an empty notebook", "ml_repo", ran[0], "s"),
            write("verify", "verify of this run", "ml_repo", verified[0], "s"),
            write("verify", "verify, in times the run", "ml_repo", verified[0] / ran[0], "runs"),
            write("verify", "verify, in times the run, processor", "ml_repo", verified[1] / ran[1], "runs"),
            write("verify", "judging a cell with 2 MB of HTML", "ml_repo", judge_html(4_000 if quick else 45_000), "s")]


def main() -> None:
    parser = make_parser(__doc__, "less HTML", "leave papermill out")
    parser.add_argument("row", choices=["run", "verify"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        make_repository(Path(folder))
        measured = measure_run(Path(folder), options.ours) if options.row == "run" else measure_verify(Path(folder), options.quick)
    keep(measured, options.json)


if __name__ == "__main__":
    main()
