"""Projects of other people, as they are found: without settings, started from any folder, by any program."""
import json
from pathlib import Path

import nbformat
import pytest
from conftest import checked, run


def write_notebook(path: Path, *sources: str, tagged: int = 0) -> Path:
    """Write a notebook of code cells; the cell with the number `tagged` (from 1) has the parameters."""
    cells = [nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if number == tagged else {})
             for number, source in enumerate(sources, 1)]
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), path)
    return path


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository of git that knows nothing of this library."""
    folder = tmp_path / "clone"
    folder.mkdir()
    checked("git", "init", "-q", folder)
    return folder


def list_records(folder: Path) -> list[str]:
    """The records below a folder, by their paths."""
    return sorted(path.parent.relative_to(folder).as_posix() for path in folder.rglob("record.json"))


def test_a_clone_has_one_folder_of_records(clone):
    write_notebook(clone / "papers" / "vision" / "fit.ipynb", "from ml_repo import start_run\nstart_run().log(loss=0.5)")
    checked("ml-repo", "run", "fit.ipynb", "--quiet", cwd=clone / "papers" / "vision")
    checked("ml-repo", "run", "papers/vision/fit.ipynb", "--quiet", cwd=clone)
    (elsewhere := clone.parent / "elsewhere").mkdir()
    checked("ml-repo", "run", clone / "papers" / "vision" / "fit.ipynb", "--quiet", cwd=elsewhere)
    assert [Path(name).parent.as_posix() for name in list_records(clone)] == ["experiments"] * 3
    listed = {checked("ml-repo", "ls", "--csv", cwd=folder) for folder in (clone, clone / "papers", clone / "papers" / "vision")}
    assert len(listed) == 1 and listed.pop().count("fit-") >= 3
    checked("git", "add", "papers", cwd=clone)
    checked("git", "commit", "-qm", "Add a notebook", cwd=clone)
    assert "identical" in checked("ml-repo", "verify", "latest", cwd=clone / "papers")


def test_outside_of_git_records_lie_where_the_command_was_given(tmp_path):
    write_notebook(tmp_path / "fit.ipynb", "print(1)")
    (tmp_path / "here").mkdir()
    checked("ml-repo", "run", "../fit.ipynb", "--quiet", cwd=tmp_path / "here")
    assert list_records(tmp_path)[0].startswith("here/experiments/")
    assert run("ml-repo", "show", cwd=tmp_path / "here").returncode == 0


@pytest.fixture
def project(clone: Path) -> Path:
    """A project with notebooks in a folder of their own, written for that folder."""
    (clone / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    (clone / "data").mkdir()
    (clone / "data" / "x.csv").write_text("1,2\n")
    return clone


@pytest.mark.parametrize(("source", "folder", "place"), [
    ("open('data/x.csv')", "nbs", ".."),
    ("import helpers", ".", "nbs"),
])
def test_a_failed_run_names_the_folder_of_what_it_missed(project, source, folder, place):
    notebook = write_notebook(project / "nbs" / "fit.ipynb", source)
    (project / "nbs" / "helpers.py").touch()
    done = run("ml-repo", "run", notebook, "--quiet", cwd=project / folder)
    command = f"ml-repo run {notebook} --quiet --cwd {place}"
    assert done.returncode == 1 and f"Run it there: {command}\n" in done.stdout, done.stdout
    repeated = run(*command.split(), cwd=project / folder)
    assert "Run it there" not in repeated.stdout and repeated.returncode == 0, repeated.stdout


def test_papermill_says_at_its_end_where_the_record_is(project):
    write_notebook(project / "nbs" / "fit.ipynb", "print(open('../data/x.csv').read())")
    failed = run("papermill", "nbs/fit.ipynb", "out.ipynb", cwd=project)
    *_, record, hint = failed.stdout.splitlines()
    assert record.startswith("Recorded: experiments/fit-") and "(failed in cell 1). Next: ml-repo show " in record, failed.stdout
    assert hint.endswith("Run it there: papermill nbs/fit.ipynb out.ipynb --cwd nbs")
    done = checked(*hint.rpartition(": ")[2].split(), cwd=project)
    assert done.count("Recorded: ") == 1
    assert "completed" in checked(*done.rpartition("Next: ")[2].split(), cwd=project)
    assert "Recorded" not in checked("papermill", "nbs/fit.ipynb", "out.ipynb", "--cwd", "nbs", "--no-progress-bar", cwd=project)


@pytest.mark.parametrize("command", [("ml-repo", "run", "fit.ipynb"), ("papermill", "fit.ipynb", "out.ipynb")], ids=" ".join)
def test_a_value_without_a_type_is_passed_and_told(project, command):
    write_notebook(project / "fit.ipynb", "lr = 0.01\nepochs = 3", "print('lr is', repr(lr), epochs)", tagged=1)
    printed = checked(*command, "-p", "lr", "hello", "-p", "epoch", "1", cwd=project)
    assert "lr was given as 'hello', of type str, and its default 0.01 is of type float." in printed
    assert "it would be refused: lr: float = 0.01" in printed
    assert "does not set epoch, which was given" in printed and "Did you mean epochs? It sets: lr, epochs." in printed
    record = json.loads(next(project.glob("experiments/*/record.json")).read_text())
    assert "lr is 'hello' 3" in (project / "experiments" / record["id"] / "log.txt").read_text()
    assert len(record["warnings"]) >= 2
    printed = checked(*command, "-p", "lr", "1", "-r", "epochs", "1", cwd=project)
    assert "lr was given" not in printed and "epochs was given as '1', of type str" in printed


@pytest.mark.parametrize("words", [("jupyter", "execute", "nbs/fit.ipynb"),
                                   ("jupyter", "nbconvert", "--to", "notebook", "--execute", "--output", "other.ipynb", "nbs/fit.ipynb")], ids=" ".join)
def test_a_notebook_that_another_program_executes_has_its_name(project, words):
    sources = "lr = 0.5", "from ml_repo import start_run\nrun = start_run()", "run.log(loss=lr)"
    write_notebook(project / "nbs" / "fit.ipynb", *sources, tagged=1)
    write_notebook(project / "nbs" / "other.ipynb", *sources[:2], "run.log(loss=1)", tagged=1)
    checked(*words, cwd=project)
    record = json.loads(next(project.glob("experiments/*/record.json")).read_text())
    assert record["notebook"] == "nbs/fit.ipynb" and record["parameters"] == {"lr": {"default": 0.5, "used": 0.5}}
    assert not any("did not say" in warning for warning in record["warnings"])


def test_a_notebook_that_nobody_names_is_said_to_be_unknown(project):
    write_notebook(project / "nbs" / "fit.ipynb", "from ml_repo import start_run\nrun = start_run()\nrun.log(loss=1)")
    (project / "elsewhere").mkdir()
    program = ("import nbclient, nbformat; nb = nbformat.read(open('nbs/fit.ipynb'), 4); "
               "nbclient.NotebookClient(nb, resources={'metadata': {'path': 'elsewhere'}}).execute()")
    checked("python", "-c", program, cwd=project)
    record = json.loads(next(project.glob("experiments/*/record.json")).read_text())
    assert record["notebook"] == "interactive.ipynb" and "did not say which notebook it runs" in " ".join(record["warnings"])
    checked("python", "-c", program.replace("'path': 'elsewhere'", "'path': 'nbs'"), cwd=project)
    assert "nbs/fit.ipynb" in checked("ml-repo", "show", "latest", cwd=project)


def test_a_list_says_that_runs_read_other_data(project):
    write_notebook(project / "fit.ipynb", "lr = 0.1", "from ml_repo import start_run\nsize = len(open('data/x.csv').read())\n"
                   "start_run().log(accuracy=size * lr)", tagged=1)
    checked("ml-repo", "run", "fit.ipynb", "--quiet", "--tag", "first", cwd=project)
    assert "Not the same" not in checked("ml-repo", "ls", cwd=project)
    (project / "data" / "x.csv").write_text("1,2\n3,4\n")
    checked("ml-repo", "run", "fit.ipynb", "--quiet", "-p", "lr", "0.3", cwd=project)
    for words in (("ls",), ("ls", "--seeds"), ("best",), ("compare", "latest", "first", "--alone")):
        printed = checked("ml-repo", *words, cwd=project)
        assert printed.count("Not the same data: another data/x.csv in ") == 1 and "Not the same code" not in printed, printed
