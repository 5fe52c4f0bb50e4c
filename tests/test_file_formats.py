"""Each rule for a format both ways: the same code at another time is identical, one changed value is not."""
import os
import pickle
import sys
import warnings
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import pytest
from conftest import ROOT, checked
from format_writers import WRITERS

from ml_repo.formats.file_formats import FORMATS, format_rows, plain_name
from ml_repo.verify.file_check import compare_files
from ml_repo.verify.metric_check import Tolerances
from ml_repo.verify.text_context import Origin

PYTHON = os.environ.get("ML_REPO_FORMATS_PYTHON") or sys.executable  # with more libraries than this environment
QUICK = ("numpy", "archives", "h5py", "pandas", "pickles", "joblib", "cloudpickle", "sqlite", "pillow", "matplotlib", "scipy",
         "tensorboard", "nbformat")
NEEDS_COMPANY = {"checkpoint", "fingerprint.pb", "saved_model.pb"}  # of a SavedModel or checkpoint: say nothing of a value
# Files whose bytes must differ, or the rule is not put to the test.
DATED = {"numpy": (), "archives": ("a.zip", "a.tar.gz", "a.csv.gz"), "h5py": ("a.h5",), "pandas": (), "pickles": ("protocol-5.pkl", "moments.pkl"),
         "joblib": (), "cloudpickle": ("cloud.pkl",), "sqlite": ("a.db",), "pillow": ("a.png", "a.jpg", "a.tif"),
         "matplotlib": ("figure.pdf", "figure.svg", "figure.eps"), "scipy": ("a.mat",), "tensorboard": (), "nbformat": ("a.ipynb",)}


def list_written(folder: Path) -> dict[str, Path]:
    """Files by name, without what is drawn anew in a name."""
    return {plain_name(path.relative_to(folder).as_posix()): path for path in sorted(folder.rglob("*")) if path.is_file()}


def write_three(folder: Path, names: tuple[str, ...]) -> tuple[list[dict[str, Path]], list[Origin]]:
    """Let the writers write: a run, one with a changed value, the run again. Each is a process with its own hashes of texts."""
    written, origins, missing = [], [], set()
    for name, value, seed in (("run", 1.0, "1"), ("changed", 2.0, "2"), ("again", 1.0, "3")):
        begin = datetime.now(timezone.utc)
        said = checked(PYTHON, ROOT / "tests" / "format_writers.py", folder / name, value, *names, PYTHONHASHSEED=seed, PYTHONWARNINGS="ignore")
        missing |= {line for line in said.splitlines() if line.partition(":")[0] in names}
        origins.append(Origin(begin, datetime.now(timezone.utc)))
        written.append(list_written(folder / name))
    if missing:
        warnings.warn(f"not measured, since a library is not installed: {'; '.join(sorted(missing))}", stacklevel=2)
        if len(missing) == len(names):
            pytest.skip("; ".join(missing))
    return written, origins


def judge_three(written: list[dict[str, Path]], origins: list[Origin]) -> tuple[list[str], set[str]]:
    """Compare all files; returns what is wrong, and the names of those whose bytes differ without a reason."""
    run, changed, again = written
    assert run and run.keys() == changed.keys() == again.keys(), [run.keys() ^ changed.keys(), run.keys() ^ again.keys()]
    wrong, dated = [], set()
    for name in run:
        verdict, detail, _ = compare_files(run[name], again[name], Tolerances(), (origins[0], origins[2]))
        wrong += [f"{name} was written twice: {verdict}, {detail}"] if verdict != "identical" else []
        dated |= {name} if run[name].read_bytes() != again[name].read_bytes() else set()
        if run[name].read_bytes() != changed[name].read_bytes():
            verdict, detail, _ = compare_files(run[name], changed[name], Tolerances(), (origins[0], origins[1]))
            is_named = detail and detail != "other bytes" or not name.endswith((".npz", ".h5", ".pt", ".pkl", ".joblib", ".zip", ".db"))
            is_beside = ".data-0" in name or Path(name).name in NEEDS_COMPANY
            wrong += [f"{name} with another value: {verdict}, {detail}"] if not is_beside and (verdict != "differs" or not is_named) else []
    return wrong, dated


def test_what_is_installed_everywhere(tmp_path):
    wrong, dated = judge_three(*write_three(tmp_path, QUICK))
    assert wrong == []
    expected = {name for names in DATED.values() for name in names}
    assert expected <= dated, f"the same bytes, so their rule was not tried: {expected - dated}"


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(WRITERS.keys() - set(QUICK)))
def test_what_some_have_installed(tmp_path, name):
    """Also with the libraries of another environment: ML_REPO_FORMATS_PYTHON=/path/to/python pytest tests/test_file_formats.py"""
    wrong, dated = judge_three(*write_three(tmp_path, (name,)))
    print(f"{name}: other bytes each time in {', '.join(sorted(dated)) or 'no file'}")
    assert wrong == []


class Trap:
    """Loading it makes a folder."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple[Callable, tuple]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("name", ["a.pkl", "a.joblib", "a.pt", "a.npy", "a.bin", "model.zip"])
def test_nothing_is_unpickled(tmp_path, name):
    import io
    import zipfile

    import numpy as np

    paths = []
    for side in ("one", "other"):
        made = tmp_path / f"made by {side}"
        data = pickle.dumps(Trap(made))
        if name.endswith((".pt", ".zip")):
            file = io.BytesIO()
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("archive/data.pkl" if name == "a.pt" else "inner.pkl", data)
            data = file.getvalue()
        elif name.endswith(".npy"):
            file = io.BytesIO()
            np.save(file, np.array([Trap(made)], dtype=object), allow_pickle=True)
            data = file.getvalue()
        paths.append(tmp_path / f"{side}-{name}")
        paths[-1].write_bytes(data)
    verdict, detail, _ = compare_files(*paths)
    assert verdict == "differs" and "made by one" in detail
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)


def test_a_damaged_file_is_never_identical(tmp_path):
    """A file that is cut off is told apart from the whole, and two damaged ones from each other."""
    (written, _, again), origins = write_three(tmp_path, ("numpy", "h5py", "archives", "sqlite", "joblib", "scipy"))
    for name, path in written.items():
        data = path.read_bytes()
        data = data.rstrip(bytes(1)) if name.endswith(".tar") else data  # without its end, which is padding, it is whole
        if len(data) < 40:
            continue
        cut = tmp_path / f"cut{Path(name).suffix}"
        cut.write_bytes(data[:len(data) * 2 // 3])
        assert compare_files(path, cut).verdict in ("differs", "cannot be judged"), name
        torn = tmp_path / f"torn{Path(name).suffix}"
        torn.write_bytes(data[:len(data) // 2])
        assert compare_files(torn, cut).verdict in ("differs", "cannot be judged"), name


def test_the_guide_shows_the_table():
    text = (ROOT / "nbs" / "guides" / "reproduce.ipynb").read_text()
    import json

    prose = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
    assert format_rows() in prose, "put the output of ml_repo.formats.file_formats.format_rows() into nbs/guides/reproduce.ipynb"
    assert len({form.name for form in FORMATS}) == len(FORMATS)
