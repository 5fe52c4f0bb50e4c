"""Trainings of other people leave their metrics in the record, and compute and print the same with and without being followed.

    python tests/test_trainings.py [--jobs 2] [--only NAME,NAME] [--both] [--environment FOLDER] [--json FILE]

runs them beside each other and prints a line each; `--both` runs each with and without.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from more_trainings import MORE_TRAININGS
from trainings import TRAININGS as FIRST_TRAININGS

pytestmark = pytest.mark.own_process

TRAININGS = FIRST_TRAININGS | MORE_TRAININGS
PACKAGES = {"sklearn": "scikit-learn", "tensorflow": "tensorflow-cpu", "tf_keras": "tf-keras", "keras_tuner": "keras-tuner",
            "ignite": "pytorch-ignite", "pytorch_lightning": "pytorch-lightning"}
_TIMES = re.compile(r"^(?:[IWE]\d{4} .*|WARNING: All log messages before absl.*)$|\d+(?:\.\d+)?\s?(?:ms|us|s|it)(?:/\w+)?\b|\d+:\d\d|\d+(?:\.\d+)?(?:it|s)/(?:s|it)|(?:Wall|CPU) times?:.*"
                    r"|'\w*(?:runtime|per_second)': [^,}]+|\x08+|━*|0x[0-9a-f]+", re.MULTILINE)


def list_packages() -> list[str]:
    """List the packages that all trainings need together."""
    modules = {module for training in TRAININGS.values() for module in training.needs}
    return ["pandas", "matplotlib", *sorted(PACKAGES.get(module, module) for module in modules)]


def prepare(name: str, folder: Path) -> None:
    """Make the repository of somebody who trains."""
    notebook = {"cells": TRAININGS[name].list_cells(), "nbformat": 4, "nbformat_minor": 5,
                "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}
    (folder / "train.ipynb").write_text(json.dumps(notebook))
    (folder / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
    for command in (("init", "--quiet"), ("add", "--all"), ("-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--quiet", "-m", "First")):
        subprocess.run(["git", "-C", folder, *command], check=True)


def read_prints(record: Path) -> list[str]:
    """Read what the cells of a run have printed and returned, a text a cell, without times."""
    cells = json.loads(next(record.glob("*.ipynb")).read_text())["cells"]
    texts = ["".join("".join(part.get("text", "")) or "".join(part.get("data", {}).get("text/plain", "")) for part in cell.get("outputs", ()))
             for cell in cells]
    return [re.sub(r"\s+", " ", _TIMES.sub("", re.sub(r"[^\n]*\r(?!\n)", "", text))).strip() for text in texts]


def train(name: str, kernels: Path, folder: Path, option: str) -> tuple[dict, dict[str, float], list[str]]:
    """Run a training; the record, its metrics by split and name, and what was printed."""
    environ = os.environ | {"JUPYTER_PATH": str(kernels), "TF_CPP_MIN_LOG_LEVEL": "3"} | dict(TRAININGS[name].environ)
    command = ["ml-repo", "run", "train.ipynb", "--kernel", "other", option]
    done = subprocess.run(command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ)
    assert done.returncode == 0, done.stdout[-3000:]
    record = max(folder.glob("experiments/train-*"), key=lambda one: one.stat().st_mtime)
    content = json.loads((record / "record.json").read_text())
    metrics = {f"{metric['split']} {metric['name']}".strip(): metric["value"] for metric in content["metrics"]}
    return content, metrics, read_prints(record)


def judge(name: str, kernels: Path, is_both: bool = True) -> str:
    """Run a training with and without being followed; what is wrong, empty where nothing is."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        prepare(name, folder)
        record, metrics, printed = train(name, kernels, folder, "--autolog")
        told = json.loads((folder / "told.json").read_text())
        shown = ", ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        if not metrics:
            return "no metric at all"
        if wrong := {key: metrics.get(key) for key, value in told.items() if metrics.get(key) != pytest.approx(value, rel=1e-6)}:
            return f"expected {told}, wrong are {wrong}; the record has {shown}"
        if warnings := [warning for warning in record["warnings"] if "followed" in warning]:
            return f"warnings {warnings}"
        if is_both and TRAININGS[name].is_same:
            _, alone, others = train(name, kernels, folder, "--no-autolog")
            differing = [pair for pair in zip(printed, others) if pair[0] != pair[1]]
            if told != json.loads((folder / "told.json").read_text()) or len(printed) != len(others) or differing:
                return f"results differ: {differing[:2]}"
            if alone and "mlflow" not in TRAININGS[name].needs:
                return f"metrics without being followed: {alone}"
    return ""


def install_kernel(environment: Path, folder: Path) -> Path:
    """Let Jupyter know a kernel of an environment, by the name `other`."""
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "ipykernel", "install", "--prefix", folder, "--name", "other"], check=True, capture_output=True)
    return folder / "share" / "jupyter"


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Iterator[Path]:
    """Makes an environment with all frameworks. One that is there already can be named."""
    from conftest import checked
    from test_extras import ask_index

    folder = tmp_path_factory.mktemp("frameworks")
    environment = Path(os.environ.get("TRAININGS_ENVIRONMENT", folder / "venv"))
    if not environment.exists():
        checked("uv", "venv", "--quiet", environment)
        small = ["--torch-backend", "cpu"] if "UV_FIND_LINKS" not in os.environ else []
        ask_index("uv", "pip", "install", "--quiet", *small, "--python", environment / "bin" / "python", "ipykernel", *list_packages())
    yield install_kernel(environment, folder)


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_leaves_its_metrics_and_stays_the_same(name, kernels):
    """The numbers in the record are those that the library reports; printed text and results are equal without being followed."""
    assert judge(name, kernels) == ""


def main() -> None:
    """Run trainings beside each other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--both", action="store_true")
    parser.add_argument("--environment", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    names = [name for name in options.only.split(",") if name] or list(TRAININGS)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        place, faults = install_kernel(options.environment, Path(folder)), {}

        def run_one(name: str) -> None:
            try:
                faults[name] = judge(name, place, options.both)
            except Exception as error:
                faults[name] = f"{type(error).__name__}: {error}"
            print(f"{'FALLS' if faults[name] else 'ok   '} {name}  {faults[name]}", flush=True)

        list(pool.map(run_one, names))
    if options.json:
        options.json.write_text(json.dumps(faults, indent=1))
    good = sum(not fault for fault in faults.values())
    print(f"{good} of {len(faults)}")
    sys.exit(good < len(faults))


if __name__ == "__main__":
    main()
