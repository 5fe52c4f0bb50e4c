#!/bin/sh
# Jupytext 1.19.6 reads a source export of Databricks without a word, and its magic cells become text that never runs.
#
# A file that begins with `# Databricks notebook source` has cells between `# COMMAND ----------`, and what is not plain
# Python stands behind `# MAGIC`. Jupytext has no such format and takes the file for one of its light scripts, where a
# paragraph of comments is Markdown. So `%sh`, `%python`, `%pip` and `%run` cells are gone from the code: the notebook
# runs to its end, without the step that wrote its data.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupytext==1.19.6
cd "$folder"
cat > train.py <<'TEXT'
# Databricks notebook source
# MAGIC %python
# MAGIC rate = 0.1

# COMMAND ----------

# MAGIC %sh
# MAGIC echo 1 > data.csv

# COMMAND ----------

print("the only code that is left")
TEXT
"$folder/venv/bin/python" - <<'PY'
import jupytext

cells = jupytext.read("train.py").cells
for cell in cells:
    print(cell.cell_type, repr(cell.source))
code = [cell.source for cell in cells if cell.cell_type == "code"]
assert code == ['print("the only code that is left")'], "this finding is out of date"
PY
