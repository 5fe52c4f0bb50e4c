"""What a portable run costs: three trainings with the limits and without them, in turns, on this processor.

    .venv/bin/python benchmarks/portable.py [--rounds 3] [--torch PYTHON]

PYTHON is that of an environment with PyTorch, which is timed as well.

Timed is the fit alone, in a process of its own, after one epoch that is not counted. On a processor with AVX512 the price is higher than on
one without, since the limits take its wider instructions away: the first line says which one it was.
"""
import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from ml_repo.provenance.machine import read_machine
from ml_repo.provenance.portability import PORTABLE, choose_limits

CASES = {  # images, shape of one, filters; or the widths of a dense network
    "digits": "digits(8, 1, 32)", "cifar-size": "digits(32, 3, 32, 640)", "dense": "dense(784, 1024, 1024)"}
PROGRAM = """import sys, time
import keras, numpy as np
from ml_repo.project.model import build_model
from ml_repo.project.training import prepare_keras
prepare_keras(0)
random, layers = np.random.default_rng(0), keras.layers
def digits(size, channels, filters, count=1257):
    return build_model((size, size, channels), 10, filters), random.normal(size=(count, size, size, channels)).astype("float32")
def dense(width, *widths):
    made = [layers.Input((width,)), *(layers.Dense(one, activation="relu") for one in widths), layers.Dense(10)]
    return keras.Sequential(made), random.normal(size=(4096, width)).astype("float32")
model, images = {case}
labels = random.integers(0, 10, len(images))
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
model.fit(images, labels, epochs=1, verbose=0)
since = time.perf_counter()
model.fit(images, labels, epochs={epochs}, verbose=0)
print(time.perf_counter() - since)"""

TORCH_CASES = {  # layers, and the shape of an image
    "torch dense": "nn.Linear(784, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 10); 784,",
    "torch conv": "nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(1024, 10); 3, 32, 32",
    "torch small": "nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10); 64,"}
TORCH_PROGRAM = """import os, time
from ml_repo.provenance.operations import fix_operations
if os.environ["ML_REPO_PORTABLE"] == "1":
    fix_operations()
import torch
from torch import nn
torch.manual_seed(0)
model, images = nn.Sequential({layers}), torch.randn(1024, {shape})
labels, optimiser = torch.randint(0, 10, (1024,)), torch.optim.Adam(model.parameters())
def fit(epochs):
    for epoch in range(epochs):
        for rows in torch.randperm(1024).split(32):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(images[rows]), labels[rows]).backward()
            optimiser.step()
fit(1)
since = time.perf_counter()
fit({epochs})
print(time.perf_counter() - since)"""


def time_fit(case: str, epochs: int, is_portable: bool, torch_python: str) -> float:
    """Seconds that a fit takes."""
    known = choose_limits({})
    environment = {name: value for name, value in os.environ.items() if name not in known}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "3"} | (known if is_portable else {PORTABLE: "0"})
    if case in CASES:
        python, program = sys.executable, PROGRAM.replace("{case}", CASES[case]).replace("{epochs}", str(epochs))
    else:
        layers, _, shape = TORCH_CASES[case].partition(";")
        python, program = torch_python, TORCH_PROGRAM.replace("{layers}", layers).replace("{shape}", shape).replace("{epochs}", str(epochs))
        environment["PYTHONPATH"] = str(Path(__file__).parent.parent)
    return float(subprocess.run([python, "-c", program], env=environment, text=True, capture_output=True, check=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="how often each is run")
    parser.add_argument("--epochs", type=int, default=3, help="that are timed")
    parser.add_argument("--torch", metavar="PYTHON", help="of an environment with PyTorch")
    options, machine = parser.parse_args(), read_machine()
    print(f"{machine['cpu']} ({machine['cpu_flags']}), {machine['threads']} threads\n{'':<12}{'plain':>10}{'portable':>10}{'ratio':>8}", flush=True)
    for name in [*CASES, *(TORCH_CASES if options.torch else ())]:
        times: dict[bool, list[float]] = {False: [], True: []}
        for number in range(options.rounds):
            for kind in (False, True) if number % 2 else (True, False):
                times[kind].append(time_fit(name, options.epochs, kind, options.torch))
        plain, portable = (statistics.median(times[kind]) for kind in (False, True))
        print(f"{name:<12}{plain:>8.2f} s{portable:>8.2f} s{portable / plain:>8.2f}", flush=True)


if __name__ == "__main__":
    main()
