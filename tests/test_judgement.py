"""A repeated run is judged by its results: noise does not count, and no changed result is ever called identical."""
import base64
import json
import random
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, checked, list_shipped
from PIL import Image
from test_record import commit, make_repository, write_notebook

from ml_repo.records.reader import read_record
from ml_repo.verify.metric_check import Tolerances
from ml_repo.verify.report import judge_runs
from ml_repo.core.library_messages import split_messages
from ml_repo.verify.text_diff import show_text

RECORDS = [path for path in list_shipped() if json.loads((path / "record.json").read_text())["state"] == "completed"]
NOISE = re.compile(r"[\d.]+ s/epoch, \d+ s left|^[IWE]\d{4} .*?(?= \S+:\d+\])|train-\w+-\w+|fit_(?:duration|processor)_s[^\n]*?[\d.]+(?=[^\d.]|\Z)|[\d.]+ ?(?=s/epoch)", re.MULTILINE)


def other_letter(letter: str, chance: random.Random) -> str:
    """Another digit for a digit, another letter for anything else."""
    return chance.choice([one for one in ("0123456789" if letter.isdigit() else "abcxyz") if one != letter])


def change_output(folder: Path, chance: random.Random) -> bool:
    """Change a letter or digit of what a cell printed, or a pixel of a figure; False where that letter is no result."""
    path = folder / "train.ipynb"
    content = json.loads(path.read_text())
    places = [(output, kind) for cell in content["cells"] for output in cell.get("outputs", [])
              for kind in ([None] if "text" in output else [kind for kind in output.get("data", {}) if "vnd" not in kind])]
    output, kind = chance.choice(places)
    holder, key = (output, "text") if kind is None else (output["data"], kind)
    text = "".join(holder[key])
    if kind == "image/png":
        pixels = np.array(Image.open(BytesIO(base64.b64decode(text))))
        place = tuple(chance.randrange(size) for size in pixels.shape)
        if pixels.shape[2] == 4 and place[2] == 3:
            return False
        pixels[place] ^= 1 << chance.randrange(8)
        file = BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        holder[key] = base64.b64encode(file.getvalue()).decode()
    else:
        at = chance.randrange(len(text))
        if text[at].isspace() or any(found.start() <= at < found.end() for found in NOISE.finditer(text)):
            return False
        changed = text[:at] + other_letter(text[at], chance) + text[at + 1:]
        is_log = output.get("name") == "stderr" and split_messages(text)[0] == split_messages(changed)[0]
        if is_log or show_text(text) == show_text(changed):  # a color
            return False
        holder[key] = changed
    path.write_text(json.dumps(content))
    return True


def change_metric(folder: Path, chance: random.Random) -> bool:
    """Change one bit or more of a logged value, or leave a line out."""
    path = folder / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    line = chance.choice(lines)
    name = chance.choice(list(line["values"]))
    if name.endswith("_s"):
        return False
    if chance.random() < 0.1:
        lines.remove(line)
    else:
        line["values"][name] = float(np.nextafter(line["values"][name], np.inf)) if chance.random() < 0.5 else line["values"][name] * (1 + 10 ** chance.uniform(-9, 0))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return True


def change_fact(folder: Path, chance: random.Random) -> bool:
    """Change a final metric, a fingerprint, a parameter or the state."""
    path = folder / "record.json"
    fields = json.loads(path.read_text())
    kind = chance.choice(["metric", "weights", "data", "parameter", "state"])
    if kind == "metric":
        metric = chance.choice(fields["metrics"])
        if metric["name"].endswith("_s"):
            return False
        metric["value"] = float(np.nextafter(metric["value"], np.inf))
    elif kind == "parameter":
        fields["parameters"][chance.choice(list(fields["parameters"]))]["used"] = "another"
    elif kind == "state":
        fields |= {"state": "failed", "cause": {"kind": "exception", "cell": 3, "text": "no"}}
    else:
        holder, key = (fields["weights"], "model") if kind == "weights" else (next(iter(fields["data"].values())), "sha256")
        at = chance.randrange(64)
        holder[key] = holder[key][:at] + ("0" if holder[key][at] != "0" else "1") + holder[key][at + 1:]
    path.write_text(json.dumps(fields))
    return True


@pytest.mark.skipif(not RECORDS, reason="no example records in this tree")
@pytest.mark.parametrize(("change", "times"), [(change_output, 120), pytest.param(change_output, 350, marks=pytest.mark.slow),
                                               (change_metric, 100), (change_fact, 100)])
def test_no_changed_result_is_called_identical(tmp_path, change: Callable[[Path, random.Random], bool], times: int):
    chance, missed, done = random.Random(1), [], 0
    while done < times:
        record, copy = chance.choice(RECORDS), tmp_path / "copy"
        shutil.copytree(record, copy, ignore=shutil.ignore_patterns("artifacts"))
        if change(copy, chance):
            done += 1
            pair = map(read_record, (record, copy) if chance.random() < 0.5 else (copy, record))
            judgement = judge_runs(*pair, Tolerances(is_strict=True))  # what a cell tells of its environment counts, too
            if judgement.verdict == "identical":
                missed.append([item for item in judgement.items if "apart" in item.detail])
        shutil.rmtree(copy)
    assert not missed, f"{len(missed)} of {times}: {missed[:5]}"


@pytest.mark.skipif(not RECORDS, reason="no example records in this tree")
def test_a_record_is_identical_to_itself():
    for record in RECORDS:
        judgement = judge_runs(read_record(record), read_record(record))
        assert judgement.verdict == "identical" and judgement.exit_code == 0
        json.dumps(judgement.to_dict())


def test_a_second_run_is_identical_and_a_changed_one_is_not(tmp_path):
    repository = make_repository(tmp_path / "repo")
    write_notebook(repository / "a.ipynb", "scale: float = 1.0  # of the result, above 0", "import time, uuid\nfrom datetime import datetime\nstarted = time.time()\nprint(datetime.now(), uuid.uuid4())",
                   "object()", "print(f'took {time.time() - started:.6f} s')", "[scale * value / 3 for value in range(5)]", "%timeit -n 2 -r 2 sum(range(9))")
    commit(repository)
    for options in ([], [], ["-p", "scale", "1.5"]):
        checked("ml-repo", "run", "a.ipynb", *options, "--quiet", cwd=repository)
    first, second, third = map(read_record, sorted((repository / "experiments").glob("a-*")))
    judgement = judge_runs(first, second)
    assert judgement.verdict == "identical", judgement.to_dict()
    assert {item.name for item in judge_runs(first, third).items if item.verdict == "differs"} == {"parameters", "cell 5"}
