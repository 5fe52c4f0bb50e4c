"""The record of a run keeps everything that it promises, and nothing that is secret."""
import ast
import base64
import hashlib
import html
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jsonschema
import nbformat
import papermill
import pytest
from conftest import BIN, LIMIT_S, ROOT, checked, run
from jupyter_client.manager import start_new_kernel

from papermill.cli import papermill as papermill_command

from ml_repo.cli.app import main as ml_repo_command
from ml_repo.core.hashing import hash_notebook
from ml_repo.execution.launch import run_notebook
from ml_repo.notebook.parameters import ParameterError
from ml_repo.records.reader import find_records, read_record
from ml_repo.records.schema import RECORD_SCHEMA

ASKING = "[DEFAULT]\npapermill_engine = ml_repo\n"
PYTHON = {"name": "python3", "display_name": "Python 3", "language": "python"}
CONTRACT = "lr: float = 0.1  # step size, above 0\nepochs: int = 2  # passes, at least 1\n"


def write_notebook(path: Path, *sources: str | dict, tagged: tuple[int, ...] = (0,), kernel: dict = PYTHON) -> Path:
    """Write a notebook of code cells, those in `tagged` with the tag `parameters`; a cell may be given whole."""
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(one).strip()) if isinstance(one, str) else one for one in sources]
    for number in tagged:
        cells[number].metadata["tags"] = ["parameters"]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


def git(folder: Path, *arguments: str) -> str:
    """What git says about `folder`."""
    return checked("git", "-C", folder, *arguments).strip()


def make_repository(folder: Path, settings: str = ASKING) -> Path:
    """Make a repository with one commit of what is in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "settings.ini").write_text(settings)
    (folder / ".gitignore").write_text((ROOT / ".gitignore").read_text())
    git(folder, "init", "--quiet", "--initial-branch", "main")
    for name, value in {"user.name": "test", "user.email": "test@localhost", "commit.gpgsign": "false"}.items():
        git(folder, "config", name, value)
    commit(folder)
    return folder


def commit(folder: Path) -> None:
    """Commit everything in `folder`."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Keep it")


def read_records(folder: Path) -> list[dict]:
    """The records of a repository by id, as plain JSON; each is valid and small."""
    records = [json.loads((one / "record.json").read_text()) for one in find_records(folder / "experiments")]
    for record in records:
        jsonschema.validate(record, RECORD_SCHEMA)
    return records


def only(found: list) -> Any:
    """The one thing that is there."""
    assert len(found) == 1, found
    return found[0]


# Secrets. None is real: they are put together here, so that no scanner takes this file for a leak.

_CHANCE = random.Random(20)


def letters(count: int, alphabet: str = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789") -> str:
    """A text by chance, with a letter and a digit at its end."""
    return "".join(_CHANCE.choices(alphabet, k=count - 2)) + "a7"


SECRETS = {  # by the place where each is planted
    "an environment variable that is printed": "gh" + "p_" + letters(36),
    "an environment variable that is shown in HTML": 'kö&7/+$"<?' + letters(8),
    "an environment variable, as base64": letters(20),
    "the address of the remote": letters(20),
    "a change that is not committed": letters(24),
    "a file that git does not track": letters(22),
    "the package lock": letters(26),
    "a parameter with a secret name": letters(14),
    "a parameter with a harmless name": "h" + "f_" + letters(34),
    "a value inside of a parameter": letters(16),
    "a file of parameters": letters(18),
    "a default": letters(15),
    "a cell": "gl" + "pat-" + letters(20),
    "a comment in Markdown": letters(28),
    "what is printed on stderr": letters(32),
    "HTML": "correct-" + letters(9),
    "plain text of a display": "ey" + "J" + letters(20) + ".ey" + "J" + letters(40) + "." + letters(43),
    "JSON": letters(13),
    "an exception": "s" + "k-proj-" + letters(48),
    "the source in a traceback": letters(11),
    "two pieces of a line": "py" + "pi-" + letters(60),
    "a colored line": "AI" + "za" + letters(35),
    "the password of an address": "p@ss/" + letters(12),
    "a password that a cell sets and prints": letters(10),
    "a command in a cell": letters(9),
    "the note": "AK" + "IA" + letters(16, "ABCDEFGHIJKLMNOP234567").upper(),
}
IN_KERNEL = {  # what the notebook must see as it is: an expression -> the secret
    "os.environ['GITHUB_TOKEN']": "an environment variable that is printed",
    "os.environ['DB_PASSWORD']": "an environment variable that is shown in HTML",
    "os.environ['WANDB_API_KEY']": "an environment variable, as base64",
    "api_key": "a parameter with a secret name",
    "checkpoint": "a parameter with a harmless name",
    "options['login']['password']": "a value inside of a parameter",
    "smtp_password": "a file of parameters",
    "db_password": "a default",
}


def planted_sources(secret: dict[str, str]) -> list[str | dict]:
    """The cells of a notebook that lets every secret out that it can."""
    known = {expression: hashlib.sha256(secret[place].encode()).hexdigest() for expression, place in IN_KERNEL.items()}
    pieces = secret["two pieces of a line"]
    return [
        f'lr: float = 0.1  # step size, above 0\napi_key: str = ""\ncheckpoint: str = ""\noptions: dict = {{}}\nsmtp_password: str = ""\n'
        f'db_password: str = "{secret["a default"]}"',
        "import base64, hashlib, html, logging, os, sys, time\nfrom urllib.parse import unquote\nfrom IPython.display import HTML, JSON, Markdown, display",
        f"for expression, expected in {known}.items():\n    assert hashlib.sha256(eval(expression).encode()).hexdigest() == expected, expression\n"
        "print('all values are', 'real')",
        nbformat.v4.new_markdown_cell(f"Before this, `export API_KEY={secret['a comment in Markdown']}` in the shell."),
        "print(os.environ['GITHUB_TOKEN'], api_key, checkpoint, options['login']['password'], smtp_password, db_password)",
        "display(HTML('<b>' + html.escape(os.environ['DB_PASSWORD']) + '</b>'))",
        "print(base64.b64encode(os.environ['WANDB_API_KEY'].encode()).decode())",
        f"gitlab = '{secret['a cell']}'\ngitlab",
        f"db_pass = '{secret['a password that a cell sets and prints']}'\nprint('logging in with', db_pass)",
        f"!true curl -u anna:{secret['a command in a cell']} https://host.org",
        f"print('Authorization: Bearer {secret['what is printed on stderr']}', file=sys.stderr)",
        f"display(HTML('<a href=\"https://anna:{secret['HTML']}@host.org/a\">there</a>'))",
        f"class Token:\n    def __repr__(self): return '{secret['plain text of a display']}'\nToken()",
        f"display(JSON({{'user': 'anna', 'password': '{secret['JSON']}'}}))",
        f"sys.stdout.write('{pieces[19::-1]}'[::-1]); sys.stdout.flush(); time.sleep(1); print('{pieces[:19:-1]}'[::-1])",
        f"print('\\x1b[32m{secret['a colored line']}\\x1b[0m')",
        "print(unquote(os.environ['RUNS_URL'].split(':')[2].rsplit('@', 1)[0]))",
        f"def connect(password):\n    raise OSError('no answer for {secret['an exception']}')\n\nconnect(password=\"{secret['the source in a traceback']}\")",
    ]


def plant(folder: Path, secret: dict[str, str]) -> dict[str, str]:
    """Make a repository that is full of secrets; returns the variables of the environment that hold more of them."""
    (folder / "docker").mkdir(parents=True)
    write_notebook(folder / "train.ipynb", *planted_sources(secret))
    (folder / "model.py").write_text("filters = 32\n")
    (folder / "docker" / "requirements.txt").write_text(f"--extra-index-url https://anna:{secret['the package lock']}@host.org/simple\nclick==8.1.0\n")
    make_repository(folder)
    git(folder, "remote", "add", "origin", f"https://anna:{secret['the address of the remote']}@host.org/anna/digits.git")
    (folder / "model.py").write_text(f'filters = 32\napi_key = "{secret["a change that is not committed"]}"\n')
    (folder / "settings.env").write_text(f"DB_PASS={secret['a file that git does not track']}\n")
    (folder / "values.yaml").write_text(f"smtp_password: {secret['a file of parameters']}\n")
    return {"GITHUB_TOKEN": secret["an environment variable that is printed"], "DB_PASSWORD": secret["an environment variable that is shown in HTML"],
            "WANDB_API_KEY": secret["an environment variable, as base64"],
            "RUNS_URL": f"postgresql://anna:{quote(secret['the password of an address'], safe='')}@db.host:5432/runs"}


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a JSON value; lines of a text are also given as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from texts_of(one)
    elif isinstance(value, list):
        if all(isinstance(one, str) for one in value):
            yield "".join(value)
        for one in value:
            yield from texts_of(one)


def read_forms(path: Path) -> str:
    """Everything that can be read in a file: its bytes, its texts in JSON, both without colors."""
    text = path.read_bytes().decode(errors="replace")
    lines = [text] if path.suffix in (".json", ".ipynb") else text.splitlines() if path.suffix == ".jsonl" else []
    both = "\n".join([text, *(one for line in lines for one in texts_of(json.loads(line)))])
    return both + re.sub(r"\x1b\[[\d;]*m", "", both)


def find_leaks(files: list[Path], secret: dict[str, str]) -> list[str]:
    """Name the secrets that are in `files`, whole, in half, or in another spelling."""
    leaks = []
    for file in files:
        text = read_forms(file)
        for place, value in secret.items():
            halves = [value[:len(value) // 2], value[len(value) // 2:]] if len(value) > 20 else []
            for form in (value, *halves, quote(value, safe=""), html.escape(value), base64.b64encode(value.encode()).decode().rstrip("=")):
                if form in text:
                    at = text.index(form)
                    leaks.append(f"{place} is in {file.name}: ...{text[max(0, at - 60):at + 60]!r}...")
    return leaks


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> dict[str, Path]:
    """A repository full of secrets, in which the notebook ran through both commands at the same time."""
    folders = {launcher: tmp_path_factory.mktemp("planted") / "repository" for launcher in ("papermill", "ml-repo")}
    nested = json.dumps({"options": {"login": {"password": SECRETS["a value inside of a parameter"]}}})
    encoded = base64.b64encode(json.dumps({"checkpoint": SECRETS["a parameter with a harmless name"]}).encode()).decode()

    def start(launcher: str) -> None:
        folder = folders[launcher]
        variables = plant(folder, SECRETS)
        given = ["-p", "api_key", SECRETS["a parameter with a secret name"], "-f", "values.yaml"]
        if launcher == "papermill":
            command = ["papermill", "train.ipynb", "out.ipynb", *given, "-y", nested, "-b", encoded]
        else:
            options = str(json.loads(nested)["options"])
            command = ["ml-repo", "run", "train.ipynb", *given, "-p", "options", options, "-p", "checkpoint", SECRETS["a parameter with a harmless name"],
                       "--note", f"with {SECRETS['the note']}", "--tag", SECRETS["the note"], "--experiment", SECRETS["the note"], "--quiet"]
        result = run(*command, cwd=folder, **variables)
        assert result.returncode == 1 and "OSError" in result.stdout, result.stdout

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(start, folders))
    return folders


@pytest.mark.parametrize("launcher", ["papermill", "ml-repo"])
def test_no_secret_reaches_the_record(planted, launcher):
    folder = planted[launcher]
    files = [path for path in (folder / "experiments").rglob("*") if path.is_file()] + list(folder.glob("out.ipynb"))
    assert {"record.json", "train.ipynb", "log.txt", "code.patch"} <= {path.name for path in files}
    assert not find_leaks(files, SECRETS)


@pytest.mark.parametrize("launcher", ["papermill", "ml-repo"])
def test_the_notebook_sees_the_secrets_as_they_are(planted, launcher):
    record = only(read_records(planted[launcher]))
    assert record["cause"]["cell"] >= 18 and record["cause"]["exception"] == "OSError"  # none of the checks failed
    assert "all values are real" in (planted[launcher] / "experiments" / record["id"] / "log.txt").read_text()
    assert record["redacted"] and record["code"]["patch_is_exact"] is False


# A run that has everything, and a repository in which everything happened.

FULL = [
    CONTRACT + "\n".join(f"knob_{number:02}: float = {number}.0  # a setting of the example, unitless" for number in range(18)),
    """
    import hashlib
    from pathlib import Path
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from ml_repo.tracking.run import current_run, start_run
    """,
    """
    run = start_run(experiment="ignored here")
    assert run is start_run() is current_run()
    prices = open("prices.csv").read()
    Path("weights.bin").write_bytes(b"weights")
    run.log_artifact("weights.bin", "kept/weights.bin")
    """,
    """
    figure, axes = plt.subplots(figsize=(1, 1))
    run.log_figure(axes, "loss")
    """,
    "lr = 0.5",
    """
    for step in range(3):
        run.log(step=step, split="train", direction="lower", loss=float("nan") if step == 1 else 1 / (step + 1))
    run.log(split="test", direction="higher", accuracy=0.9, recall=float("inf"), precision=0.25)
    block = bytearray(80_000_000)
    print("a word", lr)
    """,
]


def make_dirty(folder: Path) -> None:
    """Change the files of a repository in every way that git knows."""
    (folder / "untracked.bin").write_bytes(bytes(range(256)) * 100)
    (folder / "deleted.py").unlink()
    (folder / "old name.py").rename(folder / "new name.py")
    (folder / "script.sh").chmod(0o755)
    (folder / "edited.py").write_text("filters = 64\n")
    (folder / "large.bin").write_bytes(os.urandom(10_000_001))


@dataclass
class Kept:
    """A run and what it left."""

    folder: Path  # of the repository
    record: dict = field(repr=False)  # its record
    printed: str = field(repr=False)  # by the command

    @property
    def kept(self) -> Path:
        """The folder of the record."""
        return self.folder / "experiments" / self.record["id"]


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Kept:
    """The run of a notebook that does everything, with papermill, in a repository with every kind of change."""
    folder = tmp_path_factory.mktemp("full") / "repository"
    (folder / "docker").mkdir(parents=True)
    (folder / "docker" / "requirements.txt").write_text((ROOT / "docker" / "requirements.txt").read_text())
    (folder / "prices.csv").write_text("1,2\n")
    for name in ("deleted.py", "old name.py", "script.sh", "edited.py"):
        (folder / name).write_text(f"name = {name!r}\n" * 9)
    write_notebook(folder / "train.ipynb", *FULL)
    make_repository(folder)
    git(folder, "remote", "add", "origin", "git@host.org:anna/digits.git")
    make_dirty(folder)
    command = ["papermill", "train.ipynb", "out.ipynb", "-p", "lr", "0.01", *shlex.split(" ".join(f"-p knob_{number:02} {number}.5" for number in range(18)))]
    printed = checked(*command, cwd=folder, ML_REPO_IMAGE="example_ml", ML_REPO_IMAGE_DIGEST="sha256:4f2a", OMP_NUM_THREADS="1", HOME_PAGE="private")
    return Kept(folder, only(read_records(folder)), printed)


def find_empty(value: Any, path: str = "") -> list[str]:
    """The places of a tree that say nothing."""
    if isinstance(value, dict) and value:
        return [place for name, one in value.items() for place in find_empty(one, f"{path}.{name}")]
    return [path] if value in (None, "", [], {}) else []


def sha256(path: Path) -> str:
    """The hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_record_is_complete_without_a_call_in_the_notebook(full):
    record, code = full.record, full.record["code"]
    needed = {name: record.get(name) for name in ("schema", "id", "experiment", "notebook", "state", "started", "ended", "duration_s", "command", "launched_by",
                                                  "source_sha256", "packages", "inputs", "outputs", "usage", "cells", "host")}
    assert set(find_empty(needed)) <= {".packages.edited"}  # empty where no installed package was edited
    assert (record["state"], record["launched_by"], record["experiment"]) == ("completed", "papermill", "train")
    assert (code["commit"], code["branch"]) == (git(full.folder, "rev-parse", "HEAD"), "main")
    assert (code["remote"], code["is_dirty"], code["patch"]) == ("git@host.org:anna/digits.git", True, "code.patch")
    assert record["source_sha256"] == hash_notebook(full.folder / "train.ipynb") == hash_notebook(full.kept / "train.ipynb")
    assert record["command"].endswith("-p lr 0.01 " + " ".join(f"-p knob_{number:02} {number}.5" for number in range(18)))
    assert (record["image"]["image"], record["image"]["image_digest"]) == ("example_ml", "sha256:4f2a")
    assert {"cpu", "cpu_flags", "memory_gb", "python", "system"} <= {name for name, value in record["machine"].items() if value}
    assert record["environment"]["OMP_NUM_THREADS"] == "1" and "HOME_PAGE" not in record["environment"]
    assert record["usage"]["peak_memory_gb"] > 0.08 and len(record["cells"]["duration_s"]) == len(FULL) + 1  # papermill adds one


def test_packages_and_lock_are_kept(full):
    packages, store = full.record["packages"], full.folder / "experiments" / ".store"
    lines = (store / f"{packages['list']}.txt").read_text().splitlines()
    assert len(lines) == packages["count"] and f"nbformat=={nbformat.__version__}" in lines
    assert packages["lock"] == sha256(ROOT / "docker" / "requirements.txt") == sha256(store / f"{packages['lock']}.txt")
    assert packages["matches_lock"] is True and "differ" not in packages


def test_files_are_kept_with_their_hashes(full):
    read = {one["path"]: one for one in full.record["inputs"]["files"]}
    assert read["prices.csv"] == {"path": "prices.csv", "size_bytes": 4, "sha256": hashlib.sha256(b"1,2\n").hexdigest()}
    written = {one["path"]: one["sha256"] for one in full.record["outputs"]["files"]}
    assert written == {"artifacts/kept/weights.bin": hashlib.sha256(b"weights").hexdigest(), "weights.bin": hashlib.sha256(b"weights").hexdigest(),
                       "artifacts/loss.png": sha256(full.kept / "artifacts" / "loss.png")}


def test_metrics_that_are_not_finite_are_kept_and_flagged(full):
    metrics = {one["name"]: one for one in full.record["metrics"]}
    assert metrics["loss"] == {"name": "loss", "split": "train", "value": 1 / 3, "step": 2, "direction": "lower", "not_finite": 1}
    assert (metrics["recall"]["value"], metrics["accuracy"]["value"]) == ("inf", 0.9)
    assert sum("was not finite" in warning for warning in full.record["warnings"]) == 2


def test_an_overwritten_parameter_is_flagged(full):
    assert full.record["parameters"]["lr"] == {"default": 0.1, "given": 0.01, "used": 0.5, "overwritten": True}
    assert full.record["parameters"]["knob_07"] == {"default": 7.0, "given": 7.5, "used": 7.5}
    assert any(warning.startswith("lr was given as 0.01, but held 0.5") for warning in full.record["warnings"])
    assert sum("overwritten" in about for about in full.record["parameters"].values()) == 1


def test_a_record_is_small(full):
    assert len(full.record["parameters"]) == 20 and len(full.record["metrics"]) == 4
    assert (full.kept / "record.json").stat().st_size <= 10_000


def test_commit_and_patch_give_the_tree(full, tmp_path):
    code = full.record["code"]
    git(tmp_path, "clone", "--quiet", "--no-checkout", str(full.folder), "clone")
    git(tmp_path / "clone", "checkout", "--quiet", "--detach", code["commit"])
    git(tmp_path / "clone", "apply", "--index", str(full.kept / "code.patch"))
    whole = only(code["whole"]["files"])
    shutil.copy(full.kept.parent / ".store" / f"{whole['sha256']}.bin", tmp_path / "clone" / whole["path"])
    git(tmp_path / "clone", "add", whole["path"])
    assert git(tmp_path / "clone", "write-tree") == code["tree"]
    assert code["patch_is_exact"] is True
    assert (tmp_path / "clone" / "untracked.bin").read_bytes() == (full.folder / "untracked.bin").read_bytes()
    assert os.access(tmp_path / "clone" / "script.sh", os.X_OK)
    assert sorted(path.name for path in (tmp_path / "clone").glob("*.py")) == ["edited.py", "new name.py"]


def test_a_file_over_the_limit_is_named(full):
    assert [(one["path"], one["size_bytes"]) for one in full.record["code"]["left_out"]] == [("large.bin", 10_000_001)]
    assert "Warning: Not kept with the uncommitted changes: large.bin (larger than 10,000,000 bytes)" in full.printed


def test_the_output_of_papermill_is_the_executed_notebook(full):
    assert json.loads((full.folder / "out.ipynb").read_text()) == json.loads((full.kept / "train.ipynb").read_text())
    assert not os.access(full.kept / "train.ipynb", os.W_OK) or os.geteuid() == 0
    assert (full.kept / "log.txt").read_text() == "a word 0.5\n"
    assert full.record["id"] in checked("ml-repo", "show", "out.ipynb", cwd=full.folder)


# What is refused.

TYPED = {
    "a lost tag": ({"tagged": ()}, ["lr", "0.01"], "no cell tagged `parameters`"),
    "a typo": ({}, ["epoch", "3"], "Did you mean epochs?"),
    "a wrong type": ({}, ["epochs", "2.5"], "is of type float, but epochs is of type int"),
    "two cells": ({"tagged": (0, 1)}, ["lr", "0.01"], "has 2 cells tagged `parameters`"),
    "a kernel that is not installed": ({"kernel": PYTHON | {"name": "pyhton3"}}, ["lr", "0.01"], "Installed are: "),
}


@pytest.fixture(scope="module")
def refusals(tmp_path_factory) -> dict[tuple[str, str], Any]:
    """What each command answers to each mistake, and the folder in which it was made."""
    def refuse(case: tuple[str, str]) -> tuple[subprocess.CompletedProcess, Path]:
        options, pair, _ = TYPED[case[0]]
        folder = tmp_path_factory.mktemp("refused") / "repository"
        folder.mkdir()
        (folder / "settings.ini").write_text(ASKING)
        write_notebook(folder / "train.ipynb", CONTRACT, "lr: float = 0.2", "open('started', 'w')", **options)
        command = ["papermill", "train.ipynb", "out.ipynb"] if case[1] == "papermill" else ["ml-repo", "run", "train.ipynb"]
        return run(*command, "-p", *pair, cwd=folder), folder

    cases = [(mistake, launcher) for mistake in TYPED for launcher in ("papermill", "ml-repo")]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(cases, pool.map(refuse, cases)))


@pytest.mark.parametrize("launcher", ["papermill", "ml-repo"])
@pytest.mark.parametrize("mistake", TYPED)
def test_a_mistake_is_refused_before_anything_starts(refusals, mistake, launcher):
    result, folder = refusals[mistake, launcher]
    assert result.returncode == 2 and TYPED[mistake][2] in result.stdout, result.stdout
    assert "Traceback" not in result.stdout
    assert sorted(path.name for path in folder.iterdir()) == ["settings.ini", "train.ipynb"]


@pytest.mark.parametrize("mistake", TYPED)
def test_a_mistake_is_an_exception_in_python(refusals, mistake):
    options, (name, value), message = TYPED[mistake]
    _, folder = refusals[mistake, "papermill"]
    with pytest.raises(ParameterError, match=re.escape(message)):
        run_notebook(folder / "train.ipynb", {name: float(value) if "." in value else int(value)}, quiet=True)
    assert not (folder / "experiments").exists()


@pytest.mark.parametrize("launcher", ["papermill", "ml-repo"])
def test_a_typed_value_parses_the_parameters_cell_once(launcher, tmp_path, monkeypatch):
    folder, parsed = make_repository(tmp_path / "project"), []
    write_notebook(folder / "train.ipynb", CONTRACT, "assert lr == 0.01")

    def parse(source, *arguments, **options):
        parsed.append(source)
        return read_tree(source, *arguments, **options)

    read_tree = ast.parse
    monkeypatch.setattr(ast, "parse", parse)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as end:
        if launcher == "papermill":
            papermill_command(["train.ipynb", "out.ipynb", "-p", "lr", "0.01"])
        else:
            ml_repo_command(["run", "train.ipynb", "-p", "lr", "0.01"])
    assert end.value.code == 0
    assert parsed.count(CONTRACT.strip()) == 1
    record = only(read_records(folder))
    assert record["parameters"]["lr"] == {"default": 0.1, "given": 0.01, "used": 0.01}
    assert record["launched_by"] == {"papermill": "papermill", "ml-repo": "ml-repo run"}[launcher]


# Two people.

def test_the_runs_of_two_people_merge(tmp_path):
    (tmp_path / "origin" / "docker").mkdir(parents=True)
    (tmp_path / "origin" / "docker" / "requirements.txt").write_text("click==0.1\nnot-installed==2.0\n")
    (tmp_path / "origin" / "nbs").mkdir()
    write_notebook(tmp_path / "origin" / "nbs" / "train.ipynb", CONTRACT, "from ml_repo.tracking.run import start_run\nrun = start_run()",
                   "run.log(split='test', loss=lr)\nrun.artifact_path('weights.bin').write_bytes(bytes(1000))")
    origin = make_repository(tmp_path / "origin")
    people = [tmp_path / name for name in ("anna", "ben")]

    def work(folder: Path) -> None:
        git(tmp_path, "clone", "--quiet", str(origin), folder.name)
        git(folder, "config", "user.name", folder.name)
        git(folder, "config", "user.email", f"{folder.name}@localhost")
        checked("ml-repo", "run", "nbs/train.ipynb", "-p", "lr", "0.2", "--experiment", "step size", "--note", folder.name, cwd=folder)
        commit(folder)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, people))
    git(people[0], "pull", "--quiet", "--no-rebase", "--no-edit", str(people[1]), "main")
    records = read_records(people[0])
    assert sorted(record["note"] for record in records) == ["anna", "ben"]
    assert {record["experiment"] for record in records} == {"step size"}
    assert [record["packages"]["matches_lock"] for record in records] == [False, False]
    assert records[0]["packages"]["missing"] == ["not-installed 2.0"] and records[0]["packages"]["differ"][0].startswith("click ")
    tracked = [people[0] / name for name in git(people[0], "ls-files", "experiments").splitlines()]
    assert {path.name for path in tracked} >= {"record.json", "metrics.jsonl", "train.ipynb"} and not [path for path in tracked if "artifacts" in path.parts]
    assert all(path.stat().st_size < 20_000 and path.read_text() for path in tracked)
    assert git(people[0], "status", "--porcelain") == ""


# Other kernels and engines.

def write_kernel(folder: Path, name: str, language: str, *command: str | Path) -> dict[str, str]:
    """Install a kernel into `folder`; returns the variables that make Jupyter look there."""
    place = folder / "kernels" / name
    place.mkdir(parents=True)
    (place / "kernel.json").write_text(json.dumps({"argv": [*map(str, command), "-f", "{connection_file}"], "display_name": name, "language": language}))
    return {"JUPYTER_PATH": str(folder)}


def test_a_bash_notebook_has_a_record(tmp_path):
    variables = write_kernel(tmp_path / "jupyter", "bash", "bash", sys.executable, "-m", "bash_kernel")
    folder = make_repository(tmp_path / "repository")
    write_notebook(folder / "count.ipynb", "lr=0.1", "echo lr is $lr > said.txt; echo $lr", kernel={"name": "bash", "display_name": "Bash", "language": "bash"})
    checked("papermill", "count.ipynb", "out.ipynb", "-p", "lr", "0.01", cwd=folder, **variables)
    record = only(read_records(folder))
    assert (record["state"], record["kernel"]) == ("completed", {"name": "bash", "language": "bash"})
    assert (folder / "said.txt").read_text() == "lr is 0.01\n"
    assert record["parameters"]["lr"]["given"] == 0.01 and any("not checked" in warning for warning in record["warnings"])
    assert record["code"]["commit"] and record["packages"]["list"]


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> tuple[Path, dict[str, str]]:
    """An environment with a Python kernel and without this package, and the variables to find it."""
    folder = tmp_path_factory.mktemp("foreign")
    checked(BIN / "uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    got = run(BIN / "uv", "pip", "install", "--quiet", "--python", python, f"ipykernel=={version('ipykernel')}")
    if got.returncode:
        pytest.skip(f"ipykernel comes from a package index, and uv got none: {got.stdout.strip()}")
    return folder / "venv", write_kernel(folder / "jupyter", "foreign", "python", python, "-m", "ipykernel_launcher")


def test_a_kernel_of_another_environment_has_a_full_record(foreign, tmp_path):
    venv, variables = foreign
    folder = make_repository(tmp_path / "repository")
    (folder / "prices.csv").write_text("1,2\n")
    write_notebook(folder / "train.ipynb", CONTRACT, "import importlib.util\nassert importlib.util.find_spec('ml_repo') is None", "prices = open('prices.csv').read()",
                   "lr = 0.3", kernel=PYTHON | {"name": "foreign"})
    checked("ml-repo", "run", "train.ipynb", "-p", "epochs", "3", cwd=folder, **variables)
    record = only(read_records(folder))
    assert (record["state"], record["parameters"]["lr"]["used"], record["parameters"]["epochs"]["used"]) == ("completed", 0.3, 3)
    assert [one["path"] for one in record["inputs"]["files"]] == ["prices.csv"]
    packages = (folder / "experiments" / ".store" / f"{record['packages']['list']}.txt").read_text()
    assert "ipykernel==" in packages and "papermill==" not in packages and "ml-repo" not in packages
    assert any(str(venv) in warning for warning in record["warnings"])


def test_another_engine_keeps_a_record(tmp_path):
    folder = make_repository(tmp_path / "repository")
    write_notebook(folder / "train.ipynb", CONTRACT, "print('the step is', lr)")
    checked("ml-repo", "run", "train.ipynb", "-p", "lr", "0.01", "--engine", "nbclient", "--quiet", cwd=folder)
    record = only(read_records(folder))
    assert (record["state"], record["parameters"]["lr"]["given"]) == ("completed", 0.01)
    assert "the step is 0.01" in (folder / "experiments" / record["id"] / "train.ipynb").read_text()
    refused = run("ml-repo", "run", "train.ipynb", "--engine", "nbclyent", cwd=folder)
    assert refused.returncode == 2 and "No engine named 'nbclyent'" in refused.stdout and len(read_records(folder)) == 1


def shape(path: Path) -> list:
    """What an executed notebook holds, without the times and the names of cells."""
    notebook = json.loads(path.read_text())
    cells = [(cell["cell_type"], cell["source"], cell.get("outputs"), cell["metadata"].get("tags"), sorted(cell["metadata"]["papermill"])) for cell in notebook["cells"]]
    return [cells, sorted(notebook["metadata"]), sorted(notebook["metadata"]["papermill"]), notebook["nbformat_minor"]]


def test_a_repository_that_does_not_ask_is_left_alone(tmp_path):
    folder = make_repository(tmp_path / "repository", settings="[DEFAULT]\nlib_name = other\n")
    write_notebook(folder / "train.ipynb", "lr = 0.1", "print(lr)\nlr")
    checked("papermill", "train.ipynb", "out.ipynb", "-p", "lr", "0.01", cwd=folder)
    checked("papermill", "train.ipynb", "plain.ipynb", "-p", "lr", "0.01", "--engine", "nbclient", cwd=folder)
    assert shape(folder / "out.ipynb") == shape(folder / "plain.ipynb")
    assert sorted(path.name for path in folder.iterdir() if path.name[0] != ".") == ["out.ipynb", "plain.ipynb", "settings.ini", "train.ipynb"]


# Notebooks and values that are not as usual.

@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    """A repository for notebooks that are not as usual."""
    return make_repository(tmp_path_factory.mktemp("odd") / "repository")


def execute(folder: Path, notebook: Any, output: str | None = None, **parameters: Any) -> dict:
    """Execute a notebook with papermill's own function; returns the record of the run."""
    before = set(find_records(folder / "experiments"))
    papermill.execute_notebook(notebook, output and str(folder / output), parameters, cwd=folder, progress_bar=False)
    return read_record(only(sorted(set(find_records(folder / "experiments")) - before)))


def test_a_notebook_of_version_3_runs(odd):
    cell = {"cell_type": "code", "input": ["print('old')"], "language": "python", "outputs": [], "metadata": {}}
    (odd / "old.ipynb").write_text(json.dumps({"metadata": {"name": "", "kernelspec": PYTHON}, "nbformat": 3, "nbformat_minor": 0,
                                               "worksheets": [{"cells": [cell]}]}))
    record = execute(odd, str(odd / "old.ipynb"))
    assert (record["state"], (record.folder / "log.txt").read_text()) == ("completed", "old\n")


def test_a_notebook_in_memory_runs(odd, monkeypatch):
    monkeypatch.chdir(odd)
    notebook = nbformat.read(write_notebook(odd / "memory.ipynb", CONTRACT, "epochs += 1"), 4)
    record = execute(odd, notebook, "memory-out.ipynb", lr=0.5)
    assert (record["state"], record["notebook"], record["parameters"]["lr"]["used"]) == ("completed", "notebook.ipynb", 0.5)
    assert record["parameters"]["epochs"] == {"default": 2, "used": 3, "overwritten": True}


def test_a_notebook_in_memory_is_left_alone_where_nobody_asks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    papermill.execute_notebook(nbformat.read(write_notebook(tmp_path / "train.ipynb", "lr = 0.1"), 4), None, {"lr": 0.5}, progress_bar=False)
    assert [path.name for path in tmp_path.iterdir()] == ["train.ipynb"]


def test_values_of_every_kind_are_the_same_in_record_and_kernel(odd):
    write_notebook(odd / "values.ipynb", 'weights: dict = {}\nsizes: list = []\nname: str = ""')
    given = {"weights": {0: 1.5, 1: 2.5}, "sizes": [[1, [2, None]], {"a": "b"}], "name": 'two words\nund "Grüße" \\ \u2028 {x}'}
    record = execute(odd, odd / "values.ipynb", **given)
    assert not record["warnings"] and record["parameters"]["sizes"]["used"] == given["sizes"] and record["parameters"]["name"]["used"] == given["name"]
    with pytest.raises(ParameterError, match="all texts or all numbers"):
        execute(odd, odd / "values.ipynb", weights={1: 2, "one": 2})


def test_values_that_were_never_set_are_not_called_overwritten(odd):
    write_notebook(odd / "early.ipynb", "1 / 0", CONTRACT, tagged=(1,))
    with pytest.raises(papermill.PapermillExecutionError):
        execute(odd, odd / "early.ipynb", lr=0.5)
    record = only([one for one in read_records(odd) if one["notebook"] == "early.ipynb"])
    assert (record["state"], record["parameters"]["lr"], record["warnings"]) == ("failed", {"default": 0.1, "given": 0.5}, [])


def test_a_notebook_that_runs_another_one_keeps_two_records(odd):
    write_notebook(odd / "inner.ipynb", CONTRACT, "from ml_repo.tracking.run import start_run\nstart_run().log(inner=1)")
    write_notebook(odd / "outer.ipynb", CONTRACT, "import papermill\nfrom ml_repo.tracking.run import start_run",
                   "papermill.execute_notebook('inner.ipynb', None, {'lr': 0.7}, progress_bar=False)\nstart_run().log(outer=1)")
    checked("papermill", "outer.ipynb", "--no-progress-bar", cwd=odd)
    found = {one["notebook"]: one for one in read_records(odd)}
    assert [one["name"] for one in found["inner.ipynb"]["metrics"] + found["outer.ipynb"]["metrics"]] == ["inner", "outer"]
    assert found["outer.ipynb"]["outputs"] == {"files": []}


# By hand.

class Hand:
    """A person who runs cells of a notebook in JupyterLab."""

    def __init__(self, path: Path, *sources: str, **environment: str):
        self.sources, self.folder = sources, path.parent
        self.ids = [cell.id for cell in nbformat.read(write_notebook(path, *sources), 4).cells]
        self.manager, self.client = start_new_kernel(env={**os.environ, "JPY_SESSION_NAME": str(path), **environment}, cwd=str(path.parent))

    def run(self, *cells: int) -> list[str]:
        """Run cells, by their numbers from 0; returns how each ended."""
        ends = []
        for number in cells:
            # Without `stop_on_error`: a request that comes right after an error would be aborted as one that was queued before it.
            content = {"code": self.sources[number], "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False, "stop_on_error": False}
            message = self.client.session.msg("execute_request", content, metadata={"cellId": self.ids[number]})
            self.client.shell_channel.send(message)
            while (reply := self.client.get_shell_msg(timeout=LIMIT_S))["parent_header"].get("msg_id") != message["header"]["msg_id"]:
                pass
            ends.append(reply["content"]["status"])
        return ends

    def leave(self) -> list[dict]:
        """End the kernel; returns the records."""
        self.manager.shutdown_kernel()
        self.client.stop_channels()
        return sorted(read_records(self.folder), key=lambda record: record["started"])


def test_runs_by_hand_hide_secrets_and_tell_what_happened(tmp_path):
    folder, token, password = make_repository(tmp_path / "repository"), SECRETS["a parameter with a harmless name"], SECRETS["a value inside of a parameter"]
    hand = Hand(folder / "explore.ipynb", CONTRACT, f"from ml_repo.tracking.run import start_run\nrun = start_run(note='with {token}')", "run.log(loss=lr)",
                f"import os\nraise OSError('no {token}, ' + os.environ['DB_PASSWORD'])", "%%time\n!echo a shell", DB_PASSWORD=password)
    try:
        assert hand.run(0, 1, 2, 4, 3, 1, 2, 2) == ["ok"] * 4 + ["error"] + ["ok"] * 3
    finally:
        first, second = hand.leave()
    assert (first["state"], first["cause"]["exception"], second["state"]) == ("failed", "OSError", "completed")
    assert not any("from top to bottom" in warning for warning in second["warnings"]) and any("more than once" in warning for warning in second["warnings"])
    assert first["source_sha256"] == hash_notebook(folder / "explore.ipynb") and first["launched_by"] == "interactive"
    files = [path for path in (folder / "experiments").rglob("*") if path.is_file()]
    assert not find_leaks(files, {"the token": token, "the password": password})
    texts = [read_forms(path) for path in files if path.name == "explore.ipynb"]
    assert sum("a shell" in text for text in texts) == 1


# The command line.

def test_help_and_schema_answer(full):
    assert all(option in checked("ml-repo", "run", "--help", cwd=full.folder) for option in ("--parameter", "--note", "--engine", "Example"))
    schema = json.loads(checked("ml-repo", "schema", cwd=full.folder))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(full.record, schema)


def test_show_says_what_one_asks_first(full):
    said = checked("ml-repo", "show", cwd=full.folder)
    assert full.record["id"] in said and "completed" in said and "accuracy" in said and "lr was given as 0.01" in said
    absent = run("ml-repo", "show", "no-such-run", cwd=full.folder)
    assert absent.returncode == 2 and "No run is named" in absent.stdout
