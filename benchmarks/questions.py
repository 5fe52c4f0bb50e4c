"""Questions to earlier runs in a living Python process, such as an open notebook: this library beside MLflow, FastTrackML and trackio.

    .venv/bin/python benchmarks/questions.py                     10,000 runs, and 100,000 for this library alone; made once and kept
    .venv/bin/python benchmarks/questions.py --quick             1,000 runs

`many_runs.py` says what the runs are. Each program asks in a process of its own that has asked before: the median of five answers
counts, after two that do not; a question that takes longer than two seconds is asked twice. The answers are compared: all name the same runs.

MLflow sorts by a metric in quadratic time as long as nobody has called ANALYZE on its database, which MLflow does not do, so it is
asked once more after an ANALYZE by hand. FastTrackML is a server that is asked by MLflow's client; it holds the last values only, of 1,000 runs at most.
`benchmarks/table.py` says what is written into the file of --json.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from many_runs import describe_run, list_params, list_runs, make_mlflow, make_records, make_template, make_trackio, mlflow_environment, trackio_environment
from measurements import make_parser
from peers import KEEP, PINNED, make_environment
from results import FILTER, FILTER_MLFLOW, analyzed

from ml_repo.integrations.servers import find_port

TIMER = """import json, statistics, sys, time

def ask(what, question):
    seconds = []
    for number in range(7):
        since = time.perf_counter()
        names = question()
        seconds.append(time.perf_counter() - since)
        if seconds[-1] > 2 and number:
            break
    print(json.dumps([what, statistics.median(seconds[2:] or seconds[-1:]), names]), flush=True)

facts = json.loads(sys.argv[1])
one, two = facts["two"]
"""
OURS = TIMER + """
import os, ml_repo
from ml_repo.records.reader import read_record
from ml_repo.results.search import find_run, find_runs
assert os.path.dirname(os.path.dirname(ml_repo.__file__)) == facts["package"], ml_repo.__file__
home = [facts["records"]]
name = lambda runs: [run.run for run in runs]
find_runs(limit=1, records=home)  # makes the index
ask("newest 20", lambda: name(find_runs(limit=20, records=home)))
ask("filter", lambda: name(find_runs(facts["filter"], limit=20, records=home)))
ask("best 20", lambda: name(find_runs(sort="val_accuracy", limit=20, records=home)))
ask("one run", lambda: [read_record(find_run(one, home))["id"]])
ask("compare two", lambda: name(find_runs(f"run in ({one}, {two})", records=home)))
"""
MLFLOW = TIMER + """
from mlflow import MlflowClient
client = MlflowClient()
experiment = client.get_experiment_by_name("train").experiment_id
find = lambda **query: [run.info.run_name for run in client.search_runs([experiment], max_results=20, **query)]
ask("newest 20", lambda: find(order_by=["attributes.start_time DESC"]))
ask("filter", lambda: find(filter_string=facts["filter"], order_by=["attributes.start_time DESC"]))
ask("one run", lambda: [client.get_run(one).info.run_name])
ask("compare two", lambda: find(filter_string=f"attributes.run_id IN ('{one}', '{two}')"))
ask("best 20", lambda: find(order_by=["metrics.val_accuracy DESC"]))
"""
TRACKIO = TIMER + """
import trackio
from trackio.server import get_logs
list_all = lambda: trackio.Api().runs("train")
ask("newest 20", lambda: [run.name for run in sorted(list_all(), key=lambda run: run.config["_Created"], reverse=True)[:20]])
ask("one run", lambda: [get_logs("train", one, run_id=facts["id"]) and one])
"""
FILL = """import json, sys
from mlflow import MlflowClient
from mlflow.entities import Metric, Param

client = MlflowClient()
experiment = client.create_experiment("train")
for line in sys.stdin:
    run = json.loads(line)
    made = client.create_run(experiment, start_time=run["start"], run_name=run["name"]).info.run_id
    client.log_batch(made, [Metric(name, value, run["end"], step) for name, value, step in run["metrics"]], [Param(*one) for one in run["params"]])
    client.set_terminated(made, run["status"], run["end"])
    print(made)
"""
QUESTIONS = ("newest 20", "filter", "best 20", "one run", "compare two")
Answers = dict[str, tuple[float, list[str]]]  # seconds, and the names of runs, by question


def run_program(python: Path, program: str, facts: dict, environment: dict[str, str]) -> Answers:
    """Ask all questions of a program in a process of its own."""
    done = subprocess.run([str(python), "-c", program, json.dumps(facts)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=900)
    if done.returncode:
        raise SystemExit(f"{python} failed:\n{done.stderr[-3000:]}")
    return {what: (seconds, names) for what, seconds, names in (json.loads(line) for line in done.stdout.splitlines() if line.startswith("["))}


def find_answers(count: int) -> dict[str, list[str]]:
    """Say what the answers are, from what the runs were made of. Which of equals come first is the same for all."""
    runs = list_runs(count)[::-1]
    matching = [run for run in runs if run.given["lr"] < 0.01 and run.last("val_accuracy") > 0.97 and run.state == "completed"]
    best = sorted(runs, key=lambda run: run.last("val_accuracy"), reverse=True)
    lists = {"newest 20": runs[:20], "filter": matching[:20], "best 20": best[:20]}
    one, other = describe_run(count // 2), describe_run(count // 3)
    return {what: [run.id for run in some] for what, some in (lists | {"one run": [one], "compare two": [one, other]}).items()}


@contextmanager
def serve_fasttrackml(keep: Path, count: int) -> Iterator[dict[str, str]]:
    """Start FastTrackML over its own database; yields the environment in which MLflow's client asks it."""
    port = find_port(5000)
    command = [str(make_environment("fasttrackml", keep) / "fml"), "server", "--listen-address", f"127.0.0.1:{port}", "--database-uri",
               f"sqlite://{keep / str(count) / 'fasttrackml.db'}", "--default-artifact-root", str(keep / str(count) / "fasttrackml")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.1)
        yield os.environ | {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    finally:
        process.terminate()
        process.wait()


def fill_fasttrackml(keep: Path, count: int) -> list[str]:
    """Log the runs into FastTrackML by MLflow's client, where it has not been done; returns its ids, in the order of the runs."""
    done = keep / str(count) / "fasttrackml.ids"
    if not done.exists():
        for old in (keep / str(count)).glob("fasttrackml*"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        defaults = {name: about["default"] for name, about in json.loads((make_template(keep) / "record.json").read_text())["parameters"].items()}
        states = {"completed": "FINISHED", "failed": "FAILED"}
        lines = []
        for run in list_runs(count):
            begin = round(run.started.timestamp() * 1000)
            metrics = [("lr", run.given["lr"], 0)] + [(name, run.last(name), 50) for name in ("loss", "accuracy", "val_loss", "val_accuracy")]
            lines.append(json.dumps({"name": run.id, "start": begin, "end": begin + round(run.duration_s * 1000), "status": states.get(run.state, "KILLED"),
                                     "metrics": metrics, "params": list(list_params(run, defaults).items())}))
        with serve_fasttrackml(keep, count) as environment:
            python = str(make_environment("fasttrackml", keep) / "python")
            printed = subprocess.run([python, "-c", FILL], input="\n".join(lines), env=environment, text=True, check=True, stdout=subprocess.PIPE).stdout
        done.write_text(printed)
    return re.findall(r"^[0-9a-f]{32}$", done.read_text(), flags=re.MULTILINE)  # the client prints more


def ask_ours(keep: Path, count: int) -> dict[str, Answers]:
    """Ask this library, or the one that comes first on PYTHONPATH."""
    package = (os.environ.get("PYTHONPATH") or str(Path(__file__).parent.parent)).split(os.pathsep)[0]
    facts = {"records": str(make_records(keep, count)), "filter": FILTER, "two": find_answers(count)["compare two"], "package": package}
    return {"ml_repo": run_program(Path(sys.executable), OURS, facts, os.environ | {"PYTHONPATH": package})}


def ask_peers(keep: Path, count: int) -> dict[str, Answers]:
    """Ask the others."""
    one, two = describe_run(count // 2), describe_run(count // 3)
    store, facts, found = make_mlflow(keep, count), {"filter": FILTER_MLFLOW, "two": [one.uuid, two.uuid]}, {}
    python = make_environment("mlflow", keep) / "python"
    found["mlflow"] = run_program(python, MLFLOW, facts, mlflow_environment(keep, count))
    with analyzed(store):
        found["mlflow (ANALYZE)"] = run_program(python, MLFLOW, facts, mlflow_environment(keep, count))
    found["fasttrackml"] = {}
    if count <= 1000:
        ids = fill_fasttrackml(keep, count)
        with serve_fasttrackml(keep, count) as environment:
            python = make_environment("fasttrackml", keep) / "python"
            found["fasttrackml"] = run_program(python, MLFLOW, facts | {"two": [ids[count // 2], ids[count // 3]]}, environment)
    make_trackio(keep, count)
    python = make_environment("trackio", keep) / "python"
    found["trackio"] = run_program(python, TRACKIO, {"two": [one.id, two.id], "id": one.uuid}, trackio_environment(keep, count))
    return found


CANNOT = {("fasttrackml", what): "is filled by its API only, which takes too long for so many runs: asked with --quick" for what in QUESTIONS} | {
          ("trackio", "filter"): "has no filter of runs", ("trackio", "best 20"): "has no order of runs",
          ("trackio", "compare two"): "reads one run at a time"}
DVC = "keeps an experiment as a git reference that one `dvc exp run` makes, and has no filter and no order: not measured"


def measure(keep: Path, count: int, with_peers: bool) -> list[dict]:
    """Ask all programs about `count` runs."""
    expected, rows = find_answers(count), []
    for program, answers in (ask_ours(keep, count) | (ask_peers(keep, count) if with_peers else {})).items():
        version = "this tree" if program == "ml_repo" else PINNED[program.split(" ")[0]].partition("==")[2]
        for what in QUESTIONS:
            row = {"row": "questions", "what": f"{count:,} runs: {what}", "program": program, "version": version, "value": None, "unit": "s"}
            if what in answers:
                seconds, names = answers[what]
                assert sorted(names) == sorted(expected[what]), (program, what, names[:3], expected[what][:3])
                rows.append(row | {"value": seconds})
            else:
                rows.append(row | {"why": CANNOT[program, what]})
    if with_peers:
        rows.append({"row": "questions", "what": f"{count:,} runs: newest 20", "program": "dvc", "version": PINNED["dvc"].partition("==")[2], "value": None,
                     "unit": "s", "why": DVC})
    return rows


def main() -> None:
    parser = make_parser(__doc__, "1,000 runs", "leave the peers out")
    parser.add_argument("--runs", type=int, nargs="+", metavar="N", help="how many runs (default 10000 100000)")
    options = parser.parse_args()
    rows = []
    for count in options.runs or ([1000] if options.quick else [10_000, 100_000]):
        rows += measure(KEEP, count, not options.ours and count < 100_000)
    for row in rows:
        shown = f"{row['value'] * 1000:10.1f} ms" if row["value"] is not None else f"{'':13} {row['why']}"
        print(f"{row['what']:<28}{row['program']:<20}{shown}")
    if options.json:
        options.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
