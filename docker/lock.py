"""Turn the package ranges in settings.ini into exact, hashed versions.

    make lock                          keep today's versions where they still fit
    make lock LOCK_FLAGS=--upgrade     take the newest versions that fit

Writes requirements.txt (everything that most need), requirements-cuda.txt and requirements-ray.txt (only
what a GPU or Ray adds to it) and uv.txt (the installer itself). All of it is one world: what a newer Python,
a GPU or Ray needs on top is resolved with the versions of the rest held fixed, and only what is new is added.
Needs the network: run it through make, which brings uv.
"""
import hashlib
import re
import subprocess
import sys
import tempfile
from configparser import ConfigParser
from pathlib import Path

DOCKER = Path(__file__).parent
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORM = "x86_64-manylinux_2_28"
ADDITIONS = {"cuda": "A GPU", "ray": "Ray"}
FILES = ("requirements.txt", *(f"requirements-{kind}.txt" for kind in ADDITIONS), "uv.txt")
KINDS = ("requirements", "dev_requirements", *(f"{kind}_requirements" for kind in ADDITIONS))
TOOLS = ("dev_requirements", "docs_requirements")


def name_of(text: str) -> str:
    """The package of a range, such as keras of `keras>=3.15,<4` and ml_repo of `ml_repo[tune]`."""
    return re.match(r"[\w.-]+", text)[0].lower()


def wanted(settings_file: Path = DOCKER.parent / "settings.ini") -> dict[str, list[str]]:
    """Read the package ranges, a list for each kind: what runs need, the tools, and what a GPU or Ray adds.

    A package of several lists has the range of the project's own list, or else of the first one."""
    settings = ConfigParser(delimiters=["="])
    settings.read(settings_file, encoding="utf-8")
    lists = {key: [text for text in settings["DEFAULT"][key].split() if name_of(text) != "ml_repo"]
             for key in settings["DEFAULT"] if re.fullmatch(r"(\w+_)?requirements", key)}
    added = {kind: lists.pop(kind) for kind in KINDS[2:]}
    tools = {name_of(text): text for key in TOOLS for text in lists.pop(key)}
    run = {name_of(text): text for key in sorted(lists, key="project_requirements".__eq__) for text in lists[key]}
    tools = {name: text for name, text in tools.items() if name not in run}
    return {"requirements": [*run.values()], "dev_requirements": [*tools.values()], **added}


def digest(ranges: dict[str, list[str]]) -> str:
    """Name the ranges by a hash, which the lock carries in its first line."""
    text = "\n".join(f"{kind}: {' '.join(sorted(ranges[kind]))}" for kind in KINDS)
    return hashlib.sha256(text.encode()).hexdigest()


def pins(lock: str) -> dict[str, str]:
    """Split the text of a lock file into package name -> its pin with all of its hashes."""
    blocks = re.findall(r"^[A-Za-z0-9].*(?:\n[ \t]+--hash.*)*", lock, flags=re.MULTILINE)
    return {re.split(r"[=\[ ]", block, maxsplit=1)[0]: block for block in blocks}


def resolve(ranges: list[str], earlier: str, python: str, *flags: str) -> str:
    """Ask uv for exact versions and hashes; versions that stand in the `earlier` lock are kept where they fit."""
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder, "lock.txt")
        lock.write_text(earlier)
        subprocess.run([str(Path(sys.executable).with_name("uv")), "pip", "compile", "-", "--quiet", "--generate-hashes",
                        "--no-header", "--no-annotate", "--python-version", python, "--python-platform", PLATFORM,
                        "--no-python-downloads", "--output-file", str(lock), *flags], input="\n".join(ranges), text=True, check=True)
        return lock.read_text()


def extend(base: dict[str, str], more: dict[str, str], what: str) -> dict[str, str]:
    """The pins that `more` adds to `base`; ends the program where both have a package in different versions."""
    if clashes := [name for name, pin in base.items() if more.get(name, pin) != pin]:
        sys.exit(f"{what} needs other versions of {', '.join(clashes)} than the rest of the lock. "
                 "Narrow their ranges in settings.ini until both agree.")
    return {name: pin for name, pin in more.items() if name not in base}


def compile_locks(folder: Path = DOCKER, flags: tuple[str, ...] = (), earlier: Path = DOCKER) -> None:
    """Write the lock files into `folder`, starting from the versions of those in `earlier`."""
    ranges = wanted()
    old = {name: (earlier / name).read_text() if (earlier / name).exists() else "" for name in FILES}
    everything = ranges["requirements"] + ranges["dev_requirements"]

    base = pins(resolve(everything, old["requirements.txt"], PYTHONS[0], *flags))
    for python in PYTHONS[1:]:
        base |= extend(base, pins(resolve(everything, "\n".join(base.values()) + "\n" + old["requirements.txt"], python)), f"Python {python}")
    added = []
    for kind, what in ADDITIONS.items():
        more = resolve(everything + ranges[f"{kind}_requirements"], "\n".join(base.values()) + "\n" + old[f"requirements-{kind}.txt"], PYTHONS[0])
        added.append(extend(base, pins(more), what))

    header = "# Made by `make lock` from settings.ini; do not edit."
    for name, made in zip(FILES, (base, *added, pins(resolve(["uv"], old["uv.txt"], PYTHONS[0], *flags)))):
        of_ranges = f" Ranges: sha256:{digest(ranges)}" if name == FILES[0] else ""  # in one file, so that a merge has one conflict
        (folder / name).write_text(f"{header}{of_ranges}\n" + "\n".join(made[package] for package in sorted(made)) + "\n")


if __name__ == "__main__":
    compile_locks(flags=tuple(sys.argv[1:]))
    for name in FILES:
        print(f"docker/{name}: {len(pins((DOCKER / name).read_text()))} packages")
