"""The lock is what `make lock` makes of settings.ini, and what is installed is the lock."""
import importlib.util
from importlib.metadata import version

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


@pytest.mark.parametrize("name", lock.FILES)
def test_every_file_names_the_ranges_it_was_made_from(name):
    assert f"sha256:{lock.digest(lock.wanted())}\n" in TEXTS[name], "settings.ini has changed: run `make lock`"


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
    commands = "\n".join(line for line in (DOCKER / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    named = [name for name in locked("requirements.txt") if f" {name} " in commands.replace('"', " ")]
    assert not [name for name in named if name not in ("jupyter",)]
    assert all(f"-r /opt/lock/{name}" in commands for name in lock.FILES)


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
    assert "papermill nbs/train.ipynb" in plan
    assert "pip" not in plan and "venv" not in plan.replace(".venv/bin", "")
