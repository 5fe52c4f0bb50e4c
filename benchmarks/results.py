"""Asking earlier runs, from a cold shell: `ml-repo` beside MLflow with the same runs in SQLite.

    .venv/bin/python benchmarks/results.py --keep ~/.cache/ml_repo-benchmark    10,000 and 100,000 runs; about 10 GB, kept for the next time
    .venv/bin/python benchmarks/results.py --runs 1000                          in a temporary folder

`many_runs.py` says what the runs are and how both stores are filled. Each question is a new process, timed from outside; the
programs of a question take turns, a first round is discarded, the rest goes into the median. Files are in the system's memory.
Each program is asked for all that the question says; "same answer" means that what it printed names the runs that it should.

"again" is the same question in a Python process that has asked it before: what an open notebook waits for. It is measured in the
round that does not count, three times.
A program that lets one wait longer than --patience is not asked again.

MLflow sorts by a metric with a join that SQLite carries out in quadratic time, as long as nobody has called ANALYZE, which MLflow
does not do; the last question is asked after an ANALYZE by hand.
`mlflow runs list` has no limit, no filter and no order: it lists up to 1,000 runs, and more is asked in Python. Params are texts
in MLflow and cannot be compared as numbers, so `lr` is logged there as a metric too, which `metrics.lr < 0.01` asks.
"""
import argparse
import json
import math
import os
import platform
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from many_runs import MLFLOW, SyntheticRun, describe_run, list_runs, make_mlflow, make_records, make_writer, mlflow_environment
from peers import make_environment

OURS = str(Path(sys.executable).with_name("ml-repo"))
FILTER = "lr < 0.01 and val_accuracy > 0.97 and state = completed"
FILTER_MLFLOW = "metrics.lr < 0.01 and metrics.val_accuracy > 0.97 and attributes.status = 'FINISHED'"
SHOWN = "[['tags.mlflow.runName', 'status', 'params.lr', 'metrics.val_accuracy']]"
Questions = dict[str, tuple[dict[str, list[str]], list[SyntheticRun]]]  # by name: a command by program, and the runs of the answer


def in_python(python: str, imports: str, query: str) -> list[str]:
    """The command of a Python process that asks and prints, as often as its argument says."""
    lines = "\n    ".join(query.splitlines())
    return [python, "-c", f"import sys, time, {imports}\nfor _ in range(int(sys.argv[1])):\n    since = time.perf_counter()\n    {lines}\n"
                          "    print('query_s', time.perf_counter() - since)", "1"]


def find_answers(count: int) -> dict[str, list[SyntheticRun]]:
    """Say what the answers are, from what the runs were made of."""
    runs = list_runs(count)[::-1]
    matching = [run for run in runs if run.given["lr"] < 0.01 and run.last("val_accuracy") > 0.97 and run.state == "completed"]
    return {"newest": runs[:20], "matching": matching[:20], "best": sorted(runs, key=lambda run: run.last("val_accuracy"), reverse=True)[:20]}


def list_questions(records: Path, count: int, programs: Path) -> Questions:
    """The questions of a folder of records, with the program that ratios are taken with first."""
    answers, (mlflow, python) = find_answers(count), (str(programs / name) for name in ("mlflow", "python"))
    one, other = describe_run(count // 2), describe_run(count // 3)

    def ours(*words: str) -> list[str]:
        return [OURS, *words, "--records", str(records)]

    def find(options: str) -> list[str]:
        return in_python(sys.executable, "ml_repo.results.search", f"for run in ml_repo.results.search.find_runs({options}, records=[{str(records)!r}]):\n"
                                                            "    print(run.run, run.state, run.parameters['lr'], run.metrics['val_accuracy'])")

    def search(options: str, shown: str = SHOWN) -> list[str]:
        return in_python(python, "mlflow", f"print(mlflow.search_runs(experiment_names=['train'], {options}){shown}.to_string())")

    def by_client(query: str) -> list[str]:
        return in_python(python, "mlflow", f"client = mlflow.MlflowClient()\n{query}")

    best = "order_by=['metrics.val_accuracy DESC'], max_results="
    both = f"""filter_string="attributes.run_id IN ('{one.uuid}', '{other.uuid}')\""""
    return {
        "newest 20": ({"ml-repo ls": ours("ls", "--limit", "20"), "find_runs": find("limit=20"),
                       "mlflow runs list, all": [mlflow, "runs", "list", "--experiment-id", "1"],
                       "mlflow.search_runs": search("max_results=20"),
                       "MlflowClient.search_runs": by_client("for run in client.search_runs(['1'], max_results=20):\n"
                                                             "    print(run.info.run_name, run.info.status, run.data.params['lr'])")}, answers["newest"]),
        "filter, 20": ({"ml-repo ls": ours("ls", FILTER, "--limit", "20"), "find_runs": find(f"{FILTER!r}, limit=20"),
                        "mlflow.search_runs": search(f'filter_string="{FILTER_MLFLOW}", max_results=20')}, answers["matching"]),
        "best 10": ({"ml-repo ls": ours("ls", "--sort", "val_accuracy", "--limit", "10"), "find_runs": find("sort='val_accuracy', limit=10"),
                     "mlflow.search_runs": search(f"{best}10")}, answers["best"][:10]),
        "best 20": ({"ml-repo ls": ours("ls", "--sort", "val_accuracy", "--limit", "20"), "find_runs": find("sort='val_accuracy', limit=20"),
                     "mlflow.search_runs": search(f"{best}20")}, answers["best"]),
        "show one": ({"ml-repo show": ours("show", one.id), "mlflow runs describe": [mlflow, "runs", "describe", "--run-id", one.uuid],
                      "MlflowClient.get_run": by_client(f"print(client.get_run('{one.uuid}').to_dictionary())")}, [one]),
        "compare two": ({"ml-repo compare": ours("compare", one.id, other.id),
                         "mlflow.search_runs": search(both, ".T")}, [one, other]),
    }


def list_starts(programs: Path) -> Questions:
    """What it takes to start at all."""
    return {"start": ({"ml-repo --help": [OURS, "--help"], "mlflow --help": [str(programs / "mlflow"), "--help"],
                       "python -c pass": [sys.executable, "-c", "pass"],
                       "python -c 'import mlflow'": [str(programs / "python"), "-c", "import mlflow"]}, [])}


def timed(command: list[str], folder: Path, environment: dict[str, str], patience_s: float | None = None) -> tuple[float, str]:
    """Run a command; returns wall seconds and what it printed. Raises `subprocess.TimeoutExpired` when it takes too long."""
    since = time.perf_counter()
    environment = {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}  # modules are compiled once, as for a user
    result = subprocess.run(command, cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=patience_s)
    wall = time.perf_counter() - since
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} exited with {result.returncode}:\n{result.stdout[-2000:]}{result.stderr[-2000:]}")
    return wall, result.stdout


def is_answer(printed: str, runs: list[SyntheticRun]) -> bool:
    """Say whether every run is named, by its id, the end of its id or its id in MLflow."""
    words = set(re.split(r"[^0-9a-zA-Z-]+", printed))
    return all({run.id, run.id.rpartition("-")[2], run.uuid} & words for run in runs)


def ask(questions: Questions, keep: Path, environment: dict[str, str], options: argparse.Namespace) -> dict[str, dict[str, dict]]:
    """Ask each question in each program, as often as the options say and once before."""
    results: dict[str, dict[str, dict]] = {}
    for question, (commands, runs) in questions.items():
        commands = {name: one for name, one in commands.items() if options.only in ("", "mlflow" if "mlflow" in name.lower() else "ml_repo")}
        print(f"{question}: {', '.join(commands)}", file=sys.stderr)
        found = results[question] = {name: {"seconds": [], "again_s": [], "same_answer": True} for name in commands}
        for number in range(options.rounds + 1):
            for name, command in commands.items():
                if "more_than_s" not in found[name]:
                    try:
                        ask_once(command, runs, found[name], number == 0, keep, environment, options.patience)
                    except subprocess.TimeoutExpired:
                        found[name]["more_than_s"] = options.patience
    return results


@contextmanager
def analyzed(store: Path) -> Iterator[None]:
    """Give SQLite the statistics that MLflow never asks for, and take them away again."""
    base = sqlite3.connect(store, isolation_level=None)
    base.executescript("ANALYZE runs; ANALYZE latest_metrics;")
    try:
        yield
    finally:
        base.executescript("DROP TABLE IF EXISTS sqlite_stat1; DROP TABLE IF EXISTS sqlite_stat4;")
        base.close()


def ask_once(command: list[str], runs: list[SyntheticRun], found: dict, is_first: bool, keep: Path, environment: dict[str, str], patience_s: float) -> None:
    """Ask a question once. The first time does not count; it is the time to ask again in the same process, where one asks in Python."""
    wall, printed = timed(command, keep / "template", environment, patience_s)
    found["same_answer"] &= is_answer(printed, runs)
    if not is_first:
        found["seconds"].append(wall)
    elif "query_s" in printed:
        _, printed = timed([*command[:-1], "4"], keep / "template", environment, 4 * patience_s)
        found["again_s"] = [float(one) for one in re.findall(r"^query_s (\S+)", printed, flags=re.MULTILINE)][1:]


def measure_index(keep: Path, records: Path, count: int, rounds: int) -> dict[str, dict[str, dict]]:
    """Time `ml-repo ls` when there is no index, and after records came and went. MLflow has no such step: its store is the index."""
    write, added, next_number = make_writer(keep, records), [], count
    command, results = [OURS, "ls", "--limit", "20", "--records", str(records)], {}

    def repeat(question: str, times: int, before: Callable[[], None]) -> None:
        print(f"{question}: ml-repo ls", file=sys.stderr)
        seconds = results.setdefault(question, {"ml-repo ls": {"seconds": [], "again_s": [], "same_answer": True}})["ml-repo ls"]["seconds"]
        for _ in range(times):
            before()
            seconds.append(timed(command, keep / "template", dict(os.environ))[0])

    def remove_index() -> None:
        for file in records.glob(".index.sqlite*"):
            file.unlink()

    def add_ten() -> None:
        nonlocal next_number
        added.extend(write(number) for number in range(next_number, next_number + 10))
        next_number += 10
        time.sleep(0.2)

    try:
        repeat("first index", min(rounds, 3), remove_index)
        repeat("after 10 more", rounds, add_ten)
        repeat("after 1 less", rounds, lambda: shutil.rmtree(records / added.pop()))
    finally:
        for run in added:
            shutil.rmtree(records / run)
        timed(command, keep / "template", dict(os.environ))
    return results


def measure_disk(*paths: Path) -> dict[str, int]:
    """Bytes of files and folders: what they hold, and the blocks that they take."""
    files = [one for path in paths if path.exists() for one in (path, *path.rglob("*"))]
    facts = [file.lstat() for file in files]
    return {"bytes": sum(one.st_size for file, one in zip(files, facts) if not file.is_dir()), "blocks": sum(one.st_blocks * 512 for one in facts)}


def measure_sizes(keep: Path, records: Path, count: int) -> dict[str, dict[str, float]]:
    """Bytes a run: every 100th record stands for all."""
    folders = sorted(one.parent for one in records.glob("[!.]*/record.json"))[::max(count // 1000, 1)]
    found = {"record, without its notebook": measure_disk(*folders), "its notebook, which is small": measure_disk(*(one / "train.ipynb" for one in folders))}
    found["record, without its notebook"] = {unit: size - found["its notebook, which is small"][unit] for unit, size in found["record, without its notebook"].items()}
    sizes = {name: {unit: size / len(folders) for unit, size in one.items()} for name, one in found.items()}
    real = measure_disk(next(keep.glob("template/experiments/*/record.json")).parent)
    index, store = (measure_disk(*paths) for paths in (records.glob(".index.sqlite*"), [records.parent / "mlflow.db"]))
    return sizes | {"a whole record as `ml-repo run` leaves it": {unit: float(size) for unit, size in real.items()}} | {
        name: {unit: size / count for unit, size in one.items()} for name, one in (("index of ml-repo", index), ("mlflow.db", store)) if one["bytes"]}


def print_times(title: str, results: dict[str, dict[str, dict]]) -> None:
    """Print a table of times."""
    print(f"\n{title:<18}{'program':<28}{'median s':>9}{'smallest, largest':>20}{'again s':>10}{'times the first':>17}  same answer")
    for question, programs in results.items():
        base = statistics.median(next(iter(programs.values()))["seconds"] or [math.nan])
        for number, (name, one) in enumerate(programs.items()):
            begin = f"{'' if number else question:<18}{name:<28}"
            if limit := one.get("more_than_s"):
                print(f"{begin}{f'> {limit:.0f}':>9}{'':>30}{f'> {limit / base:.0f}':>17}  not waited for")
                continue
            median, again = statistics.median(one["seconds"]), f"{statistics.median(one['again_s']):.3f}" if one["again_s"] else ""
            print(f"{begin}{median:>9.3f}{min(one['seconds']):>12.3f},{max(one['seconds']):>7.3f}{again:>10}"
                  f"{median / base:>17.2f}  {'yes' if one['same_answer'] else 'NO'}")


def print_sizes(sizes: dict[str, dict[str, float]]) -> None:
    """Print a table of bytes a run."""
    print(f"\n{'bytes a run':<44}{'in files':>12}{'in blocks':>12}")
    for name, one in sizes.items():
        print(f"{name:<44}{one['bytes']:>12,.0f}{one['blocks']:>12,.0f}")


def measure(keep: Path, count: int, programs: Path, options: argparse.Namespace) -> dict[str, dict]:
    """Make `count` runs, measure and print."""
    records = make_records(keep, count)
    if options.only != "ml_repo":
        make_mlflow(keep, count)
    times = measure_index(keep, records, count, options.rounds) if options.only != "mlflow" else {}
    questions = list_questions(records, count, programs)
    times |= ask(questions, keep, mlflow_environment(keep, count), options)
    if options.only != "ml_repo":
        with analyzed(keep / str(count) / "mlflow.db"):
            times |= ask({"best 20, ANALYZE": questions["best 20"]}, keep, mlflow_environment(keep, count), options)
    sizes = measure_sizes(keep, records, count)
    print_times(f"{count:,} runs", times)
    print_sizes(sizes)
    return {"times": times, "sizes": sizes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, nargs="+", default=[10_000, 100_000], metavar="N", help="how many runs there are; 100 or more (default: 10000 100000)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each question is asked, after one that does not count (default 5)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep what is made, and take what is there: records, stores, the installed MLflow")
    parser.add_argument("--patience", type=float, default=120, metavar="SECONDS", help="the longest to wait for an answer (default 120)")
    parser.add_argument("--only", choices=("ml_repo", "mlflow"), default="", help="ask one side only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times and sizes into a file, too")
    options = parser.parse_args()
    print(f"{MLFLOW}, Python {platform.python_version()}, {os.cpu_count()} processors, median of {options.rounds} rounds")
    report = {"mlflow": MLFLOW, "python": platform.python_version(), "processors": os.cpu_count(), "rounds": options.rounds, "runs": {}}
    with tempfile.TemporaryDirectory() as folder:
        keep = (options.keep or Path(folder)).resolve()
        programs = Path(sys.executable).parent if options.only == "ml_repo" else make_environment("mlflow", keep)
        for count in options.runs:
            report["runs"][count] = measure(keep, count, programs, options)
        report["start"] = ask(list_starts(programs), keep, mlflow_environment(keep, options.runs[0]), options)
        print_times("", report["start"])
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
