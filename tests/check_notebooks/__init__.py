"""Notebooks as strangers write them, some with a planted cause that `ml-repo check` has to find, some without any.

Each list is a text file: `==== name rule` begins a notebook, `# %%` a cell. Behind that: `!` marks the cell of the cause, `[3]` is the
count of execution, `tags=parameters` a tag, `[markdown]` a cell of text. `nbformat3` in the first line asks for that old format.
"""
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat


@dataclass
class Checked:
    """A notebook, and what is planted in it."""

    name: str
    rule: str = ""  # that finds the planted cause; empty for a clean notebook
    cell: int = 0  # number of the cell of the cause, from 1
    version: int = 4  # of the format
    cells: list[nbformat.NotebookNode] = field(default_factory=list)

    def build(self) -> nbformat.NotebookNode:
        """Build the notebook."""
        notebook = nbformat.v4.new_notebook(cells=self.cells)
        return nbformat.convert(notebook, self.version) if self.version < 4 else notebook

    def write(self, folder: Path) -> Path:
        """Write the notebook under its name."""
        nbformat.write(self.build(), folder / f"{self.name}.ipynb")
        return folder / f"{self.name}.ipynb"


def read_list(name: str) -> list[Checked]:
    """Read a list of notebooks."""
    text = (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8")
    found = []
    for part in text.split("==== ")[1:]:
        first, _, rest = part.partition("\n")
        title, *words = first.split()
        notebook = Checked(title, next((word for word in words if word != "nbformat3"), ""), version=3 if "nbformat3" in words else 4)
        for number, cell in enumerate(re.split(r"^# %%(?=\s)", rest, flags=re.MULTILINE)[1:], 1):
            header, _, source = cell.partition("\n")
            if "[markdown]" in header:
                made = nbformat.v4.new_markdown_cell(re.sub(r"^# ?", "", source.strip(), flags=re.MULTILINE))
            else:
                made = nbformat.v4.new_code_cell(source.strip(), metadata={"tags": re.findall(r"tags=(\w+)", header)})
                made.execution_count = next(map(int, re.findall(r"\[(\d+)\]", header)), None)
            notebook.cells.append(made)
            notebook.cell = number if f"!{notebook.rule}" in header and notebook.rule else notebook.cell
        found.append(notebook)
    return found
