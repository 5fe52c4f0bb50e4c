#!/bin/sh
# marimo 0.25.2: `marimo export ipynb` writes a notebook that marimo refuses to run, in another order, and exits with 0.
#
# marimo runs no cell that defines a name which another cell defines, too. Its export to Jupyter takes the order of the
# file then, in place of the order of what cells define and use, and says so in a warning on stderr. Whoever runs the
# export in a pipeline gets numbers from a notebook that has none in marimo.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check marimo==0.25.2 nbformat==5.11.1
cd "$folder"
cat > twice.py <<'TEXT'
import marimo

app = marimo.App()


@app.cell
def _():
    x = 1
    return (x,)


@app.cell
def _():
    x = 2
    return (x,)


if __name__ == "__main__":
    app.run()
TEXT
if "$folder/venv/bin/python" twice.py > run.txt 2>&1; then echo "marimo runs it: this finding is out of date"; exit 1; fi
tail -n 1 run.txt
"$folder/venv/bin/marimo" export ipynb twice.py -o twice.ipynb 2> words.txt
echo "marimo export ipynb: exit status $?, and on stderr:"
cat words.txt
grep -q '"x = 2"' twice.ipynb
