#!/bin/sh
# papermill 2.7.0 with nbclient 0.11.0: after a timeout, all cells of the output say "completed", also those that never ran.
#
# A program that reads the executed notebook to learn how a run ended finds metadata.papermill.status == "completed" and
# exception == false in the cell that was cut off, "completed" in the cells below it, and no "exception" in the
# metadata of the notebook. Seen here: the cell that sleeps is cut off after two seconds. What tells the truth is the
# output of the type "error" in that cell, and execution_count, which is null in the cells that never ran.
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

cells = [nbformat.v4.new_code_cell(text) for text in ("1 + 1", "import time; time.sleep(1000)", "print('never')")]
spec = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=spec), "in.ipynb")
try:
    papermill.execute_notebook("in.ipynb", "out.ipynb", progress_bar=False, execution_timeout=2)
except Exception as error:
    print("raised:", type(error).__name__)
notebook = nbformat.read("out.ipynb", 4)
for cell in notebook.cells:
    print(cell.metadata.papermill.status, cell.metadata.papermill.exception, "execution_count", cell.execution_count,
          [output.output_type for output in cell.outputs])
print(f"papermill {version('papermill')}; the notebook says exception:", notebook.metadata.papermill.get("exception"))
assert [cell.metadata.papermill.status for cell in notebook.cells] == ["completed"] * 3, "this finding is out of date"
assert notebook.cells[2].execution_count is None and not notebook.metadata.papermill.get("exception")
PY
