"""A portable run has the same bits on other processors: those that this machine can emulate, on real trainings."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, checked, run
from test_record import commit, make_repository, write_notebook

from ml_repo.provenance.portability import choose_limits
from ml_repo.records.reader import Record, find_records, read_record

TRAINING, TORCH_TRAINING = (Path(__file__).parent / name for name in ("portable_training.py", "portable_torch.py"))
OTHER_PYTHON = os.environ.get("ML_REPO_FORMATS_PYTHON")  # of an environment with PyTorch, JAX and Keras
EMULATOR = next(filter(None, map(shutil.which, ("qemu-x86_64", "qemu-x86_64-static"))), None)


def hash_weights(*words: str | Path, limits: dict[str, str] | None = None, training: Path = TRAINING, backend: str = "tensorflow", names: tuple[str, ...] = ()) -> dict[str, str]:
    """Train on a processor, and return a hash of the weights by name of the training."""
    limits = (choose_limits({}, threads=2) if limits is None else limits) | {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": backend}
    python = sys.executable if training == TRAINING and backend == "tensorflow" else OTHER_PYTHON
    packages = subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], text=True, capture_output=True, check=True).stdout.strip()
    limits |= {"PYTHONPATH": os.pathsep.join([str(ROOT), packages])}
    python = os.path.realpath(python)  # the emulator cannot follow the link of a virtual environment
    variables = [part for name, value in limits.items() for part in ("-E", f"{name}={value}")] if words else []
    plain = [] if "ML_REPO_PORTABLE" in limits else ["--plain"]
    done = subprocess.run([*words, *variables, python, training, *names, *plain], env=os.environ | ({} if words else limits), cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(re.findall(r"^(\w+) +(\w{16}) ", done.stdout, flags=re.MULTILINE))


@pytest.fixture(scope="module")
def here() -> dict[str, str]:
    """The weights on this processor."""
    return hash_weights()


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["Haswell", "Skylake-Server", "EPYC-Rome"])
def test_another_processor_ends_in_the_same_bits(here, processor):
    if EMULATOR is None:
        pytest.skip("NOT TESTED: no other processor can be emulated here (Debian: apt-get install qemu-user)")
    assert hash_weights(EMULATOR, "-cpu", processor) == here


@pytest.mark.slow
@pytest.mark.parametrize("training, backend, names", [(TORCH_TRAINING, "torch", ()), (TRAINING, "torch", ()), (TRAINING, "jax", ("attention",))],
                         ids=["torch", "keras-torch", "keras-jax"])
def test_another_library_ends_in_the_same_bits(training, backend, names):
    """With JAX, large products and gradients of convolutions are not the same."""
    if EMULATOR is None or OTHER_PYTHON is None:
        pytest.skip("NOT TESTED: needs Debian's qemu-user, and ML_REPO_FORMATS_PYTHON, the Python of an environment with PyTorch, JAX and Keras")
    if subprocess.run([OTHER_PYTHON, "-c", f"import {backend}"], capture_output=True).returncode:
        pytest.skip(f"NOT TESTED: {OTHER_PYTHON} has no {backend}")
    found = hash_weights(training=training, backend=backend, names=names)
    assert len(found) >= (len(names) or 4) and hash_weights(EMULATOR, "-cpu", "Haswell", training=training, backend=backend, names=names) == found


def run_portable(folder: Path, *options: str, **environment: str) -> Record:
    """Run the notebook, and read its record."""
    known = set(find_records(folder / "experiments"))
    checked("ml-repo", "run", "a.ipynb", "--quiet", *options, cwd=folder, **environment)
    return read_record((set(find_records(folder / "experiments")) - known).pop())


def test_who_asks_for_a_portable_run(tmp_path):
    """The kernel has the limits before its first import, however it was asked, and the record has them."""
    folder = make_repository(tmp_path / "project")
    write_notebook(folder / "a.ipynb", "n: int = 3  # rows, at least 1", "import os\nprint(os.environ.get('ONEDNN_MAX_CPU_ISA'), os.environ.get('ML_REPO_PORTABLE'))")
    commit(folder)
    asked = {"plain": run_portable(folder), "option": run_portable(folder, "--portable"), "warm": run_portable(folder, "--portable", "--warm"),
             "variable": run_portable(folder, ML_REPO_PORTABLE="yes")}
    settings = (folder / "settings.ini").read_text()
    (folder / "settings.ini").write_text(f"{settings}\nportable = yes\n")
    asked |= {"settings": run_portable(folder), "not": run_portable(folder, "--no-portable")}
    told = {name: (record.folder / "log.txt").read_text().split() for name, record in asked.items()}
    assert told == {"plain": ["None"] * 2, "not": ["None", "0"]} | dict.fromkeys(("option", "warm", "variable", "settings"), ["AVX2", "1"])
    assert {name: record["environment"].get("OPENBLAS_CORETYPE") for name, record in asked.items()} == {
        name: "Haswell" if words[0] == "AVX2" else None for name, words in told.items()}
    assert asked["warm"]["kernel"]["warm"], asked["warm"]["warnings"]
    assert checked("ml-repo", "verify", asked["option"]["id"], "--no-keep", cwd=folder).count("identical")
    (folder / "settings.ini").write_text(f"{settings}\nportable = sometimes\n")
    refused = run("ml-repo", "run", "a.ipynb", cwd=folder)
    assert refused.returncode == 2 and "It is yes or no." in refused.stdout
