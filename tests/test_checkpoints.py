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
        "full_disk": "No space left on device", "damaged": "is damaged"}  # by kind, in a warning
OTHER_BITS = {"stateful_tensorflow", "kept_iterator"}  # which the warning has told


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
    assert (told["is_same"], told["has_same_curve"]) == ((True, True) if kind not in OTHER_BITS else (False, False)), told
    assert told["epochs"][1] < told["epochs"][0], told  # the checkpoint was used
    assert [word for word in told["said"] if SAYS.get(kind, "\n") not in word] == []
    assert (kind not in SAYS) == (not told["said"]), told
