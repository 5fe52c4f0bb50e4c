"""Many records to make pages of: copies of those that are committed here, each with values, numbers and figures of its own."""
import base64
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
COMMITTED = subprocess.run(["git", "ls-files", "-z", "--", "experiments/*/record.json"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
FILES = [ROOT / name for name in COMMITTED.split("\0") if name and (ROOT / name).is_file()]
MODELS = sorted(file.parent for file in FILES if '"state": "completed"' in file.read_text()[:600])


def vary_notebook(text: str, chance: random.Random) -> str:
    """Give a notebook numbers and figures of its own."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "text" in output:
                output["text"] = [re.sub(r"\d\.\d{4}", lambda _: f"{chance.random():.4f}", line) for line in output["text"]]
            for kind, value in output.get("data", {}).items():
                if kind == "image/png":  # bytes behind the end of a PNG are not shown
                    output["data"][kind] = base64.b64encode(base64.b64decode("".join(value)) + chance.randbytes(16)).decode()
                elif kind == "text/html":
                    output["data"][kind] = re.sub(r"\d\.\d{3,6}", lambda _: f"{chance.random():.6f}", "".join(value))
    return json.dumps(notebook)


def make_records(records: Path, count: int, is_plain: bool = False, first: int = 0) -> None:
    """Write `count` records, in settings of five seeds each."""
    for number in range(first, first + count):
        chance, model = random.Random(number), MODELS[number // 5 % len(MODELS)]
        facts = json.loads((model / "record.json").read_text())
        name = f"train-{20260101 + number // 2000}T{number % 24:02}{number // 24 % 60:02}{number // 1440 % 60:02}Z-{number:04x}"
        setting = random.Random(number // 5)
        facts |= {"id": name, "experiment": f"question-{number // 5 % 7}", "started": f"2026-01-{1 + number % 28:02}T{number % 24:02}:00:00.000Z", "note": "", "duration_s": round(10 + 50 * chance.random(), 2)}
        for key, value in {"lr": 10 ** setting.uniform(-4, -1), "filters": setting.choice([8, 16, 32]), "dropout": round(setting.random(), 2), "epochs": setting.choice([5, 10, 20]), "seed": number % 5}.items():
            facts["parameters"][key] |= {"given": value, "used": value}
        for metric in facts["metrics"]:
            metric["value"] *= 1 - 0.1 * chance.random()
        folder = records / name
        folder.mkdir(parents=True)
        (folder / "record.json").write_text(json.dumps(facts, indent=1))
        notebook = '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}' if is_plain else vary_notebook((model / "train.ipynb").read_text(), chance)
        (folder / "train.ipynb").write_text(notebook)
        shutil.copy(model / "metrics.jsonl", folder / "metrics.jsonl")
