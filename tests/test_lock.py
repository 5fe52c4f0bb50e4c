"""The lock is what `make lock` makes of settings.ini, and what is installed is the lock."""
import importlib.util
import re
from configparser import ConfigParser
from importlib.metadata import distribution, version

import pytest
from conftest import BIN, ROOT, checked, run
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

DOCKER = ROOT / "docker"
specification = importlib.util.spec_from_file_location("lock", DOCKER / "lock.py")
lock = importlib.util.module_from_spec(specification)
specification.loader.exec_module(lock)
TEXTS = {name: (DOCKER / name).read_text() for name in lock.FILES}


def locked(name: str) -> dict[str, str]:
    """Package name -> version in a lock file."""
    return {package: pin.splitlines()[0].split("==")[1].rstrip(" \\") for package, pin in lock.pins(TEXTS[name]).items()}


def test_the_lock_names_the_ranges_it_was_made_from_and_the_other_files_do_not():
    """A change of settings.ini touches the first line of one file, so two branches conflict in one place."""
    named = f"sha256:{lock.digest(lock.wanted())}\n"
    assert named in TEXTS["requirements.txt"], "settings.ini has changed: run `make lock`"
    assert [name for name, text in TEXTS.items() if named in text] == ["requirements.txt"]


def test_a_changed_range_is_noticed():
    changed = lock.wanted() | {"requirements": [*lock.wanted()["requirements"], "pandas"]}
    assert lock.digest(changed) != lock.digest(lock.wanted())


def test_every_pin_has_a_hash_and_every_range_holds():
    for name in lock.FILES:
        assert all("==" in pin and "--hash=sha256:" in pin for pin in lock.pins(TEXTS[name]).values())
    versions = locked("requirements.txt")
    for text in lock.wanted()["requirements"] + lock.wanted()["dev_requirements"]:
        wanted = Requirement(text)
        assert versions[canonicalize_name(wanted.name)] in wanted.specifier, text


def test_the_gpu_file_only_adds():
    added = locked("requirements-cuda.txt")
    assert len(added) > 5 and all(name.startswith("nvidia-") for name in added)
    assert not set(added) & set(locked("requirements.txt"))


def test_what_is_installed_is_the_lock():
    versions = locked("requirements.txt")
    assert {name: version(name) for name in versions} == versions
    checked(BIN / "uv", "pip", "check", "--python", BIN / "python")


def test_the_dockerfile_names_no_package():
    commands = (DOCKER / "Dockerfile").read_text().replace("\\\n", " ")
    installs = [words.split() for words in re.findall(r"pip install ([^&;\n]*)", commands)]
    assert [words[-1] for words in installs] == [f"/opt/lock/{name}" for name in ("uv.txt", "requirements-cuda.txt", "requirements.txt")]
    assert all(words[-2] == "-r" and "--require-hashes" in words for words in installs)
    assert not [word for words in installs for word in words[:-2] if not word.startswith("--")]


def test_the_image_has_no_line_that_some_builder_does_not_know():
    text = (DOCKER / "Dockerfile").read_text()
    assert not re.search(r"^# *syntax|--mount|<<|--link|--exclude|--checksum|--chmod", text, re.MULTILINE)
    assert re.search(r"^ARG BASE_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", text, re.MULTILINE)


def test_the_image_knows_the_commands_of_setup_py():
    listed = (DOCKER / "entry_points.txt").read_text()
    found = ConfigParser(delimiters=["="])
    found.read_string(listed)
    assert {(group, *pair) for group in found.sections() for pair in found[group].items()} == {
        (one.group, one.name, one.value) for one in distribution("ml_repo").entry_points}


@pytest.mark.slow
def test_locking_again_gives_the_same_files(tmp_path):
    (tmp_path / "probe.in").write_text("uv")
    probe = run("uv", "pip", "compile", "--no-cache", "--quiet", tmp_path / "probe.in")
    if probe.returncode:
        pytest.skip(f"locking again needs a package index, and uv reaches none: {probe.stdout.strip()}")
    lock.compile_locks(folder=tmp_path)
    for name in lock.FILES:
        assert (tmp_path / name).read_text() == TEXTS[name], f"docker/{name} is not what `make lock` makes"


def test_a_second_make_installs_nothing():
    plan = run("make", "--dry-run", "train").stdout
    assert "ml-repo run nbs/train.ipynb" in plan
    assert "pip" not in plan and "venv" not in plan.replace(".venv/bin", "")


def test_a_misspelt_variable_is_refused():
    result = run("make", "train", "lr=0.01")
    assert result.returncode == 2 and 'make train PARAMS="-p lr 0.01"' in result.stdout


def test_clean_leaves_data_and_records_alone(tree):
    precious = [tree / "data" / "my", tree / "data" / "my photos" / ".ipynb_checkpoints", tree / "experiments" / "run 2" / "__pycache__"]
    rubbish = [tree / "nbs" / "a b" / ".ipynb_checkpoints", tree / "ml_repo" / "__pycache__"]
    for folder in precious + rubbish:
        folder.mkdir(parents=True)
        (folder / "file").touch()
    checked("make", "clean", cwd=tree)
    assert all((folder / "file").exists() for folder in precious)
    assert not any(folder.exists() for folder in rubbish)


def test_a_wrong_python_is_refused_by_name(tree):
    result = run("make", "params", "PYTHON=/nonexistent/python3", cwd=tree)
    assert result.returncode == 2 and "/nonexistent/python3 is not a Python 3.11, 3.12 or 3.13" in result.stdout
    assert not (tree / ".venv").exists()
