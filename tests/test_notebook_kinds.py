"""Notebooks of every age and tool run here, or a sentence says why not."""
import json
import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import ROOT, checked, run

from ml_repo.core.bounds import ParameterError
from ml_repo.execution.launch import run_notebook
from ml_repo.formats.notebook_files import load_notebook
from ml_repo.notebook.forms import read_contract
from ml_repo.records.reader import Record

PYTHON = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
TAGGED = {"tags": ["parameters"]}
USE = "print('loss', lr * 2)"


def notebook(*cells: Any, minor: int = 5, **metadata: Any) -> str:
    """A notebook of version 4, as JSON; a cell is a source, or a source with metadata."""
    made = []
    for number, cell in enumerate(cells):
        source, about = cell if isinstance(cell, tuple) else (cell, {})
        kind = "markdown" if source.startswith("# ") else "code"
        made.append({"cell_type": kind, "metadata": about, "source": source} | ({"id": f"c{number}"} if minor >= 5 else {})
                    | ({"execution_count": None, "outputs": []} if kind == "code" else {}))
    return json.dumps({"cells": made, "metadata": metadata or PYTHON, "nbformat": 4, "nbformat_minor": minor}, indent=1)


def old_notebook(*sources: str, version: int = 3) -> str:
    """A notebook of version 2 or 3, with worksheets."""
    cells = [{"cell_type": "code", "collapsed": False, "input": source, "language": "python", "metadata": TAGGED if number == 0 else {},
              "outputs": [], "prompt_number": number} for number, source in enumerate(sources)]
    for cell in cells if version == 2 else ():
        del cell["metadata"]
    return json.dumps({"metadata": {"name": "old"}, "nbformat": version, "nbformat_minor": 0, "worksheets": [{"cells": cells}]})


DATABRICKS = """# Databricks notebook source
# MAGIC %md
# MAGIC # Train

# COMMAND ----------

# DBTITLE 1,Settings
dbutils.widgets.text("lr", "0.1", "step size")
dbutils.widgets.dropdown("optimizer", "adam", ["adam", "sgd"])

# COMMAND ----------

lr = float(dbutils.widgets.get("lr"))
print('loss', lr * 2, dbutils.widgets.get("optimizer"))

# COMMAND ----------

# MAGIC %sh
# MAGIC echo from a shell
"""
DATABRICKS_METADATA = {"application/vnd.databricks.v1+notebook": {"language": "python", "notebookName": "train", "widgets": {}},
                       "language_info": {"name": "python"}}
COLAB = {"colab": {"provenance": []}, "accelerator": "GPU", "kernelspec": {"name": "python3", "display_name": "Python 3"},
         "language_info": {"name": "python"}}
MARIMO = """import marimo

__generated_with = "0.25.2"
app = marimo.App()


@app.cell
def _(lr):
    print("loss", lr * 2)
    return


@app.cell
def _():
    lr = 0.1
    return (lr,)


if __name__ == "__main__":
    app.run()
"""
QUARTO = "---\ntitle: T\njupyter: python3\n---\n\n```{python}\n#| tags: [parameters]\nlr = 0.1\n```\n\nText.\n\n```{python}\nprint('loss', lr * 2)\n```\n"
RUN = {  # by name of the file: its content; each prints "loss 0.4" where lr is given as 0.2
    "worksheets.ipynb": old_notebook("lr = 0.1", USE),
    "no_ids_no_kernel.ipynb": notebook(("lr = 0.1", TAGGED), USE, minor=0, language_info={"name": "python"}, orig_nbformat=4),
    "same_ids_and_mark.ipynb": "\ufeff" + notebook(("lr = 0.1", TAGGED), USE, "# Text").replace('"c2"', '"c1"'),
    "colab.ipynb": notebook(("#@title Train\nlr = 0.1 #@param {type:\"number\"}\nprint('loss', lr * 2)", {"cellView": "form"}), **COLAB),
    "databricks_export.ipynb": notebook('dbutils.widgets.text("lr", "0.1")', "%md\n# Text", 'print("loss", 2 * float(dbutils.widgets.get("lr")))',
                                        minor=0, **DATABRICKS_METADATA),
    "databricks.py": DATABRICKS,
    "percent.py": "# %% [markdown]\n# # Title\n\n# %% tags=[\"parameters\"]\nlr: float = 0.1\n\n# %%\n# %matplotlib inline\nprint('loss', lr * 2)\n",
    "spyder.py": "# -*- coding: utf-8 -*-\n#%% Settings\nlr = 0.1\n#%% Train\nprint('loss', lr * 2)\n",
    "quarto.qmd": QUARTO,
}
OFTEN = ["worksheets.ipynb", "colab.ipynb", "databricks.py", "spyder.py"]  # the others in the slow suite
FAIL = {  # by name of the file: its content, and what the hint says
    "drive.ipynb": (notebook("from google.colab import drive\ndrive.mount('/content/drive')", **COLAB), "google.colab exists on Colab only"),
    "content.ipynb": (notebook("open('/content/data.csv')", **COLAB), "/content is the disk of Colab"),
    "kaggle.ipynb": (notebook("open('/kaggle/input/titanic/train.csv')", kaggle={"accelerator": "none"}, **PYTHON), "/kaggle is the disk of Kaggle"),
    "spark.py": (DATABRICKS + "\n# COMMAND ----------\n\nspark.range(3)\n", "SparkSession"),
    "sql.py": (DATABRICKS + "\n# COMMAND ----------\n\n# MAGIC %sql\n# MAGIC SELECT 1\n", "pip install jupysql"),
    "files.py": (DATABRICKS + "\n# COMMAND ----------\n\ndbutils.fs.ls('/')\n", "Read files by their path"),
    "shell.ipynb": (notebook(("echo hi", {"vscode": {"languageId": "shellscript"}})), "Let it begin with a line %%bash"),
    "python2.ipynb": (old_notebook("lr = 0.1", "print 'loss', lr"), "This is Python 2"),
}
REFUSED = {  # by name of the file: its content, and what the sentence says
    "conflict.ipynb": (notebook("x = 1").replace(' "cells"', '<<<<<<< HEAD\n "cells"'), "a merge that was not finished (line 2"),
    "after.ipynb": (notebook("x = 1") + "\n}\n", "goes on after its end"),
    "cut.ipynb": (notebook("x = 1")[:60], "is damaged at line"),
    "empty.ipynb": ("", "it is empty"),
    "page.ipynb": ("<!DOCTYPE html><html></html>", "a page of HTML"),
    "pointer.ipynb": ("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "git lfs pull"),
    "environment.ipynb": (notebook("x = 1", kernelspec={"name": "conda-env-foo-py", "display_name": "foo", "language": "python"}),
                          "python3 has the language of the notebook"),
    "r.ipynb": (notebook("x <- 1", kernelspec={"name": "ir", "display_name": "R", "language": "R"}), "IRkernel"),
    "julia.ipynb": (notebook("x = 1", kernelspec={"name": "julia-1.9", "display_name": "Julia", "language": "julia"}), "IJulia"),
    "scala.ipynb": (notebook(("val x = 1", {"language": "scala"}), config={}, language_info={"name": "scala"}), "none of scala is installed"),
    "zeppelin.zpln": ('{"paragraphs": [], "name": "n"}', "a notebook of Zeppelin"),
    "archive.dbc": ("PK\3\4", "an archive, such as Databricks' .dbc"),
    "scala.scala": ("// Databricks notebook source\nval x = 1\n", "Databricks in Scala"),
    "r.Rmd": ("```{r}\nx <- 1\n```\n", "holds R"),
    "program.py": ("import math\nprint(math.pi)\n", "is a program without cells"),
    "page.md": ("# Title\n\n```python\nx = 1\n```\n", "is a text without cells"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A repository that keeps records, with all of these files."""
    folder = tmp_path_factory.mktemp("kinds")
    for name, content in RUN.items():
        (folder / name).write_text(content)
    for name, (content, _) in (FAIL | REFUSED).items():
        (folder / name).write_text(content)
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        checked("git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@localhost", *words)
    return folder


def execute(project: Path, name: str, monkeypatch: pytest.MonkeyPatch, **given: Any) -> Record:
    """Run a notebook as `ml-repo run` does."""
    monkeypatch.chdir(project)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    return run_notebook(name, given, quiet=True, claim=None)


def printed(record: Record) -> str:
    """What the cells of a run printed."""
    return "".join("".join(output.get("text", "")) for cell in record.executed["cells"] for output in cell.get("outputs", []))


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in RUN])
def test_it_runs_with_a_given_value(name, project, monkeypatch):
    record = execute(project, name, monkeypatch, lr=0.2)
    assert record["state"] == "completed" and record["notebook"] == name
    assert "loss 0.4" in printed(record)
    used = record["parameters"]["lr"]["used"]
    assert used == ("0.2" if "databricks" in name else 0.2)
    assert not [warning for warning in record["warnings"] if "lr" in warning]
    if name == "databricks.py":
        assert "from a shell" in printed(record)


@pytest.mark.parametrize("name", REFUSED)
def test_a_sentence_says_why_it_does_not_run(name, project, monkeypatch):
    with pytest.raises(ValueError) as error:
        execute(project, name, monkeypatch)
    assert REFUSED[name][1] in str(error.value) and name in str(error.value)


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in ("spark.py", "sql.py") else pytest.mark.slow) for name in FAIL])
def test_a_run_that_fails_names_the_platform(name, project, monkeypatch):
    record = execute(project, name, monkeypatch)
    assert record["state"] == "failed" and FAIL[name][1] in record["cause"]["hint"]


def find_last(project: Path, name: str) -> str:
    """The id of the last run of a notebook."""
    return max(folder.name for folder in (project / "experiments").glob(f"{name}-*"))


def test_papermill_runs_a_text_and_it_verifies(project, tmp_path):
    checked("papermill", "percent.py", tmp_path / "out.ipynb", "-p", "lr", "0.2", "--no-progress-bar", cwd=project)
    assert "loss 0.4" in (tmp_path / "out.ipynb").read_text()
    assert "identical" in checked("ml-repo", "verify", find_last(project, "percent"), cwd=project)


@pytest.mark.slow
def test_a_change_of_the_text_is_named(project):
    checked("ml-repo", "run", "quarto.qmd", "-p", "lr", "0.2", cwd=project)
    first = find_last(project, "quarto")
    (project / "quarto.qmd").write_text(QUARTO.replace("lr * 2", "lr * 3"))
    checked("ml-repo", "run", "quarto.qmd", "-p", "lr", "0.2", cwd=project)
    (project / "quarto.qmd").write_text(QUARTO)
    second = find_last(project, "quarto")
    shown = checked("ml-repo", "diff", first, second, cwd=project)
    assert "+print('loss', lr * 3)" in shown and "quarto.qmd" in shown
    assert "identical" in checked("ml-repo", "verify", second, cwd=project)  # with the change, from its patch


@pytest.mark.slow
@pytest.mark.parametrize("name", ["colab.ipynb", "databricks.py"])
def test_values_behind_their_lines_verify(name, project):
    """The notebook is that of the repository, although a cell of it was cut for the value."""
    checked("ml-repo", "run", name, "-p", "lr", "0.2", cwd=project)
    run_id = find_last(project, Path(name).stem)
    assert "identical" in checked("ml-repo", "verify", run_id, cwd=project)
    shown = checked("ml-repo", "rerun", run_id, "-p", "lr", "0.3", cwd=project)
    assert "loss 0.6" in shown


def test_papermill_elsewhere_reads_as_before(tmp_path):
    """Without a word in settings.ini, papermill says what it says without this package."""
    (tmp_path / "percent.py").write_text(RUN["percent.py"])
    done = run("papermill", "percent.py", "out.ipynb", cwd=tmp_path)
    assert done.returncode and "NotJSONError" in done.stdout


def test_what_a_form_declares_is_checked(project, monkeypatch):
    cell = ("units = 4 #@param {type:\"slider\", min:0, max:10, step:1}\noptimizer = \"adam\" #@param [\"adam\", \"sgd\"]\n"
            "day = \"2024-01-01\" #@param {type:\"date\"}")
    (project / "forms.ipynb").write_text(notebook(cell, **COLAB))
    (project / "widgets.py").write_text(DATABRICKS)
    assert [one.type for one in read_contract(project / "forms.ipynb").parameters] == ["int", "str", "str"]
    for name, given, sentence in [("forms.ipynb", {"units": 11}, "at most 10"), ("forms.ipynb", {"optimizer": "rmsprop"}, "adam, sgd"),
                                  ("forms.ipynb", {"units": "many"}, "int"), ("widgets.py", {"optimizer": "rmsprop"}, "adam, sgd")]:
        with pytest.raises(ParameterError, match=sentence):
            execute(project, name, monkeypatch, **given)
    shown = checked("ml-repo", "params", "widgets.py", cwd=project)
    assert "optimizer" in shown and "one of: adam, sgd" in shown


@pytest.mark.parametrize("format_", ["py:percent", "py:hydrogen", "py:light", "md:markdown", "md:myst", "Rmd:rmarkdown"])
def test_what_jupytext_writes_is_read_back(format_, tmp_path):
    import jupytext

    sources = ["lr = 0.1", "%matplotlib inline\nimport math", "!echo hi", "%%bash\necho shell", "def f(x):\n    return x\n\n\ndef g(x):\n    return f(x)"]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Title"), *map(nbformat.v4.new_code_cell, sources)], metadata=PYTHON)
    nb.cells[1].metadata.tags = ["parameters"]
    file = tmp_path / f"a.{format_.partition(':')[0]}"
    file.write_text(jupytext.writes(nb, format_))
    read = load_notebook(file)
    assert [cell["source"] for cell in read["cells"]] == ["# Title", *sources]
    assert [one.name for one in read_contract(file).parameters] == ["lr"] and read["metadata"]["kernelspec"] == PYTHON["kernelspec"]


def test_a_pair_out_of_step_is_told(project, monkeypatch):
    (project / "pair.ipynb").write_text(notebook("lr = 0.1", "print(lr)", jupytext={"formats": "ipynb,py:percent"}, **PYTHON))
    (project / "pair.py").write_text("# %%\nlr = 0.1\n\n# %%\nprint(lr, 'new')\n")
    record = execute(project, "pair.ipynb", monkeypatch)
    assert any("pair.py" in warning and "from code cell 2 on" in warning for warning in record["warnings"])


def test_a_text_is_checked_as_a_notebook(project):
    (project / "drawn.py").write_text("# %%\nimport numpy as np\n\n# %%\nprint(np.random.rand(3))\n")
    done = run("ml-repo", "check", "drawn.py", cwd=project)
    assert done.returncode == 1 and "Cell 2" in done.stdout and "no seed" in done.stdout
    done = run("ml-repo", "check", "conflict.ipynb", cwd=project)
    assert done.returncode == 2 and "a merge that was not finished" in done.stdout


@pytest.fixture(scope="module")
def marimo(tmp_path_factory) -> Path:
    """The programs of an environment that has marimo and this package."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    checked("uv", "venv", "--quiet", "--python", sys.executable, folder)
    checked("uv", "pip", "install", "--quiet", "--python", folder / "bin" / "python", "marimo>=0.25", "-e", ROOT)
    return folder / "bin"


@pytest.mark.slow
def test_marimo_exports_its_notebooks(marimo, project):
    (project / "app.py").write_text(MARIMO)
    assert "pip install marimo" in run("ml-repo", "run", "app.py", cwd=project).stdout
    path = f"{marimo}{os.pathsep}{os.environ['PATH']}"
    shown = checked(marimo / "ml-repo", "run", "app.py", "-p", "lr", "0.2", cwd=project, PATH=path)
    assert "loss 0.4" in shown
    assert "identical" in checked(marimo / "ml-repo", "verify", "latest", cwd=project, PATH=path)
    (project / "broken.py").write_text(MARIMO.replace("lr = 0.1", "lr = ("))
    refused = run(marimo / "ml-repo", "run", "broken.py", cwd=project, PATH=path)
    assert refused.returncode == 2 and "broken.py" in refused.stdout and "Traceback" not in refused.stdout
    (project / "twice.py").write_text(MARIMO.replace('print("loss", lr * 2)', "lr = 5").replace("_(lr)", "_()"))
    refused = run(marimo / "ml-repo", "run", "twice.py", cwd=project, PATH=path)  # marimo's export orders it otherwise, and ends with 0
    assert refused.returncode == 2 and "marimo check twice.py" in refused.stdout
