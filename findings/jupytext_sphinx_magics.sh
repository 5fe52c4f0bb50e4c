#!/bin/sh
# Jupytext 1.19.6, sphinx-gallery format: `%%bash` is lost when it is written, and the shell's lines are read back as Python.
#
# The percent and light formats keep a cell magic (`# %% language="bash"`) and comment its lines out. The sphinx format
# writes the lines alone. A notebook that is paired with it and opened from the text has a cell that is no Python, or,
# worse, is: `ls = 1` in a shell cell sets a variable. A tag `parameters` is lost as well.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupytext==1.19.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY'
import jupytext
from nbformat import v4

nb = v4.new_notebook(cells=[v4.new_code_cell("rate = 0.1", metadata={"tags": ["parameters"]}), v4.new_code_cell("%%bash\necho shell")])
for name in ("py:percent", "py:light", "py:sphinx"):
    back = jupytext.reads(jupytext.writes(nb, name), {"extension": ".py"}).cells
    code = [(cell.source.strip(), cell.metadata.get("tags", [])) for cell in back if cell.cell_type == "code"]
    print(name, code)
    kept = code == [("rate = 0.1", ["parameters"]), ("%%bash\necho shell", [])]
    assert kept == (name != "py:sphinx"), "this finding is out of date"
assert ("echo shell", []) in code
PY
