"""The first run of a machine finds an empty home and fills it; its record is as good as that of any later run."""
import json
import os
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import checked, run
from test_record import make_repository, write_notebook

from ml_repo.records.reader import find_records, read_record

LIBRARY = """
import os
from pathlib import Path

home = Path.home()
first = {  # as libraries keep them
    home / ".example/settings.json": '{"precision": "single"}', home / "nltk_data/corpora/words": "one two", home / ".cache/example/model.bin": "weights",
    home / ".cache/matplotlib/fontlist-v390.json": "[]", Path(os.environ["EXAMPLE_CACHE_DIR"]) / "compiled.bin": "code", Path("__pycache__/step.nbi"): "code"}
for path, text in first.items():
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print("Downloading data from https://example.org/" + path.name)
settings = (home / ".example/settings.json").read_text()
"""
RESULTS = """
import tempfile

print(settings, (home / "nltk_data/corpora/words").read_text())
(home / "results").mkdir(exist_ok=True)
(home / "results/loss.csv").write_text("0.5")
Path(os.environ["OUTSIDE"]).write_text("0.25")
handle, left_behind = tempfile.mkstemp(suffix=".csv")
os.write(handle, os.urandom(8))
Path(tempfile.mkdtemp(), "part.csv").write_text("1")
"""


class Newcomer(NamedTuple):
    """A project and a home that nobody has used yet."""
    project: Path
    home: Path
    variables: dict[str, str]

    def verify(self, *options: str) -> dict:
        """Verify the latest run; checks that the exit code says the same as the verdict."""
        result = run("sh", "-c", '"$@" 2> /dev/null', "sh", "ml-repo", "verify", "latest", "--json", "--no-keep", *options, cwd=self.project, **self.variables)
        (found,) = json.loads(result.stdout)
        assert result.returncode == found["exit_code"]
        return found


def start(root: Path, *cells: str) -> Newcomer:
    """Make a project with a notebook of some cells, and run it once in an empty home."""
    (root / "project").mkdir(parents=True)
    write_notebook(root / "project/train.ipynb", "lr: float = 0.1  # step size, above 0", *cells)
    make_repository(root / "project")
    (root / "home").mkdir()
    variables = {"HOME": str(root / "home"), "EXAMPLE_CACHE_DIR": str(root / "cache"), "OUTSIDE": str(root / "outside.csv"), "TMPDIR": str(root / "temporary")}
    Path(variables["TMPDIR"]).mkdir()
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"):
        variables[name] = ""
    checked("ml-repo", "run", "train.ipynb", "--quiet", cwd=root / "project", **variables)
    return Newcomer(root / "project", root / "home", variables)


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory) -> Newcomer:
    return start(tmp_path_factory.mktemp("newcomer").resolve(), LIBRARY, RESULTS)


def name_files(newcomer: Newcomer, field: str) -> list[str]:
    (record,) = find_records(newcomer.project / "experiments")
    return [file["path"] for file in read_record(record)[field]["files"]]


def test_only_what_the_notebook_itself_wrote_is_an_output(newcomer):
    assert name_files(newcomer, "outputs") == [str(newcomer.home / "results/loss.csv"), newcomer.variables["OUTSIDE"]]
    kept = name_files(newcomer, "library_files")
    assert {"~/.example/settings.json", "~/nltk_data/corpora/words", "~/.cache/example/model.bin", "$EXAMPLE_CACHE_DIR/compiled.bin", "__pycache__/step.nbi"} < set(kept)
    assert sum(name.startswith("$TMPDIR/") for name in kept) == 2
    assert str(newcomer.home) not in json.dumps(kept)


def test_the_second_run_only_reads_and_the_first_is_identical(newcomer):
    found = newcomer.verify()
    assert found["verdict"] == "identical" and "only what Python itself opened was seen" in found["problem"], found
    assert {item["name"] for item in found["items"] if item["name"].startswith("file ")} == {f"file {name}" for name in name_files(newcomer, "outputs")}


def test_settings_that_have_changed_are_to_blame(newcomer):
    settings = newcomer.home / ".example/settings.json"
    before = settings.read_text()
    settings.write_text(before.replace("single", "double"))
    try:
        found = newcomer.verify()
        assert found["verdict"] == "cannot be judged" and "~/.example/settings.json" in found["problem"], found
        assert (found["causes"][0]["kind"], found["causes"][0]["text"].split()[0]) == ("data file", "~/.example/settings.json")
    finally:
        settings.write_text(before)


@pytest.mark.slow
def test_a_result_outside_of_the_project_counts(tmp_path):
    newcomer = start(tmp_path.resolve(), "import os\nopen(os.environ['OUTSIDE'], 'wb').write(os.urandom(8))")
    assert newcomer.verify()["verdict"] == "differs"  # the file of the first run was overwritten, and such bytes hold no date
    assert os.path.exists(newcomer.variables["OUTSIDE"])


def test_a_record_of_an_earlier_version_is_judged_as_well(shipped, tmp_path):
    """The first shipped run has written Keras' settings, and its record calls them an output."""
    from ml_repo.results.record_diff import read_files, read_library_files
    from ml_repo.verify.file_check import judge_outputs
    from ml_repo.verify.metric_check import Tolerances
    from ml_repo.verify.text_context import Origin
    from ml_repo.records.reader import Record

    wrote, read = (read_record(folder) for folder in find_records(shipped)[:2])
    assert any(file["path"].endswith(".keras/keras.json") for file in wrote["outputs"]["files"])
    assert list(read_files(wrote, "outputs")[0]) == ["artifacts/model.keras"] and list(read_library_files(wrote)) == ["~/.keras/keras.json"]
    new = Record(read.folder, dict(read) | {"library_files": {"files": []}})
    assert "~/.keras/keras.json" in read_files(read, "inputs")[0]
    names = [item.name for item in judge_outputs(wrote, new, Tolerances(), (Origin(), Origin()))]
    assert names == ["weights model", "file artifacts/model.keras"]
