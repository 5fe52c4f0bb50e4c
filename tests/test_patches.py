"""What was not committed comes back: lines, binary files, odd names, whatever git is told about them."""
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from conftest import checked, run

from ml_repo.core.hashing import hash_source
from ml_repo.core.redaction import Redactor
from ml_repo.provenance.code_state import keep_code
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.record import open_record
from ml_repo.reproduce.checkout import checkout_run, remove_checkout


def git(folder: Path, *arguments: str) -> str:
    """What git says about `folder`."""
    return checked("git", "-C", folder, *arguments).strip()


def random_bytes(seed: int, size: int = 3000) -> bytes:
    """Bytes that no compression makes smaller."""
    return random.Random(seed).randbytes(size)


def write_files(folder: Path, **contents: str | bytes) -> None:
    """Write files; two underscores stand for a slash, one before the ending for a dot."""
    for name, content in contents.items():
        path = folder / ".".join(name.replace("__", "/").rsplit("_", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def repository(tmp_path) -> Path:
    """A repository with a notebook, a module, a binary file and a table."""
    folder = tmp_path / "repository"
    folder.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), folder / "a.ipynb")
    write_files(folder, settings_ini="[DEFAULT]\n", model_py="filters = 32\n" * 9, weights_bin=random_bytes(1), scores_csv="1,2\n")
    git(folder, "init", "--quiet", "--initial-branch", "main")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "Begin")
    return folder


def keep_record(folder: Path) -> tuple[dict, list[str]]:
    """Keep the state of the code as a run does before its first cell."""
    cells = nbformat.read(folder / "a.ipynb", 4).cells if "cells" in (folder / "a.ipynb").read_text() else []
    kept = open_record(folder / "experiments", "a.ipynb", source_sha256=hash_source(cells))
    shutil.copy(folder / "a.ipynb", kept.folder / "a.ipynb")
    code, warnings = keep_code(folder, kept.folder, Redactor())
    kept.close("completed", code=code, warnings=warnings)
    return read_record(kept.folder), warnings


def list_files(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Content and mode of the files that git could keep."""
    files = {}
    for path in folder.rglob("*"):
        name = os.fsdecode(os.fsencode(path.relative_to(folder)))
        if (path.is_file() or path.is_symlink()) and not name.startswith((".git/", "experiments/")) and name != ".git":
            content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
            files[name] = (content, os.access(path, os.X_OK))
    return files


def change_everything(folder: Path) -> None:
    write_files(folder, weights_bin=random_bytes(2), new_npy=random_bytes(3), empty_py="", empty_bin=b"", sub__deep__model_py="layers = 2\n", zeros_bin=bytes(9))
    (folder / "model.py").rename(folder / "renamed model.py")
    (folder / "scores.csv").unlink()


def change_modes(folder: Path) -> None:
    for name in ("weights.bin", "model.py"):
        (folder / name).chmod(0o755)


def change_kinds(folder: Path) -> None:
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").mkdir()
    write_files(folder, weights_bin__part_py="part = 1\n", model_py=random_bytes(4))
    (folder / "scores.csv").unlink()
    (folder / "scores.csv").symlink_to("model.py")


def name_oddly(folder: Path) -> None:
    for number, name in enumerate([b"two words.npy", b"line\nbreak.npy", "größe.npy".encode(), b"latin-\xe9.npy", b"tab\t\"quoted\".npy", b"-n.npy", b":(top)x.npy"]):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(random_bytes(number + 10))
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".py")).write_bytes(b"odd = %d\n" % number)


def stage_another_version(folder: Path) -> None:
    write_files(folder, weights_bin=random_bytes(5), staged_npy=random_bytes(6), intended_npy=random_bytes(7))
    git(folder, "add", "weights.bin", "staged.npy")
    git(folder, "add", "--intent-to-add", "intended.npy")
    write_files(folder, weights_bin=random_bytes(8), staged_npy=random_bytes(9))


def turn_line_ends(folder: Path) -> None:
    git(folder, "config", "core.autocrlf", "true")
    write_files(folder, windows_py="a = 1\r\nb = 2\r\n", model_py="filters = 64\r\n" * 9, new_npy=random_bytes(3))
    git(folder, "config", "core.safecrlf", "true")


def set_attributes(folder: Path) -> None:
    write_files(folder, _gitattributes="*.lock binary\n*.svg -diff\n*.raw diff text\n*.py text eol=crlf\n", a_lock="keras==3.15\n", a_svg="<svg/>\n",
                b_npy=random_bytes(11), new_py="crlf = 1\r\n")


def clean_by_a_filter(folder: Path) -> None:
    git(folder, "config", "filter.strip.clean", f"{sys.executable} -c \"import sys; sys.stdout.write(sys.stdin.read().replace('output', ''))\"")
    git(folder, "config", "filter.strip.smudge", "cat")
    write_files(folder, _gitattributes="*.py filter=strip\n", new_py="layers = 2\n", new_npy=random_bytes(3))


def look_at_a_part(folder: Path) -> None:
    write_files(folder, far__away_py="far = 1\n", far__away_npy=random_bytes(12))
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "Add")
    git(folder, "sparse-checkout", "set", "near")
    write_files(folder, near__new_npy=random_bytes(13), near__new_py="near = 1\n")


CHANGES = [change_everything, change_modes, change_kinds, name_oddly, stage_another_version, turn_line_ends, set_attributes, clean_by_a_filter]


@pytest.mark.parametrize("change", CHANGES)
def test_a_checkout_has_the_files_that_ran(repository, tmp_path, change: Callable[[Path], None]):
    change(repository)
    before = list_files(repository)
    record, warnings = keep_record(repository)
    assert list_files(repository) == before
    made = checkout_run(record.folder, tmp_path / "again")
    assert (made.doubts, warnings) == ([], [])
    after = list_files(made.folder)
    if change in (turn_line_ends, set_attributes):  # git keeps no line ends of texts; binary files stay as they are
        before, after = ({name: (data if b"\0" in data else data.replace(b"\r\n", b"\n"), mode) for name, (data, mode) in files.items()}
                         for files in (before, after))
    assert after == before
    assert record["code"]["patch_is_exact"] is True


def test_a_sparse_checkout_keeps_its_changes(repository, tmp_path):
    look_at_a_part(repository)
    record, warnings = keep_record(repository)
    made = checkout_run(record.folder, tmp_path / "again")
    assert (made.doubts, warnings) == ([], [])
    assert (made.folder / "near" / "new.npy").read_bytes() == random_bytes(13)


def test_what_cannot_be_kept_is_named_at_once(repository, tmp_path):
    with open(repository / "huge.csv", "wb") as file:
        file.truncate(100_000_000)
    (repository / "unreadable.npy").write_bytes(random_bytes(1))
    (repository / "unreadable.npy").chmod(0)
    (repository / ".gitattributes").write_text("*.ckpt filter=lfs\n")
    (repository / "model.ckpt").write_bytes(random_bytes(2))
    git(tmp_path, "clone", "--quiet", str(repository), "inner")
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "inner"), "inner")
    git(repository, "commit", "--quiet", "-m", "Add a submodule")
    (repository / "inner" / "model.py").write_text("filters = 1\n")
    (repository / "new.npy").write_bytes(random_bytes(3))
    record, warnings = keep_record(repository)
    left = {file["path"]: file["reason"] for file in record["code"]["left_out"]}
    assert left.pop("unreadable.npy", "cannot be read") == "cannot be read"  # root reads everything
    assert left == {"huge.csv": "larger than 10,000,000 bytes", "model.ckpt": "its content is kept by git-lfs", "inner": "changes inside a submodule"}
    assert "huge.csv (larger than 10,000,000 bytes)" in warnings[0]
    made = checkout_run(record.folder, tmp_path / "again")
    assert (made.folder / "new.npy").read_bytes() == random_bytes(3)
    assert [doubt.partition(":")[0] for doubt in made.doubts] == ["The patch does not hold"]


def test_runs_share_binary_files_by_content(repository):
    write_files(repository, new_npy=random_bytes(3), copy_npy=random_bytes(3))
    records = [keep_record(repository)[0] for _ in range(2)]
    assert len(list((repository / "experiments" / ".store").glob("*.bin"))) == 1
    assert records[0]["code"]["tree"] == records[1]["code"]["tree"]
    assert git(repository, "status", "--porcelain", "--untracked-files=all", "experiments").count(".bin") == 0


def test_a_binary_file_that_is_gone_from_the_store_is_named(repository, tmp_path):
    write_files(repository, new_npy=random_bytes(3), new_py="layers = 2\n")
    record, _ = keep_record(repository)
    for path in (repository / "experiments" / ".store").glob("*.bin"):
        path.unlink()
    made = checkout_run(record.folder, tmp_path / "again")
    assert "new.npy was not committed, and its content is not in" in made.doubts[0]
    assert (made.folder / "new.py").read_text() == "layers = 2\n"


@pytest.mark.parametrize("path", ["../escaped.npy", "/tmp/escaped.npy", ".git/hooks/post-checkout", "a/../../escaped.npy", "sub/.git/config", "link/escaped.npy"])
def test_a_path_of_a_record_that_leads_out_writes_nothing(repository, tmp_path, path):
    (repository / "link").symlink_to(tmp_path)
    write_files(repository, new_npy=random_bytes(3), model_py="filters = 64\n")
    record, _ = keep_record(repository)
    record["code"]["whole"]["files"][0]["path"] = path
    before = sorted(tmp_path.glob("*"))
    made = checkout_run(record, tmp_path / "again")
    assert made.doubts and not (made.folder / ".git" / "hooks").exists()
    assert sorted(tmp_path.glob("*")) == sorted([*before, tmp_path / "again"])
    assert not (repository / ".git" / "hooks" / "post-checkout").exists() and not Path("/tmp/escaped.npy").exists()


def test_an_edited_copy_of_the_store_is_noticed(repository, tmp_path):
    write_files(repository, new_npy=random_bytes(3))
    record, _ = keep_record(repository)
    for path in (repository / "experiments" / ".store").glob("*.bin"):
        path.write_bytes(random_bytes(4))
    assert "is not in" in checkout_run(record.folder, tmp_path / "again").doubts[0]


def test_a_secret_beside_binary_files_is_hidden_and_the_patch_applies(repository, tmp_path):
    key = "hf_" + "aB3dE5gH7jK9mN1pQ3sT5vX7zA9cE1gI3k"
    write_files(repository, client_py=f"token = {key!r}\n" + "x = 1\n" * 5)
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "-m", "Add")
    write_files(repository, client_py=f"token = {key!r}\n" + "x = 2\n" * 5, other_py=f"token = {key!r}\ny = 3\n", new_npy=random_bytes(3))
    record, warnings = keep_record(repository)
    assert record["code"]["patch_is_exact"] is False and "Secrets were taken out" in warnings[0]
    kept = b"".join(path.read_bytes() for path in (repository / "experiments").rglob("*") if path.is_file())
    assert key.encode() not in kept
    made = checkout_run(record.folder, tmp_path / "again")
    assert "x = 2" in (made.folder / "client.py").read_text() and "y = 3" in (made.folder / "other.py").read_text()
    assert (made.folder / "new.npy").read_bytes() == random_bytes(3)
    assert [doubt for doubt in made.doubts if "apply" in doubt] == []


def test_before_the_first_commit_everything_is_kept(tmp_path):
    git(tmp_path, "init", "--quiet")
    write_files(tmp_path, a_ipynb="{}", settings_ini="[DEFAULT]\n", new_npy=random_bytes(3), model_py="x = 1\n")
    record, _ = keep_record(tmp_path)
    assert [file["path"] for file in record["code"]["whole"]["files"]] == ["new.npy"]
    assert record["code"]["commit"] is None and "+x = 1" in (record.folder / "code.patch").read_text()


def test_a_run_beside_random_bytes_can_be_checked_out_and_verified(repository, tmp_path):
    """Its second megabyte holds what looks like a key once it is written as text."""
    source = "n: int = 2  # numbers\n", "import zz_model\nprint(zz_model.K, n)\nopen('scores.txt', 'w').write('7')"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(text) for text in source], metadata={
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}})
    notebook.cells[0].metadata["tags"] = ["parameters"]
    nbformat.write(notebook, repository / "a.ipynb")
    git(repository, "commit", "--quiet", "--all", "-m", "Add a notebook")
    draw = random.Random(0)
    blocks = [draw.randbytes(2**20) for _ in range(8)]
    write_files(repository, features_npy=blocks[5], zz_model_py="K = 7\n", huge_csv=b"1" * 10_000_001)
    printed = [checked("ml-repo", "run", "a.ipynb", cwd=repository) for _ in range(2)]
    assert "Warning: Not kept with the uncommitted changes: huge.csv" in printed[0]
    first, second = (read_record(folder) for folder in sorted(find_records(repository / "experiments")))
    assert (first["code"]["tree"], second["code"].get("earlier_results")) == (second["code"]["tree"], ["scores.txt"])
    assert "1 binary file, without 1 left out" in checked("ml-repo", "show", "latest", cwd=repository)
    checked("ml-repo", "checkout", "latest", tmp_path / "again", cwd=repository)
    assert (tmp_path / "again" / "features.npy").read_bytes() == blocks[5]
    assert (tmp_path / "again" / "zz_model.py").read_text() == "K = 7\n"
    remove_checkout(tmp_path / "again")
    (repository / "huge.csv").unlink()
    (repository / "zz_model.py").write_text("K = 8\n")
    (repository / "features.npy").write_bytes(blocks[6])
    verified = run("ml-repo", "verify", "latest", cwd=repository)
    assert (verified.returncode, "identical" in verified.stdout) == (0, True), verified.stdout
