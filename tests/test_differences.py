"""What differs between two runs is shown, and nothing else: real runs with planted differences."""
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import BIN, ROOT, checked, run

from ml_repo.core.content_store import read_text, store_text
from ml_repo.records.reader import find_records, read_record
from ml_repo.results.diff import Differences, diff_runs

SOURCES = [
    "lr: float = 0.1  # step size, above 0",
    "import helper\nfrom pathlib import Path\nfrom ml_repo.tracking.run import start_run",
    "# Reading\n\nOne file.",
    "content = Path('data/values.bin').read_bytes()\nstart_run().log(split='test', direction='higher', accuracy=0.5)",
    "print(helper.answer())",
]


def write_notebook(path: Path, *sources: str) -> None:
    """Write a notebook; a source that begins with # is Markdown, the first is the cell of parameters."""
    v4 = nbformat.v4
    cells = [v4.new_markdown_cell(one) if one.startswith("# ") else v4.new_code_cell(one) for one in sources]
    cells[0].metadata["tags"] = ["parameters"]
    path.parent.mkdir(exist_ok=True)
    path.chmod(0o644) if path.exists() else None
    nbformat.write(v4.new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}), path)


def git(folder: Path, *arguments: str) -> str:
    return checked("git", "-C", folder, "-c", "user.name=me", "-c", "user.email=me@localhost", "-c", "commit.gpgsign=false", *arguments).strip()


def commit(folder: Path) -> str:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Keep it")
    return git(folder, "rev-parse", "HEAD")


def train(folder: Path, *options: str, status: int = 0) -> Path:
    """Run the notebook as a user does; returns the folder of its record."""
    before = set(find_records(folder / "experiments"))
    result = run("ml-repo", "run", "nbs/train.ipynb", "--quiet", *options, cwd=folder, PYTHONDONTWRITEBYTECODE="1")
    assert result.returncode == status, result.stdout
    (record,) = set(find_records(folder / "experiments")) - before
    return record


def fill(folder: Path) -> Path:
    """Put into `folder` what a small project has."""
    folder.mkdir(parents=True, exist_ok=True)
    write_notebook(folder / "nbs" / "train.ipynb", *SOURCES)
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    (folder / "nbs" / "helper.py").write_text("def answer():\n    return 42\n")
    (folder / "helper.py").write_text("def answer():\n    return 42\n")
    (folder / "data").mkdir()
    (folder / "data" / "values.bin").write_bytes(b"\x00\x01\x02")
    return folder


@pytest.fixture(scope="module")
def started(tmp_path_factory) -> tuple[Path, Path]:
    """A repository with one commit and the record of one run; nobody changes it."""
    folder = fill(tmp_path_factory.mktemp("differences") / "repository")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commit(folder)
    return folder, train(folder)


@pytest.fixture
def project(started, tmp_path) -> tuple[Path, Path]:
    """A copy of the repository, and its first record."""
    folder = tmp_path / "repository"
    shutil.copytree(started[0], folder)
    return folder, folder / "experiments" / started[1].name


def remember(folder: Path) -> dict[Path, bytes]:
    """All files of a repository, what git keeps too."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and not path.is_symlink()}


def diff(first: Path, second: Path, **options) -> Differences:
    """Compare two runs both ways; they show themselves in each form, and leave the repository as it is."""
    before = remember(first.parent.parent)
    found, back = diff_runs(first, second, **options), diff_runs(second, first, **options)
    assert remember(first.parent.parent) == before
    assert list(found) == list(back)
    for one in (found, back):
        assert json.loads(json.dumps(one.to_dict(), allow_nan=False))["first"] == one.first
        assert "\x1b" not in one.text() and one.text() in one._repr_mimebundle_()["text/plain"]
    return found


# One planted difference each


def test_equal_runs_show_nothing(project):
    folder, first = project
    found = diff(first, train(folder), outputs=True)
    assert (dict(found), found.notes) == ({}, [])
    assert found.text() == f"Nothing differs between {found.first} and {found.second}."
    assert diff(first, first).notes == []


def test_one_parameter(project):
    folder, first = project
    found = diff(first, train(folder, "-p", "lr", "0.2"))
    assert (dict(found), found.notes) == ({"parameters": [{"name": "lr", "first": 0.1, "second": 0.2}]}, [])


HUNK = "@@ -1,2 +1,2 @@\n def answer():\n-    return 42\n+    return 43"


def test_one_line_that_was_not_committed(project):
    folder, first = project
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    found = diff(first, train(folder))
    assert (dict(found), found.notes) == ({"code": [{"name": "helper.py", "diff": HUNK}]}, [])


def test_one_line_that_was_committed(project):
    folder, first = project
    old = git(folder, "rev-parse", "HEAD")
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    new = commit(folder)  # the first record, too
    found = diff(first, train(folder))
    assert (dict(found), found.notes) == ({"code": [{"name": "commit", "first": old, "second": new}, {"name": "helper.py", "diff": HUNK}]}, [])


@pytest.mark.slow
def test_what_was_committed_unchanged_is_no_change_of_the_code(project):
    folder, _ = project
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    first = train(folder)
    old, new = git(folder, "rev-parse", "HEAD"), commit(folder)
    found = diff(first, train(folder))
    assert dict(found) == {"code": [{"name": "commit", "first": old, "second": new}]}
    assert found.notes == ["The commits differ, and no file outside of the notebook and the records does."]


def test_one_untracked_file(project):
    folder, first = project
    (folder / "new.py").write_text("x = 1\n")
    found = diff(first, train(folder))
    assert (dict(found), found.notes) == ({"code": [{"name": "new.py", "change": "added", "diff": "@@ -0,0 +1 @@\n+x = 1"}]}, [])


def plant(record: Path, **fields) -> None:
    """Change fields of a record."""
    facts = json.loads((record / "record.json").read_text())
    (record / "record.json").write_text(json.dumps(facts | fields))


def test_one_package(project):
    folder, first = project
    second = train(folder)
    packages = read_record(second)["packages"]
    lines = read_text(second.parent, packages["list"]).splitlines()
    (old,) = [line for line in lines if line.startswith("click==")]
    changed = "".join(f"{'click==0.1' if line == old else line}\n" for line in lines if not line.startswith("rich==")) + "added==1.0\n"
    plant(second, packages=packages | {"list": store_text(second.parent, changed)})
    found = diff(first, second)
    assert list(found) == ["packages"] and found.notes == []
    assert [row["name"] for row in found["packages"]] == ["added", "click", "rich"]
    assert found["packages"][:2] == [{"name": "added", "second": "1.0"}, {"name": "click", "first": old.partition("==")[2], "second": "0.1"}]


def test_one_cell(project):
    folder, first = project
    write_notebook(folder / "nbs" / "train.ipynb", *SOURCES[:-1], "print(helper.answer() + 0)")
    found = diff(first, train(folder))
    assert (dict(found), found.notes) == ({"notebook": [{"name": "cell 5", "diff": "@@ -1 +1 @@\n-print(helper.answer())\n+print(helper.answer() + 0)"}]}, [])


@pytest.mark.slow
def test_cells_that_were_added_removed_and_changed(project):
    folder, first = project
    write_notebook(folder / "nbs" / "train.ipynb", SOURCES[0], "# A new idea", SOURCES[1], SOURCES[3].replace("content", "everything"), SOURCES[4])
    commit(folder)
    found = diff(first, train(folder, "-p", "lr", "0.1"))  # the injected cell moves the others down
    assert list(found) == ["code", "notebook"] and [row["name"] for row in found["code"]] == ["commit"]
    assert [row["name"] for row in found["notebook"]] == ["cell 3 added", "cell 3 removed", "cell 4 → 5"]


def test_one_byte_of_data(project):
    folder, first = project
    (folder / "data" / "values.bin").write_bytes(b"\x00\x01\x03")
    found = diff(first, train(folder))
    assert list(found) == ["data"] and found.notes == []
    (row,) = found["data"]
    assert row["name"] == "data/values.bin" and row["first"] != row["second"]


@pytest.mark.slow
def test_a_metric_a_state_and_an_output(project):
    folder, first = project
    write_notebook(folder / "nbs" / "train.ipynb", *SOURCES[:-1], "start_run().log(split='test', direction='higher', accuracy=0.25)\n1 / 0")
    found = diff(first, train(folder, status=1))
    assert list(found) == ["run", "metrics", "notebook"] and found.notes == []
    assert found["metrics"] == [{"name": "test_accuracy", "first": 0.5, "second": 0.25, "split": "test", "metric": "accuracy", "difference": -0.25, "better": "first"}]
    assert [row["name"] for row in found["run"]] == ["state", "cause"] and "ZeroDivisionError" in found["run"][1]["second"]


@pytest.mark.slow
def test_outputs_on_demand(project):
    folder, first = project
    (folder / "nbs" / "helper.py").write_text("def answer():\n    return 43\n")
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    second = train(folder)
    assert list(diff(first, second)) == ["code"]
    assert diff(first, second, outputs=True)["notebook"] == [{"name": "cell 5, output", "diff": "@@ -1 +1 @@\n-42\n+43"}]


# The code, in all its states


@pytest.mark.slow
def test_two_dirty_trees_from_different_commits(project):
    folder, _ = project
    (folder / "module.py").write_text("a = 1\nb = 2\nc = 3\n")
    (folder / "same.py").write_text("untracked in the first, committed before the second\n")
    first = train(folder)
    (folder / "module.py").unlink()
    (folder / "other.py").write_text("committed\n")
    commit(folder)
    (folder / "module.py").write_text("a = 1\nb = 3\nc = 3\n")
    (folder / "other.py").write_text("committed and edited\n")
    found = diff(first, train(folder))
    assert list(found) == ["code"] and found.notes == []
    assert [(row["name"], row.get("diff")) for row in found["code"][1:]] == [
        ("module.py", "@@ -1,3 +1,3 @@\n a = 1\n-b = 2\n+b = 3\n c = 3"), ("other.py", "@@ -0,0 +1 @@\n+committed and edited")]


ODD = ["two words.py", "it's \"so\".py", "line\nbreak.py", "größe.py", "日本.py", "-n", "tab\t.py", "b b/b.py", " b/x", "a/ b/a.x", ":(exclude)x", "back\\slash.py"]


@pytest.mark.slow
def test_odd_names_binary_files_and_renames(project):
    folder, _ = project
    (folder / "module.py").write_text("".join(f"{number}\n" for number in range(20)))
    (folder / "weights.bin").write_bytes(bytes(range(256)))
    for name in ODD:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("1\n")
    commit(folder)
    first = train(folder)
    (folder / "module.py").rename(folder / "moved module.py")
    (folder / "weights.bin").write_bytes(bytes(range(255, -1, -1)))
    for name in ODD:
        (folder / name).write_text("2\n")
    found = diff(first, train(folder))
    assert list(found) == ["code"] and found.notes == []
    rows = {row["name"]: row for row in found["code"]}
    assert rows.pop("weights.bin")["diff"] == "binary files differ"
    assert rows.pop("module.py → moved module.py") == {"name": "module.py → moved module.py", "change": "renamed", "diff": ""}
    assert set(rows) == set(ODD) and {row["diff"] for row in rows.values()} == {"@@ -1 +1 @@\n-1\n+2"}
    assert "line\\nbreak.py" in found.text()


def test_a_commit_that_is_missing(project, tmp_path):
    folder, first = project
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    commit(folder)
    (folder / "helper.py").write_text("def answer():\n    return 44\n")
    second = train(folder)
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copytree(folder / "experiments", alone / "experiments")
    here = os.getcwd()
    os.chdir(alone)
    try:
        found = diff(alone / "experiments" / first.name, alone / "experiments" / second.name)
    finally:
        os.chdir(here)
    assert [row["name"] for row in found["code"]] == ["commit", "patch of helper.py"]
    assert "is in no clone at hand" in found.notes[0] and found.notes[-1].startswith("So the patches are compared as texts")
    os.chdir(folder)
    try:  # from inside of a clone that has the commits
        found = diff_runs(alone / "experiments" / first.name, alone / "experiments" / second.name)
    finally:
        os.chdir(here)
    assert found.notes == [] and found["code"][1]["diff"] == HUNK.replace("43", "44")


@pytest.mark.slow
def test_records_of_two_clones(project, tmp_path):
    folder, first = project
    other = tmp_path / "clone"
    checked("git", "clone", "--quiet", folder, other)
    (other / "data").mkdir()
    shutil.copy(folder / "data" / "values.bin", other / "data")
    (other / "helper.py").write_text("def answer():\n    return 43\n")
    commit(other)
    found = diff_runs(first, train(other))
    assert found.notes == [] and list(found) == ["code"]
    assert found["code"][1] == {"name": "helper.py", "diff": HUNK}


@pytest.mark.slow
def test_a_patch_without_its_secret(project):
    folder, _ = project
    secret = "gh" + "p_" + "4kQ2mZ8vX1cB7nL5jH9gF3dS6aP0oI2uY4tR"
    (folder / "helper.py").write_text(f"token = '{secret}'\ndef answer():\n    return 42\n")
    first = train(folder)
    (folder / "helper.py").write_text(f"token = '{secret}'\ndef answer():\n    return 43\n")
    found = diff(first, train(folder))
    assert list(found) == ["code"] and secret not in found.text()
    assert "-    return 42\n+    return 43" in found["code"][0]["diff"] and "token" in found["code"][0]["diff"]
    assert len(found.notes) == 2 and all(note.startswith("Secrets were taken out of the patch") for note in found.notes)


@pytest.mark.slow
def test_settings_and_drivers_of_the_user_have_no_say(project):
    folder, first = project
    for name, value in {"diff.external": "false", "diff.noprefix": "true", "color.ui": "always", "core.autocrlf": "true", "apply.whitespace": "fix",
                        "diff.evil.command": "touch gotcha", "diff.evil.textconv": "touch gotcha", "filter.evil.clean": "touch gotcha"}.items():
        git(folder, "config", name, value)
    (folder / ".gitattributes").write_text("*.bin diff=evil\n")
    (folder / "x.bin").write_text("text  \n")
    second = train(folder)
    (folder / "gotcha").unlink(missing_ok=True)
    found = diff(first, second)
    assert not (folder / "gotcha").exists() and {row["name"] for row in found["code"]} >= {".gitattributes", "x.bin"}


@pytest.mark.slow
def test_a_module_that_git_ignores(project):
    folder, _ = project
    with open(folder / ".gitignore", "a") as file:
        file.write("helper.py\n")
    git(folder, "rm", "--quiet", "--cached", "helper.py", "nbs/helper.py")
    commit(folder)
    first = train(folder)
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    found = diff(first, train(folder))
    assert list(found) == ["code"] and [row["name"] for row in found["code"]] == ["loaded modules"] and found.notes == []


# Records that are not whole


@pytest.mark.slow
def test_without_git(tmp_path):
    folder = fill(tmp_path / "plain")
    found = diff(train(folder), train(folder, "-p", "lr", "0.2"))
    assert list(found) == ["parameters"]
    assert len(found.notes) == 3 and all("does not say which code it ran" in note for note in found.notes[:2])
    assert found.notes[2] == "Both had loaded the same modules of the repository, to the byte."
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    assert [row["name"] for row in diff(max(find_records(folder / "experiments")), train(folder, "-p", "lr", "0.2"))["code"]] == ["loaded modules"]


def test_a_killed_run(project):
    folder, first = project
    write_notebook(folder / "nbs" / "train.ipynb", *SOURCES[:-1], "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nimport time\ntime.sleep(30)")
    process = subprocess.run([BIN / "ml-repo", "run", "nbs/train.ipynb", "-p", "lr", "0.2"], cwd=folder, capture_output=True)
    assert process.returncode == -9
    (killed,) = set(find_records(folder / "experiments")) - {first}
    time.sleep(2)  # a reader repairs the record
    assert read_record(killed)["state"] == "killed"
    found = diff(first, killed)
    assert list(found) == ["run", "parameters", "notebook"]
    assert found["parameters"] == [{"name": "lr", "first": 0.1, "second": 0.2}]
    assert found.notes and all("does not say" in note for note in found.notes)


def test_a_damaged_list_of_packages(project):
    folder, first = project
    second = train(folder)
    packages = read_record(second)["packages"]
    name = store_text(second.parent, "click==0.1\n")
    plant(second, packages=packages | {"list": name})
    (second.parent / ".store" / f"{name}.txt").write_text("click==0.2\n")
    found = diff(first, second)
    assert dict(found) == {} and len(found.notes) == 1 and "was changed" in found.notes[0]
    (second.parent / ".store" / f"{name}.txt").unlink()
    assert diff(first, second).notes == [f"The list of packages of {second.name} cannot be read: it is not in the store any more."]


def test_a_notebook_that_is_gone_or_damaged(project):
    folder, first = project
    second = train(folder)
    (second / "train.ipynb").chmod(0o644)
    (second / "train.ipynb").write_text("{")
    assert "cannot be read" in diff(first, second).notes[0]
    (second / "train.ipynb").unlink()
    assert diff(first, second).notes == [f"The executed notebook of {second.name} is gone, so the notebooks are not compared."]


def test_what_a_stranger_wrote_into_a_record_steers_no_terminal_and_runs_nothing(project):
    folder, first = project
    second = train(folder)
    evil = "\x1b[2J<script>alert(1)</script>"
    plant(second, experiment=evil, parameters={evil: {"default": evil}}, metrics=[{"name": evil, "split": evil, "value": 0.5}], data={evil: evil},
          outputs={"files": [{"path": evil, "sha256": "0" * 64, "size_bytes": 1}]}, code={"commit": "--output=/tmp/gotcha", "tree": "--help", "patch": "../../x"})
    bundle = diff(first, second)._repr_mimebundle_()
    assert "\x1b" not in bundle["text/plain"] and "<script" not in bundle["text/html"]


def test_the_answer_comes_at_once(project):
    folder, first = project
    (folder / "helper.py").write_text("def answer():\n    return 43\n")
    second = train(folder, "-p", "lr", "0.2")
    program = f"import sys; from ml_repo.results.diff import diff_runs; diff_runs({str(first)!r}, {str(second)!r}).text(); print({{'numpy', 'nbformat'}} & set(sys.modules))"
    assert checked(sys.executable, "-c", program).strip() == "set()"
