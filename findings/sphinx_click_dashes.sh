#!/bin/sh
# sphinx-click 6.2.0 with Sphinx 9.0.4: examples in the help of a command come out with an en dash in place of "--".
#
# Click's \b keeps the lines of an example as they are typed, and sphinx-click keeps the lines, too, but as ordinary
# text (a line block): in HTML, Sphinx's smart quotes turn "--grid" into "–grid" and 'a' into curly quotes. Whoever copies
# the command from the page gets an error about an unexpected argument. Option names, which are code, keep their dashes,
# and the text builder shows the example as typed, so a check of that output sees nothing. smartquotes = False mends it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sphinx==9.0.4 sphinx-click==6.2.0 click==8.5.1
mkdir "$folder/pages" && cd "$folder/pages"
cat > tool.py <<'PY'
import click


@click.command()
@click.option("--grid", metavar="NAME=A,B", help="Try all values.")
def tune(grid):
    """Tune a notebook.

    \b
    Example:
      tool --grid lr=0.1,0.01
    """
PY
printf 'import sys\nsys.path.insert(0, ".")\nextensions = ["sphinx_click"]\n' > conf.py
printf '.. click:: tool:tune\n   :prog: tool\n' > index.rst
../venv/bin/sphinx-build -q -b html . html
../venv/bin/sphinx-build -q -b text . text
../venv/bin/python - <<'PY'
from importlib.metadata import version
from pathlib import Path

page, text = Path("html/index.html").read_text(), Path("text/index.txt").read_text()
print("in HTML:", next(line.strip() for line in page.splitlines() if "lr=0.1" in line))
print("as text:", next(line.strip() for line in text.splitlines() if "lr=0.1" in line))
print(f"sphinx-click {version('sphinx-click')}, Sphinx {version('sphinx')}")
assert "tool \u2013grid lr=0.1,0.01" in page and "tool --grid lr=0.1,0.01" in text, "this finding is out of date"
PY
