"""Notebooks of other people run here wherever papermill runs them, and show the same."""
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from conftest import checked, run
from strangers import FATAL, MORE, PYTHON, STRANGERS, find_installed

ASKING = "[DEFAULT]\npapermill_engine = ml_repo\n"


def compare_doors(folder: Path, names: list[str]) -> list[str]:
    """Run notebooks by papermill alone, by papermill with this engine, and by `ml-repo run`; returns what differs."""
    def start(number: int) -> dict[str, Any]:
        base = folder / str(number)
        base.mkdir()
        checked(sys.executable, Path(__file__).with_name("strangers.py"), base, *names[number::2])
        return json.loads((base / "doors.json").read_text())

    with ThreadPoolExecutor(2) as pool:
        found = [item for doors in pool.map(start, range(min(2, len(names)))) for item in doors.items()]
    problems = []
    for name, doors in found:
        status, shown, _ = doors.pop("plain papermill")
        for door, answer in doors.items():
            if answer is None:
                continue
            if bool(answer[0]) != bool(status) and name not in MORE:
                problems.append(f"{name}, by {door}: exit status {answer[0]} and not {status}: {answer[2]}")
            elif answer[0] == 0 == status or answer[0] == status == 1 and name not in FATAL:
                if answer[1] != shown and answer[1] is not None:
                    problems.append(f"{name}, by {door}: shows {answer[1]} and not {shown}")
    assert len(found) == len(names)
    return problems


def test_usual_notebooks_run_as_by_papermill_alone(tmp_path):
    assert compare_doors(tmp_path, [name for name in find_installed() if STRANGERS[name].is_usual]) == []


@pytest.mark.slow
def test_all_notebooks_run_as_by_papermill_alone(tmp_path):
    assert len(STRANGERS) >= 90
    assert compare_doors(tmp_path, find_installed()) == []


# What each of them shows, and what its record says.

def make_repository(folder: Path, *sources: str, parameters: str = "", metadata: dict[str, Any] = PYTHON) -> Path:
    """Make a repository with one notebook and one commit."""
    folder.mkdir()
    cells = [nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})] if parameters else []
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, *map(nbformat.v4.new_code_cell, sources)], metadata=metadata), folder / "a.ipynb")
    (folder / "settings.ini").write_text(ASKING)
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "Begin"]):
        subprocess.run(["git", "-C", folder, *words], check=True)
    return folder


def read_only(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read the only record: its fields, and the cells of the executed notebook."""
    file, = (folder / "experiments").glob("a-*/record.json")
    return json.loads(file.read_text()), json.loads((file.parent / "a.ipynb").read_text())["cells"]


def test_a_display_that_a_later_cell_updates_is_up_to_date(tmp_path):
    folder = make_repository(tmp_path / "a", "print('above')\nh = display('begin', display_id=True)\nprint('below')", "for i in range(3):\n    h.update(f'step {i}')\nprint('end')")
    checked("papermill", "a.ipynb", "o.ipynb", "--no-progress-bar", cwd=folder)
    _, cells = read_only(folder)
    for shown in (cells, json.loads((folder / "o.ipynb").read_text())["cells"]):
        assert [output.get("data", {}).get("text/plain") or output["text"] for output in shown[0]["outputs"]] == [["above\n"], ["'step 2'"], ["below\n"]]


def test_parameters_without_a_type_take_it_from_their_default(tmp_path):
    folder = make_repository(tmp_path / "a", "print(repr(x), repr(name), repr(sizes), y)", parameters="x = 4\nname = 'abc'\nsizes = [1]\ny = 2 * x")
    printed = checked("ml-repo", "run", "a.ipynb", "-p", "x", "5", "-p", "name", "007", "-p", "sizes", "[2, 3]", cwd=folder)
    assert "5 '007' [2, 3] 8" in printed and "y is computed in the parameters cell, from the default of x" in printed
    record, _ = read_only(folder)
    assert record["parameters"] == {"x": {"default": 4, "given": 5, "used": 5}, "name": {"default": "abc", "given": "007", "used": "007"},
                                    "sizes": {"default": [1], "given": [2, 3], "used": [2, 3]}}
    listed = checked("ml-repo", "params", "a.ipynb", cwd=folder)
    assert [row in listed for row in ("x          int", "sizes      list", "y")]
    (folder / "settings.ini").write_text(ASKING + "parameter_types = required\n")
    refused = run("ml-repo", "run", "a.ipynb", cwd=folder)
    assert refused.returncode == 2 and "'x = 4'. Each line must be an assignment with a type" in refused.stdout


def test_verify_keeps_the_time_limit_of_a_run(tmp_path):
    folder = make_repository(tmp_path / "a", "while True:\n    continue")
    assert run("ml-repo", "run", "a.ipynb", "--timeout", "2", "--quiet", cwd=folder).returncode == 1
    record, _ = read_only(folder)
    assert (record["state"], record["cause"]["kind"], record["limits"]) == ("failed", "timeout", {"cell_s": 2})
    verified = run("ml-repo", "verify", "latest", cwd=folder)
    assert verified.returncode == 0 and "identical" in verified.stdout, verified.stdout


def test_a_notebook_that_names_no_kernel_runs_with_the_only_one_of_its_language(tmp_path):
    folder = make_repository(tmp_path / "a", "print(n)", parameters="n: int = 4", metadata={"language_info": {"name": "python"}})
    assert "5" in checked("ml-repo", "run", "a.ipynb", "-p", "n", "5", cwd=folder)
    assert read_only(folder)[0]["kernel"]["name"] == "python3"
    refused = run("papermill", "a.ipynb", "o.ipynb", cwd=folder)
    assert refused.returncode == 2 and "a.ipynb names no kernel. Choose one with --kernel (-k)" in refused.stdout
    (folder / "a.ipynb").write_text((folder / "a.ipynb").read_text().replace('"python"', '"julia"'))
    refused = run("ml-repo", "run", "a.ipynb", cwd=folder)
    assert refused.returncode != 0 and "a.ipynb names no kernel, and none of julia is installed" in refused.stdout and "-k" in refused.stdout


@pytest.mark.parametrize("launcher", [("ml-repo", "run", "a.ipynb"), ("papermill", "a.ipynb", "o.ipynb", "--no-progress-bar")])
def test_both_commands_read_a_file_of_values_the_same(launcher, tmp_path):
    folder = make_repository(tmp_path / "a", "print(repr(start), lr)", parameters="start: str = '2020-01-01'\nlr: float = 0.1")
    for text, refusal in (("start: 2021-02-03\nlr: 1e-3\n", "lr = '1e-3' is of type str, but lr is of type float (default 0.1). In YAML this number is written 0.001"),
                          ("lr: 0.1\nstart: x\nlr: 0.2\n", "v.yaml holds lr twice, in the lines 1 and 3. Keep one."), ("start: [1]\n", "start = [1] is of type list")):
        (folder / "v.yaml").write_text(text)
        refused = run(*launcher, "-f", "v.yaml", cwd=folder)
        assert refused.returncode in (1, 2) and refusal in refused.stdout and "Traceback" not in refused.stdout, refused.stdout
    assert not (folder / "experiments").exists()
    (folder / "v.yaml").write_text("start: 2021-02-03\nlr: 1.0e-3\n")
    checked(*launcher, "-f", "v.yaml", cwd=folder)
    record, cells = read_only(folder)
    assert {name: values["used"] for name, values in record["parameters"].items()} == {"start": "2021-02-03", "lr": 0.001}
    assert cells[-1]["outputs"][0]["text"] == ["'2021-02-03' 0.001\n"]


def test_papermills_own_engine_keeps_no_record(tmp_path):
    folder = make_repository(tmp_path / "a", "print(x)", parameters="x = 4")
    before = sorted(folder.rglob("*"))
    checked("papermill", "a.ipynb", "o.ipynb", "-p", "x", "5", "-p", "y", "6", "--engine", "nbclient", cwd=folder)
    assert sorted(set(folder.rglob("*")) - set(before)) == [folder / "o.ipynb"]
    assert "ml_repo" not in (folder / "o.ipynb").read_text()
