"""A stranger's record writes nothing outside of its checkout, and its code is not executed before somebody has agreed."""
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import checked, run
from test_record import git, make_repository, write_notebook

from ml_repo.records.reader import Record, find_records, read_record
from ml_repo.reproduce.checkout import checkout_run

CONTRACT = "n: int = 4  # how many, at least 1"
ASKING = {"ML_REPO_TRUSTED": ""}


def make_run(folder: Path, *sources: str) -> Record:
    """A repository with one run, which its clone has signed."""
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "README.md").write_text("a part of the tree\n")
    write_notebook(folder / "a.ipynb", CONTRACT, *(sources or ("print('ran', n)",)))
    make_repository(folder)
    checked("ml-repo", "run", "a.ipynb", "--quiet", cwd=folder)
    return read_record(find_records(folder / "experiments")[0])


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Record:
    """A run of this clone."""
    return make_run(tmp_path_factory.mktemp("own") / "repository")


def import_record(own: Record, folder: Path, **fields) -> Record:
    """A clone of the repository, and the record as a stranger may hand it over: without git, with other fields."""
    checked("git", "clone", "--quiet", own.folder.parent.parent, folder)
    shutil.copytree(own.folder.parent / ".store", folder / "experiments" / ".store")
    shutil.copytree(own.folder, target := folder / "experiments" / own.folder.name)
    facts = json.loads((target / "record.json").read_text())
    facts |= fields
    (target / "record.json").write_text(json.dumps(facts))
    return read_record(target)


def test_a_run_of_this_clone_needs_no_question(own):
    result = run("ml-repo", "verify", "latest", "--no-keep", cwd=own.folder.parent.parent, **ASKING)
    assert result.returncode == 0 and "identical" in result.stdout, result.stdout


def test_a_record_from_elsewhere_is_refused_where_nobody_can_answer(own, tmp_path):
    record = import_record(own, tmp_path / "clone")
    for command, code in (("verify", 3), ("rerun", 2)):
        result = run("ml-repo", command, record["id"], cwd=tmp_path / "clone", **ASKING)
        assert result.returncode == code and "--trust" in result.stdout and "executes its notebook and its code" in result.stdout, result.stdout
        assert "ran 4" not in result.stdout
    assert len(find_records(record.folder.parent)) == 1
    host = record["host"]["name"]
    (tmp_path / "clone" / "settings.ini").write_text(f"[DEFAULT]\npapermill_engine = ml_repo\ntrusted = {host}\n")
    assert "identical" in run("ml-repo", "verify", record["id"], "--no-keep", cwd=tmp_path / "clone", **ASKING).stdout
    git(tmp_path / "clone", "checkout", "--quiet", "settings.ini")
    assert "identical" in run("ml-repo", "verify", record["id"], "--no-keep", "--trust", cwd=tmp_path / "clone", **ASKING).stdout
    git(tmp_path / "clone", "add", "--force", "experiments")  # as a colleague who commits records
    assert "identical" in run("ml-repo", "verify", record["id"], "--no-keep", cwd=tmp_path / "clone", **ASKING).stdout


@pytest.mark.parametrize("answer, is_run", [("n\n", False), ("y\n", True)])
def test_on_a_terminal_the_user_is_asked(own, tmp_path, answer, is_run):
    record = import_record(own, tmp_path / "clone", note="\x1b]0;a title\x07")
    master, slave = pty.openpty()
    os.write(master, answer.encode())
    done = subprocess.run(["ml-repo", "rerun", record["id"], "--quiet"], cwd=tmp_path / "clone", env=os.environ | ASKING, stdin=slave,
                          capture_output=True, text=True)
    os.close(master)
    os.close(slave)
    assert "Execute it?" in done.stderr and (done.returncode == 0) == is_run, done.stderr
    assert len(find_records(record.folder.parent)) == 1 + is_run


def test_a_changed_patch_breaks_the_signature(own, tmp_path):
    folder = own.folder.parent.parent
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)  # with git's folder, and so with the key
    record = read_record(tmp_path / "copy" / "experiments" / own["id"])
    (record.folder / "code.patch").write_text("other code")
    result = run("ml-repo", "verify", record["id"], cwd=tmp_path / "copy", **ASKING)
    assert result.returncode == 3 and "--trust" in result.stdout


def make_link_patch(clone: Path, name: str, target: Path) -> tuple[str, str]:
    """A patch that puts a link in the place of a folder, and the tree that it gives."""
    shutil.rmtree(clone / name)
    (clone / name).symlink_to(target)
    git(clone, "add", "--all", name)
    patch = subprocess.run(["git", "-C", clone, "diff", "--cached", "--binary", "--full-index"], capture_output=True, text=True, check=True).stdout
    tree = git(clone, "write-tree")
    git(clone, "reset", "--quiet", "--hard")
    return patch, tree


def read_all(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_link_in_the_place_of_the_project_writes_nothing_outside(tmp_path):
    """The project is a part of the repository; the patch of the record makes that part a link to a folder of the victim."""
    top, victim = tmp_path / "top", tmp_path / "victim"
    victim.mkdir()
    (victim / "kept.txt").write_text("mine")
    (top / "part").mkdir(parents=True)
    write_notebook(top / "part" / "a.ipynb", CONTRACT, "print(n)")
    (top / "part" / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    make_repository(top, "[DEFAULT]\n")
    checked("ml-repo", "run", "a.ipynb", "--quiet", cwd=top / "part")
    record = read_record(find_records(top / "part" / "experiments")[0])
    shutil.move(top / "part" / "experiments", tmp_path / "kept")
    patch, tree = make_link_patch(top, "part", victim)
    (top / "part").mkdir(exist_ok=True)
    shutil.move(tmp_path / "kept", top / "part" / "experiments")
    facts = json.loads((record.folder / "record.json").read_text())
    facts["code"] |= {"patch": "code.patch", "tree": tree}
    (record.folder / "code.patch").write_text(patch)
    (record.folder / "record.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="outside of .*Nothing was written there"):
        checkout_run(record.folder, tmp_path / "files")
    assert read_all(victim) == {"kept.txt": b"mine"} and not (tmp_path / "files").exists()
    assert len(git(top, "worktree", "list").splitlines()) == 1


@pytest.mark.parametrize("field, value", [
    ("notebook", "../outside.ipynb"), ("notebook", "/OUT/outside.ipynb"), ("notebook", "part/outside.ipynb"), ("notebook", ".git"), ("notebook", "part/../.GIT/hooks/post-checkout"),
    ("inputs", "../outside.csv"), ("inputs", "/OUT/outside.csv"), ("inputs", "part/outside.csv"), ("inputs", ".git/config"),
    ("modules", "../../outside.py"), ("modules", "part/outside.py"), ("modules", ".git/outside.py"), ("folder", "../../outside"), ("folder", "part/outside")])
def test_no_path_of_a_record_leads_out_of_the_checkout(own, tmp_path, field, value):
    """`part` is a link to the victim's folder, by the patch; the paths try every way around it."""
    from ml_repo.core.content_store import store_text
    from ml_repo.core.hashing import hash_bytes
    from ml_repo.reproduce.environments import Environment
    from ml_repo.reproduce.rerun_process import make_task

    victim = tmp_path / "victim"
    victim.mkdir()
    record = import_record(own, tmp_path / "clone")
    clone = tmp_path / "clone"
    patch, tree = make_link_patch(clone, "part", victim)
    value = value.replace("/OUT", str(victim))
    facts = json.loads((record.folder / "record.json").read_text())
    facts["code"] |= {"patch": "code.patch", "tree": tree}
    (record.folder / "code.patch").write_text(patch)
    if field == "inputs":
        data = b"stolen"
        for place in (clone / "outside.csv", tmp_path / "outside.csv"):
            place.write_bytes(data)
        facts["inputs"] = {"files": [{"path": value, "size_bytes": len(data), "sha256": hash_bytes(data)}]}
    elif field == "modules":
        (clone.parent / "outside.py").write_bytes(b"x = 1")
        facts["code"]["modules"] = {"count": 1, "sha256": store_text(record.folder.parent, f"{hash_bytes(b'x = 1')}  {value}\n")}
    else:
        facts[field] = value
    (record.folder / "record.json").write_text(json.dumps(facts))
    before, settings = read_all(tmp_path / "victim"), (clone / ".git" / "config").read_text()
    (tmp_path / "scratch").mkdir()
    try:
        checkout = checkout_run(record.folder, tmp_path / "scratch" / "files")
        make_task(read_record(record.folder), checkout, Environment("this one"))
    except ValueError as error:
        assert "outside" in str(error) or "of git" in str(error)
    assert read_all(victim) == before == {}, f"{field}: something was written outside"
    assert {path.name for path in (tmp_path / "scratch").iterdir()} <= {"files"} and not (tmp_path / "outside").exists()
    assert (clone / ".git" / "config").read_text() == settings and not list((clone / ".git" / "hooks").glob("post-checkout"))
    files = tmp_path / "scratch" / "files"
    assert not files.exists() or (files / ".git").read_text().startswith("gitdir: ")


def test_variables_that_can_name_code_are_not_taken_from_a_record(own, tmp_path):
    """Nothing of them reaches the kernel, and the new record says so."""
    from ml_repo.reproduce.rerun import rerun_run

    source = "import os\nprint({name: os.environ.get(name) for name in ('LD_PRELOAD', 'OMP_TOOL_LIBRARIES', 'OMP_NUM_THREADS', 'PYTHONSTARTUP', 'BASH_ENV')}, '/theirs' in os.environ.get('PYTHONPATH', ''))"
    record = make_run(tmp_path / "repository", source)
    facts = json.loads((record.folder / "record.json").read_text())
    facts["environment"] = {"LD_PRELOAD": "/theirs/a.so", "OMP_TOOL_LIBRARIES": "theirs", "OMP_NUM_THREADS": "3", "PYTHONSTARTUP": "/theirs/b.py", "BASH_ENV": "/theirs/c", "PYTHONPATH": "/theirs"}
    (record.folder / "record.json").write_text(json.dumps(facts))
    again = rerun_run(record.folder)
    printed = (again.folder / "log.txt").read_text()
    assert "'LD_PRELOAD': None, 'OMP_TOOL_LIBRARIES': None, 'OMP_NUM_THREADS': '3', 'PYTHONSTARTUP': None, 'BASH_ENV': None} False" in printed
    warnings = " ".join(again["warnings"])
    assert all(name in warnings for name in ("LD_PRELOAD", "OMP_TOOL_LIBRARIES", "PYTHONSTARTUP", "BASH_ENV", "/theirs was on the PYTHONPATH")), warnings


def test_a_terminal_obeys_nothing_that_a_record_holds(own, tmp_path):
    record = import_record(own, tmp_path / "clone", experiment="evil\x1b]0;title\x07\x9b2J", note="\x1b[2J\u202e")
    for words in (("ls", "--csv"), ("ls", "--json"), ("show", record["id"], "--json")):
        master, slave = pty.openpty()
        process = subprocess.Popen(["ml-repo", *words], cwd=tmp_path / "clone", env=os.environ | ASKING, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL)
        os.close(slave)
        shown = b""
        while True:
            try:
                piece = os.read(master, 65536)
            except OSError:  # the other side has closed
                break
            shown += piece
        process.wait()
        os.close(master)
        text = shown.decode()
        assert "evil" in text and not any(letter in text for letter in "\x1b\x07\x9b\u202e"), (words, text)
    plain = run("ml-repo", "ls", "--json", cwd=tmp_path / "clone")
    assert json.loads(plain.stdout[plain.stdout.index("["):])[0]["experiment"] == "evil\x1b]0;title\x07\x9b2J"
