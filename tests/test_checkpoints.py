"""Fits of Keras that are killed twice end in the bits of fits that nobody has killed, with each backend."""
import json
import os
import re
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

FITS = Path(__file__).with_name("checkpoint_fits.py")
KINDS = re.findall(r"^@kind\ndef (\w+)", FITS.read_text("utf-8"), re.MULTILINE)
SAYS = {"stateful_tensorflow": "draws with RandomStandardNormal", "kept_iterator": "cannot hold draws",
        "full_disk": "No space left on device", "damaged": "is damaged",
        "unseeded": "other bits: its weights and the random state", "unseeded_data": "other bits: its data differ"}  # by kind, in a warning
OTHER_BITS = {"stateful_tensorflow", "kept_iterator", "unseeded", "unseeded_data"}  # which the warning has told


@cache
def run_fits(backend: str) -> dict[str, dict[str, Any]]:  # by kind
    """Run all kinds with a backend, in one process that forks."""
    done = subprocess.run([sys.executable, FITS], text=True, capture_output=True, timeout=1800, env=os.environ | {
        "KERAS_BACKEND": backend, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FITS.parent.parent)})
    assert done.returncode == 0, done.stderr[-3000:]
    return {line["kind"]: line for line in map(json.loads, done.stdout.splitlines())} | {"": {"errors": done.stderr}}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_killed_fits(backend: str, kind: str) -> None:
    """Compare weights, history, curve, and whatever else the training leaves."""
    for module in {"keras", "tensorflow", backend}:  # the data of one kind are of TensorFlow, with each backend
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed here, so no fit was killed with the backend {backend}.")
    told = run_fits(backend)[kind]
    assert told["status"] == 0, run_fits(backend)[""]["errors"][-3000:]
    if "killed" not in told:
        pytest.skip(f"{kind} has no counterpart with the backend {backend}.")
    assert told["killed"] == [9, 9]
    is_whole = not kind.startswith("skipped")  # a fit that the notebook leaves out logs nothing
    assert told["is_same"] == (kind not in OTHER_BITS), told
    assert not is_whole or told["has_same_curve"] == (kind not in OTHER_BITS), told
    assert (told["epochs"][1] < told["epochs"][0]) == ("unseeded" not in kind), told  # the checkpoint was used
    assert [word for word in told["said"] if SAYS.get(kind, "\n") not in word] == []
    assert (kind not in SAYS) == (not told["said"]), told
