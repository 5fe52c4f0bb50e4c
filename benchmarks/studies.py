"""How many trials a minute a study makes, beside a papermill loop, Optuna in one process, and KerasTuner.

    .venv/bin/python benchmarks/studies.py                 16 and 50 trials each, about half an hour on two cores
    .venv/bin/python benchmarks/studies.py --quick --only warm --only optuna --json studies.json

All of them train the network of nbs/train.ipynb on the digits for one epoch, with the same step sizes, by the same
functions of this library, on one processor a trial, and draw no figures:

    warm       ml-repo tune with one worker, kernels forked from a warm process
    warm-2     the same with two workers, each on a processor of its own
    cold       the same with one worker and a new kernel for each trial
    papermill  papermill.execute_notebook in a loop, with a record for each run
    optuna     Optuna with a Python function in one process: no notebook, no record
    kerastuner KerasTuner's grid search in one process: the same

Each runs in a process of its own, whose whole time counts, with all imports; so the more trials, the smaller the part of the
start, which is four to five seconds for all but the papermill loop, and that for each of its trials. The weights of every trial are hashed, and
must be the same everywhere, to the bit. Ratios are what can be compared between machines; on a machine that others use,
those of processor time, which is that of all processes of a contest. Their memory is the most that they had together,
looked at once a second: what several processes share counts once (PSS).
"""
import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "nbs" / "train.ipynb"
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
                                  "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")}


def list_steps(count: int) -> list[float]:
    """Step sizes that are tried."""
    return [round(0.0005 + 0.0001 * number, 7) for number in range(count)]


def train_once(lr: float, callbacks: tuple = ()) -> tuple[float, str]:
    """Do in a function what the notebook does; returns the validation accuracy and the hash of the weights."""
    from ml_repo.project.data import load_data
    from ml_repo.core.hashing import hash_weights
    from ml_repo.project.model import build_model
    from ml_repo.project.training import evaluate_model, predict_probabilities, prepare_keras, train_model

    dataset, prepared = load_data("digits", 0), prepare_keras(0)
    model = build_model(dataset.train.images.shape[1:], len(dataset.classes), 32, 0.4)
    train_model(model, dataset, lr, 32, 1, 0, prepared["jit_compile"], 0.1, callbacks)
    evaluate_model(predict_probabilities(model, dataset.test.images), dataset.test.labels, "test")
    found = evaluate_model(predict_probabilities(model, dataset.validation.images), dataset.validation.labels, "validation")
    return found["validation", "accuracy"], hash_weights(model.weights)


def by_optuna(steps: list[float]) -> dict[float, str]:
    """Search with Optuna in this process."""
    import optuna

    found = {}

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_categorical("lr", steps)
        accuracy, found[lr] = train_once(lr)
        return accuracy

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(direction="maximize", sampler=optuna.samplers.GridSampler({"lr": steps})).optimize(objective, n_trials=len(steps))
    return found


def by_kerastuner(steps: list[float]) -> dict[float, str]:
    """Search with KerasTuner in this process."""
    import keras_tuner

    found = {}

    class Search(keras_tuner.GridSearch):
        def run_trial(self, trial, *args, **options):
            lr = trial.hyperparameters.Choice("lr", steps)
            accuracy, found[lr] = train_once(lr)
            return {"val_accuracy": accuracy}

    space = keras_tuner.HyperParameters()
    space.Choice("lr", steps)
    with tempfile.TemporaryDirectory() as folder:
        Search(objective=keras_tuner.Objective("val_accuracy", "max"), hyperparameters=space, max_trials=len(steps), directory=folder, project_name="digits").search(verbose=0)
    return found


def by_papermill(steps: list[float]) -> dict[float, str]:
    """Run the notebook in a loop."""
    import papermill

    with tempfile.TemporaryDirectory() as folder:
        for number, lr in enumerate(steps):
            papermill.execute_notebook(str(NOTEBOOK), f"{folder}/{number}.ipynb", {"lr": lr, "epochs": 1, "figures": False}, progress_bar=False)
    return read_weights()


def by_study(steps: list[float], *words: str) -> dict[float, str]:
    """Run the command that searches."""
    from ml_repo.cli.app import main

    main(["tune", str(NOTEBOOK), "--vary", f"lr={','.join(map(str, steps))}", "--sampler", "grid", "--metric", "val_accuracy", "-p", "epochs", "1", "-p", "figures", "False", *words], standalone_mode=False)
    return read_weights()


def read_weights() -> dict[float, str]:
    """The hash of the weights by step size, of the records in the folder of this contest."""
    records = [json.loads(file.read_text()) for file in Path(os.environ["ML_REPO_RECORDS"]).glob("[!.]*/record.json")]
    assert all(one["state"] == "completed" for one in records), [one["cause"] for one in records]
    return {one["parameters"]["lr"]["used"]: one["weights"]["model"] for one in records}


CONTESTS = {"papermill": by_papermill, "optuna": by_optuna, "kerastuner": by_kerastuner, "warm": lambda steps: by_study(steps),
            "warm-2": lambda steps: by_study(steps, "--workers", "2"), "cold": lambda steps: by_study(steps, "--cold")}


def measure_memory(process: int) -> float:
    """The memory of a process and its descendants, in MB."""
    import psutil

    total = 0
    for one in [psutil.Process(process), *psutil.Process(process).children(recursive=True)]:
        try:
            total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{one.pid}/smaps_rollup").read_text(), re.MULTILINE)[1])
        except (OSError, TypeError):  # it has ended
            pass
    return total / 1024


def measure(name: str, trials: int) -> tuple[dict[str, float], dict[float, str]]:
    """Run a contest in a process of its own; returns its numbers by unit, and the hashes of the weights."""
    from ml_repo.provenance.portability import limited

    pinned = {} if name.startswith(("warm", "cold")) else {"preexec_fn": lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        with limited(ROOT):  # the peers take the same code of the processor as portable runs, which decides the bits
            variables = dict(os.environ)
        variables |= THREADS | {"ML_REPO_RECORDS": folder, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if name.startswith(("warm", "cold", "papermill")):
            variables.pop("TF_CPP_MIN_LOG_LEVEL")  # the notebook sets it
        begin, before, memory = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), 0.0
        contest = subprocess.Popen([sys.executable, __file__, "--contest", name, "--trials", str(trials)], cwd=ROOT, env=variables, stdout=output, stderr=errors, **pinned)
        while contest.poll() is None:
            memory = max(memory, measure_memory(contest.pid))
            with suppress(subprocess.TimeoutExpired):
                contest.wait(1)
        wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
        output.seek(0), errors.seek(0)
        printed, said = output.read(), errors.read()
    if contest.returncode:
        sys.exit(f"{name} failed:\n{printed[-2000:]}{said[-2000:]}")
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    weights = {float(lr): value for lr, value in json.loads(printed.splitlines()[-1]).items()}
    return {"trials a minute": 60 * trials / wall, "processor s": processor, "MB": memory}, weights


SHOWN = {"warm": "one worker", "warm-2": "two workers", "cold": "one worker, new kernels"}  # contests of this library
PEERS = {"papermill": "papermill (loop)", "optuna": "optuna", "kerastuner": "keras-tuner"}  # by contest: the name on PyPI


def list_measurements(numbers: dict[str, dict[str, float]], trials: int) -> list[dict]:
    """What benchmarks/table.py reads: each number of a contest of this library, and beside it those of the peers."""
    found = []
    for contest, what in SHOWN.items():
        for name in (contest, *PEERS) if contest in numbers else ():
            program = PEERS.get(name, "ml_repo")
            own = numbers.get(name, {})
            for unit, value in own.items():
                about = "" if unit == "trials a minute" else f", {unit}"
                found.append({"row": "studies", "what": f"{trials} trials, {what}{about}", "program": program,
                              "version": version(program.partition(" ")[0]), "value": value, "unit": unit})
    return found


def main() -> None:
    """Run the contests one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, action="append", help="how many; may be repeated (default: 16 and 50)")
    parser.add_argument("--only", action="append", choices=CONTESTS)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements there, as benchmarks/table.py reads them")
    parser.add_argument("--quick", action="store_true", help="four trials")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--contest", choices=CONTESTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = options.trials or ([4] if options.quick else [16, 50])
    if options.contest:
        try:
            found = CONTESTS[options.contest](list_steps(*counts))
        except SystemExit as end:  # of the command
            assert not end.code, end.code
            found = read_weights()
        print(json.dumps(found))
        return
    measurements = []
    for trials in counts:
        numbers, weights = {}, {}
        for name in options.only or [name for name in CONTESTS if not (options.ours and name in PEERS)]:
            numbers[name], weights[name] = measure(name, trials)
            rate, processor, memory = numbers[name].values()
            print(f"{name:<11} {trials} trials: {rate:5.2f} a minute, {processor:6.1f} s of processor, {memory:5.0f} MB", flush=True)
        for kind, sign in (("trials a minute", 1), ("processor s", -1)):
            for name, own in numbers.items():
                peers = {other: (own[kind] / numbers[other][kind])**sign for other in PEERS if other in numbers and other != name}
                print(f"{name:<11} by {kind:<16} {'   '.join(f'{ratio:5.2f} × {other}' for other, ratio in peers.items())}")
        first = next(iter(weights.values()))
        assert all(one == first and len(one) == trials for one in weights.values()), weights
        print(f"The weights of all {trials} trials are the same in all {len(weights)}.")
        measurements += list_measurements(numbers, trials)
    if options.json:
        options.json.write_text(json.dumps(measurements, indent=1) + "\n")


if __name__ == "__main__":
    main()
