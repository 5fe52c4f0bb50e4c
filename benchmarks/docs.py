"""How long the pages of this repository take to build: all of them, and after a sentence changed in one notebook; for benchmarks/table.py.

    .venv/bin/python benchmarks/docs.py --json FILE     some minutes

A copy of this tree in a temporary folder is built whole, then a sentence is added to one guide and it is built again, and once more with nothing
changed. Processor seconds of `ml-repo docs` and all that it starts; the pages of the records are left out. After each build the page of the guide
must say what the notebook says.
"""
import json
import os
import resource
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from measurements import keep, make_parser

ROOT = Path(__file__).resolve().parent.parent
GUIDE, SENTENCE = "server", "This sentence was not here before."


def build(project: Path) -> float:
    "Build the pages; processor seconds."
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", str(ROOT))}
    subprocess.run([Path(sys.executable).parent / "ml-repo", "docs", "--no-experiments"], cwd=project, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def add_sentence(project: Path) -> None:
    "Add a sentence to a guide."
    path = project / "nbs" / "guides" / f"{GUIDE}.ipynb"
    notebook = json.loads(path.read_text())
    cell = next(cell for cell in notebook["cells"][1:] if cell["cell_type"] == "markdown")
    cell["source"] = ["".join(cell["source"]), f"\n\n{SENTENCE}"]
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    options = make_parser(__doc__, "the same; nothing can be left out", "the same; there is no peer").parse_args()
    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / "project"
        subprocess.run(["git", "clone", "--quiet", ROOT, project], check=True)
        taken = {"the whole build": build(project)}
        add_sentence(project)
        taken["a sentence changed in one notebook"] = build(project)
        pages = [page for page in (project / "_docs").rglob(f"{GUIDE}.html") if SENTENCE in page.read_text()]
        assert pages, "the page does not say what its notebook says"
        taken["nothing changed"] = build(project)
    whole = taken["the whole build"]
    measured: list[dict[str, Any]] = [{"row": "docs", "what": what, "program": "ml_repo", "version": version("ml_repo"), "value": round(value, 2),
                                       "unit": "processor s"} for what, value in taken.items()]
    for what, value in list(taken.items())[1:]:
        measured.append({"row": "docs", "what": f"{what}, of the whole build", "program": "ml_repo", "version": version("ml_repo"),
                         "value": round(value / whole, 4), "unit": "of it"})
    keep(measured, options.json)


if __name__ == "__main__":
    main()
