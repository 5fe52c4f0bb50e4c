#!/bin/sh
# papermill 2.7.0 with ipykernel 7.4.0: a run that ends by sys.exit() in a cell counts as complete; its later cells never ran.
#
# sys.exit(), sys.exit(0) and raise SystemExit: papermill returns as after a success, no cell has an error, and the cells
# below have never run. sys.exit("text") raises PapermillExecutionError. So a guard such as
# `if table.empty: sys.exit(0)` makes a run without results that looks like one with results.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check papermill==2.7.0 nbclient==0.11.0 ipykernel==7.4.0
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
from importlib.metadata import version

import nbformat
import papermill

spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
seen = {}
for end in ("import sys; sys.exit()", "import sys; sys.exit(0)", "raise SystemExit", "import sys; sys.exit('no data')"):
    cells = [nbformat.v4.new_code_cell(text) for text in (end, "print('later')")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), "in.ipynb")
    try:
        papermill.execute_notebook("in.ipynb", "out.ipynb", progress_bar=False)
        status = "complete"
    except papermill.PapermillExecutionError:
        status = "failed"
    later = nbformat.read("out.ipynb", 4).cells[-1]
    seen[end] = status, bool(later.outputs)
    print(f"{end:35} {status}, later cell ran: {bool(later.outputs)}")
print("papermill", version("papermill"), "ipykernel", version("ipykernel"))
complete, failed = ("complete", False), ("failed", False)
assert list(seen.values()) == [complete, complete, complete, failed], "this finding is out of date"
PY
