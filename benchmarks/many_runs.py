"""Thousands of runs that never ran: the same ones as records of ml_repo and in the SQLite stores of MLflow and trackio.

A run has 20 parameters and 4 metrics of 50 steps, no artifacts. All follow from its number, so both sides hold the same runs.

Records: one is made by `ml-repo run`; the others have its record.json with another id, times, state, parameters and metrics,
lines of metrics.jsonl as `Run.log` writes them, and a copy of its executed notebook, which is small. Nothing is fsynced.

MLflow: 100,000 runs through its API would take hours. So MLflow makes the store and logs run 0 through its API
(`start_run`, `log_params`, one `log_metrics` a step); all runs are then inserted into the same tables by SQL, run by run, with
every column as MLflow filled it, without ANALYZE or VACUUM, and the one of the API is taken out. It is checked that the row of
run 0 is the one that MLflow wrote, and, through MLflow's API, how many runs there are and that three read back whole.

trackio: the same way. It makes the store and logs run 0 through its API (`init`, one `log` a step, `finish`), and the others are
inserted by SQL as it wrote that one, which is checked, too. It has no state of a run and keeps parameters as one JSON text.
"""
import json
import math
import multiprocessing
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
from peers import PINNED, make_environment

from ml_repo.records.schema import RECORD_SCHEMA

MLFLOW, TRACKIO = PINNED["mlflow"], PINNED["trackio"]
STEPS = 50
CONTRACT = """lr: float = 0.003  # step size, above 0
batch_size: int = 32  # images a step, at least 1
epochs: int = 50  # passes over the images, at least 1
seed: int = 0  # at least 0
filters: int = 32  # at least 1
blocks: int = 2  # at least 1
dropout: float = 0.4  # share of features, at least 0, below 1
shift: float = 0.1  # share of the size, at least 0, below 1
weight_decay: float = 0.0  # at least 0
momentum: float = 0.9  # at least 0, below 1
warmup: int = 0  # steps, at least 0
label_smoothing: float = 0.0  # at least 0, below 1
clip_norm: float = 1.0  # above 0
optimizer: str = "adam"
schedule: str = "cosine"
activation: str = "relu"
data: str = "digits"
deterministic: bool = True
mixed_precision: bool = False
jit_compile: bool = False
"""
STATES = {"completed": ("FINISHED", 90), "failed": ("FAILED", 6), "killed": ("KILLED", 3), "interrupted": ("KILLED", 1)}  # name in MLflow, percent
NAMES = {("train", "loss"): "loss", ("train", "accuracy"): "accuracy", ("validation", "loss"): "val_loss", ("validation", "accuracy"): "val_accuracy"}


@dataclass(frozen=True)
class SyntheticRun:
    "One run, the same for both sides."
    id: str  # of the record, and the name of the run in MLflow
    uuid: str  # its id in MLflow
    state: str
    started: datetime
    duration_s: float
    given: dict[str, Any]  # parameters that are not the default
    curves: dict[tuple[str, str], list[float]]  # by split and name, one value a step

    def last(self, name: str) -> float:
        "The last value of a metric, by its name in MLflow."
        return next(self.curves[key][-1] for key, one in NAMES.items() if one == name)


def describe_run(number: int) -> SyntheticRun:
    "Say what run `number` is: one begins every five minutes."
    chance = random.Random(number)
    started = datetime(2025, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=300 * number, milliseconds=chance.randrange(1000))
    end = "".join(chance.choices("23456789abcdefghjkmnpqrstuvwxyz", k=4))
    given = {"lr": 10 ** chance.uniform(-4, -1), "batch_size": chance.choice([16, 64, 128]), "seed": chance.randrange(1, 100),
             "filters": chance.choice([16, 48, 64]), "dropout": chance.uniform(0, 0.6), "weight_decay": 10 ** chance.uniform(-6, -2),
             "optimizer": chance.choice(["sgd", "adamw", "lion"]), "mixed_precision": True}
    curves, best = {}, 1 - 0.5 * chance.random()
    for key in NAMES:
        fall = [math.exp(-step / 10) * (0.9 + 0.1 * chance.random()) for step in range(1, STEPS + 1)]
        curves[key] = [best * (1 - one) for one in fall] if key[1] == "accuracy" else [1 - best + 2 * one for one in fall]
    return SyntheticRun(f"train-{started:%Y%m%dT%H%M%SZ}-{end}", uuid.UUID(int=chance.getrandbits(128), version=4).hex,
                        chance.choices(list(STATES), [share for _, share in STATES.values()])[0], started,
                        round(chance.uniform(20, 200), 3), given, curves)


# Records

def make_template(keep: Path) -> Path:
    "Run a tiny notebook in a repository of its own; returns its record."
    repository = keep / "template"
    if not list(repository.glob("experiments/*/record.json")):
        shutil.rmtree(repository, ignore_errors=True)
        repository.mkdir(parents=True)
        (repository / "settings.ini").write_text("[DEFAULT]\npapermill_engine = ml_repo\n")
        (repository / ".gitignore").write_text((Path(__file__).parent.parent / ".gitignore").read_text())
        code = ("from ml_repo.tracking.run import start_run\n\nrun = start_run()\nfor step in range(1, 51):\n    for split in ('train', 'validation'):\n"
                "        run.log(step=step, split=split, loss=1 / step, accuracy=1 - 1 / step)")
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CONTRACT, metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(code)])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, repository / "train.ipynb")
        (repository / "log_one.py").write_text(LOG_ONE)
        git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "commit.gpgsign=false"]
        for command in (["git", "init", "--quiet"], [*git, "add", "--all"], [*git, "commit", "--quiet", "--message", "Keep it"],
                        [str(Path(sys.executable).with_name("ml-repo")), "run", "train.ipynb", "-p", "lr", "0.01", "--quiet"]):
            subprocess.run(command, cwd=repository, check=True, stdout=subprocess.DEVNULL)
    return next(repository.glob("experiments/*/record.json")).parent


def write_record(records: Path, template: dict[str, Any], notebook: str, number: int) -> str:
    "Write the record of run `number`; returns its id."
    run = describe_run(number)
    folder, shown = records / run.id, partial(datetime.isoformat, timespec="milliseconds")
    folder.mkdir()
    causes = {"completed": None, "failed": {"kind": "exception", "text": "ValueError: loss is nan", "exception": "ValueError", "cell": 3}}
    ended = run.started + timedelta(seconds=run.duration_s)
    parameters = {name: {"default": about["default"]} | ({"given": run.given[name]} if name in run.given else {})
                  | {"used": run.given.get(name, about["default"])} for name, about in template["parameters"].items()}
    metrics = [{"name": name, "split": split, "value": values[-1], "step": STEPS, "direction": ""} for (split, name), values in run.curves.items()]
    record = template | {"id": run.id, "state": run.state, "cause": causes.get(run.state, {"kind": "signal", "text": "SIGTERM ended it", "signal": "SIGTERM"}),
                         "started": shown(run.started).replace("+00:00", "Z"), "ended": shown(ended).replace("+00:00", "Z"),
                         "duration_s": run.duration_s, "parameters": parameters, "metrics": metrics}
    lines = [json.dumps({"time_s": round(run.duration_s * step / STEPS, 3), "step": step, "split": split,
                         "values": {name: run.curves[split, name][step - 1] for name in ("loss", "accuracy")}})
             for step in range(1, STEPS + 1) for split in ("train", "validation")]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "train.ipynb").write_text(notebook.replace(template["id"], run.id))
    (folder / ".lock").touch()
    (folder / "record.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return run.id


def make_writer(keep: Path, records: Path) -> Callable[[int], str]:
    "Prepare `write_record` for a folder; it takes numbers then. Checks that the real record has the shape that is written."
    made = make_template(keep)
    template, notebook = json.loads((made / "record.json").read_text()), (made / "train.ipynb").read_text()
    assert len(template["parameters"]) == 20 and len(template["metrics"]) == 4 and template["state"] == "completed"
    lines = (made / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 * STEPS and list(json.loads(lines[0])) == ["time_s", "step", "split", "values"], "Run.log writes other lines now"
    return partial(write_record, records, template, notebook)


def make_records(keep: Path, count: int) -> Path:
    "Write `count` records, where they are not there yet; returns their folder."
    records, done = keep / str(count) / "records", keep / str(count) / "records.done"
    if done.exists():
        return records
    shutil.rmtree(records, ignore_errors=True)
    records.mkdir(parents=True)
    with multiprocessing.Pool(2) as pool:
        for number, _ in enumerate(pool.imap_unordered(make_writer(keep, records), range(count), chunksize=50), 1):
            tell(f"records of {count:,}", number, count)
    for number in (0, count // 2, count - 1):
        jsonschema.validate(json.loads((records / describe_run(number).id / "record.json").read_text()), RECORD_SCHEMA)
    done.touch()
    return records


# MLflow

LOG_ONE = """import json, sys
import mlflow

facts = json.load(sys.stdin)
mlflow.set_experiment("train")
with mlflow.start_run(run_name=facts["name"]):
    mlflow.log_params(facts["params"])
    mlflow.log_metric("lr", facts["params"]["lr"], step=0)
    for step, values in enumerate(facts["steps"], 1):
        mlflow.log_metrics(values, step=step)
"""
CHECK = """import json, sys
from mlflow import MlflowClient

client, facts, count, token = MlflowClient(), json.load(sys.stdin), 0, None
for uuid, one in facts["runs"].items():
    run = client.get_run(uuid)
    assert run.info.run_name == one["name"] and run.info.status == one["status"], run.info
    assert run.data.params == one["params"], run.data.params
    for name, values in one["curves"].items():
        assert [(value.step, value.value) for value in client.get_metric_history(uuid, name)] == list(enumerate(values, 1)), name
        assert run.data.metrics[name] == values[-1], name
while token != "":
    page = client.search_runs(["1"], max_results=2000, page_token=token)
    count, token = count + len(page), page.token or ""
assert count == facts["count"], count
"""


def mlflow_environment(keep: Path, count: int) -> dict[str, str]:
    "The environment that MLflow runs in: its store, and nothing sent over the network."
    store = (keep / str(count) / "mlflow.db").resolve()
    return os.environ | {"MLFLOW_TRACKING_URI": f"sqlite:///{store}", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def list_params(run: SyntheticRun, defaults: dict[str, Any]) -> dict[str, str]:
    "All parameters as MLflow keeps them: texts."
    return {name: str(value) for name, value in (defaults | run.given).items()}


def make_rows(run: SyntheticRun, defaults: dict[str, Any]) -> dict[str, list[tuple]]:
    "The rows of a run by table, without those of `runs` and `tags`. The step size is a metric too: MLflow compares params as texts."
    begin = round(run.started.timestamp() * 1000)
    times = [begin + round(run.duration_s * 1000 * step / STEPS) for step in range(STEPS + 1)]
    metrics = [("lr", run.given["lr"], times[0], run.uuid, 0, 0)]
    metrics += [(name, run.curves[key][step - 1], times[step], run.uuid, step, 0) for step in range(1, STEPS + 1) for key, name in NAMES.items()]
    latest = [(*metrics[0][:3], 0, 0, run.uuid)] + [(name, run.curves[key][-1], times[-1], STEPS, 0, run.uuid) for key, name in NAMES.items()]
    return {"params": [(name, value, run.uuid) for name, value in list_params(run, defaults).items()], "metrics": metrics, "latest_metrics": latest}


COLUMNS = {"params": ("key", "value", "run_uuid"), "metrics": ("key", "value", "timestamp", "run_uuid", "step", "is_nan"),
           "latest_metrics": ("key", "value", "timestamp", "step", "is_nan", "run_uuid"), "tags": ("key", "value", "run_uuid")}


def same_shape(base: sqlite3.Connection, by_api: str, by_sql: str) -> None:
    "Check that what MLflow wrote of a run and what we inserted are the same, but for ids and times."
    for table, names in COLUMNS.items():
        kept = ", ".join(name for name in names if name not in ("run_uuid", "timestamp"))
        one, other = (sorted(base.execute(f"SELECT {kept} FROM {table} WHERE run_uuid = ?", (run,)).fetchall(), key=repr) for run in (by_api, by_sql))
        assert one == other, (table, one[:5], other[:5])


def insert_runs(base: sqlite3.Connection, count: int, defaults: dict[str, Any]) -> None:
    "Insert runs as MLflow would have left them; run 0 is there already, by its API, and goes."
    cursor = base.execute("SELECT * FROM runs")
    columns, template = [one[0] for one in cursor.description], cursor.fetchone()
    first = dict(zip(columns, template))
    tags = base.execute("SELECT key, value FROM tags").fetchall()
    insert = {table: f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})" for table, names in COLUMNS.items()}
    for number in range(count):
        run = describe_run(number)
        begin = round(run.started.timestamp() * 1000)
        row = first | {"run_uuid": run.uuid, "name": run.id, "status": STATES[run.state][0], "start_time": begin, "end_time": begin + round(run.duration_s * 1000),
                       "artifact_uri": first["artifact_uri"].replace(first["run_uuid"], run.uuid)}
        base.execute(f"INSERT INTO runs VALUES ({', '.join('?' * len(row))})", [row[name] for name in columns])
        rows = make_rows(run, defaults) | {"tags": [(key, run.id if key == "mlflow.runName" else value, run.uuid) for key, value in tags]}
        for table, values in rows.items():
            base.executemany(insert[table], values)
        if number == 0:
            same_shape(base, first["run_uuid"], run.uuid)
        tell(f"MLflow's runs of {count:,}", number + 1, count)
    for table in (*COLUMNS, "runs"):
        base.execute(f"DELETE FROM {table} WHERE run_uuid = ?", (first["run_uuid"],))


def make_mlflow(keep: Path, count: int) -> Path:
    "Fill a store of MLflow with `count` runs, where there is none yet; returns its file."
    store, done = keep / str(count) / "mlflow.db", keep / str(count) / "mlflow.done"
    if done.exists():
        return store
    store.parent.mkdir(parents=True, exist_ok=True)
    store.unlink(missing_ok=True)
    template, python = make_template(keep), make_environment("mlflow", keep) / "python"
    defaults = {name: about["default"] for name, about in json.loads((template / "record.json").read_text())["parameters"].items()}
    ask = partial(subprocess.run, text=True, check=True, cwd=keep / "template", env=mlflow_environment(keep, count), stderr=subprocess.DEVNULL)
    run = describe_run(0)
    ask([str(python), "log_one.py"], input=json.dumps({"name": run.id, "params": defaults | run.given, "steps": list_steps(run)}))
    base = sqlite3.connect(store, isolation_level=None)
    base.executescript("PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; PRAGMA cache_size = -1000000;")
    base.execute("BEGIN")
    insert_runs(base, count, defaults)
    base.execute("COMMIT")
    base.executescript("PRAGMA journal_mode = DELETE;")
    base.close()
    some = [describe_run(number) for number in random.Random(count).sample(range(count), 3)]
    facts = {one.uuid: {"name": one.id, "status": STATES[one.state][0], "params": list_params(one, defaults),
                        "curves": {name: one.curves[key] for key, name in NAMES.items()}} for one in some}
    print("reading them back through MLflow's API", file=sys.stderr)
    ask([str(python), "-c", CHECK], input=json.dumps({"runs": facts, "count": count}))
    done.touch()
    return store


# trackio

TRACK_ONE = """import json, sys
import trackio

facts = json.load(sys.stdin)
trackio.init(project="train", name=facts["name"], config=facts["params"], embed=False, auto_log_gpu=False, auto_log_cpu=False)
for step, values in enumerate(facts["steps"], 1):
    trackio.log(values, step=step)
trackio.finish()
"""
TRACK_CHECK = """import json, sys
import trackio
from trackio.server import get_logs

facts, runs = json.load(sys.stdin), trackio.Api().runs("train")
assert len(runs) == facts["count"], len(runs)
for run in runs:
    one = facts["runs"].get(run.id)
    if one:
        assert run.name == one["name"] and {name: value for name, value in run.config.items() if name[0] != "_"} == one["params"], run.config
        read = get_logs("train", run.name, run_id=run.id)
        assert [{name: line[name] for name in one["steps"][0]} for line in read] == one["steps"] and [line["step"] for line in read] == list(range(1, len(read) + 1))
"""


def trackio_environment(keep: Path, count: int) -> dict[str, str]:
    "The environment that trackio runs in: its store, and nothing sent over the network."
    return os.environ | {"TRACKIO_DIR": str((keep / str(count) / "trackio").resolve()), "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def list_steps(run: SyntheticRun) -> list[dict[str, float]]:
    "The metrics of a run by step."
    return [{name: run.curves[key][step] for key, name in NAMES.items()} for step in range(STEPS)]


def insert_tracked(base: sqlite3.Connection, count: int, defaults: dict[str, Any]) -> None:
    "Insert runs as trackio would have left them; run 0 is there already, by its API, and goes."
    (by_api, config), = base.execute("SELECT run_id, config FROM configs").fetchall()
    reserved = {name: value for name, value in json.loads(config).items() if name[0] == "_"}
    add = "INSERT INTO {} ({}) VALUES ({})".format
    pack = partial(json.dumps, separators=(",", ":"))
    lines = add("metrics", "run_id, timestamp, run_name, step, metrics, log_id", "?, ?, ?, ?, ?, ?")
    for number in range(count):
        run = describe_run(number)
        about = defaults | run.given | reserved | {"_Created": run.started.isoformat()}
        base.execute(add("configs", "run_id, run_name, config, created_at", "?, ?, ?, ?"), (run.uuid, run.id, pack(about).encode(), run.started.isoformat()))
        base.executemany(lines, [(run.uuid, (run.started + timedelta(seconds=run.duration_s * step / STEPS)).isoformat(), run.id, step, pack(values).encode(), uuid.uuid5(uuid.UUID(run.uuid), str(step)).hex)
                                 for step, values in enumerate(list_steps(run), 1)])
        if number == 0:
            same_lines(base, by_api, run.uuid)
        tell(f"trackio's runs of {count:,}", number + 1, count)
    for table in ("configs", "metrics"):
        base.execute(f"DELETE FROM {table} WHERE run_id = ?", (by_api,))


def same_lines(base: sqlite3.Connection, by_api: str, by_sql: str) -> None:
    "Check that what trackio wrote of a run and what we inserted are the same, but for ids and times."
    for table, kept in {"metrics": "run_name, step, space_id, metrics", "configs": "run_name, config"}.items():
        one, other = ([(typeof, *rest, json.loads(text) | {"_Created": None}) for typeof, *rest, text in base.execute(
            f"SELECT typeof({kept.split()[-1]}), {kept} FROM {table} WHERE run_id = ? ORDER BY id", (run,))] for run in (by_api, by_sql))
        assert one == other and one, (table, one[:3], other[:3])
    filled = {table for table, in base.execute("SELECT name FROM sqlite_sequence WHERE seq > 0")}
    assert filled == {"configs", "metrics"}, f"trackio writes into other tables now: {filled}"


def make_trackio(keep: Path, count: int) -> Path:
    "Fill a store of trackio with `count` runs, where there is none yet; returns its file."
    store, done = keep / str(count) / "trackio" / "train.db", keep / str(count) / "trackio.done"
    if done.exists():
        return store
    shutil.rmtree(store.parent, ignore_errors=True)
    template, python = make_template(keep), make_environment("trackio", keep) / "python"
    defaults = {name: about["default"] for name, about in json.loads((template / "record.json").read_text())["parameters"].items()}
    ask = partial(subprocess.run, text=True, check=True, cwd=keep / "template", env=trackio_environment(keep, count), stdout=subprocess.DEVNULL)
    first = describe_run(0)
    ask([str(python), "-c", TRACK_ONE], input=json.dumps({"name": first.id, "params": defaults | first.given, "steps": list_steps(first)}))
    base = sqlite3.connect(store, isolation_level=None)
    base.executescript("PRAGMA synchronous = OFF; PRAGMA cache_size = -1000000; BEGIN;")
    insert_tracked(base, count, defaults)
    base.execute("COMMIT")
    base.close()
    some = [describe_run(number) for number in random.Random(count).sample(range(count), 3)]
    print("reading them back through trackio's API", file=sys.stderr)
    ask([str(python), "-c", TRACK_CHECK], input=json.dumps({"count": count, "runs": {one.uuid: {"name": one.id, "params": defaults | one.given, "steps": list_steps(one)} for one in some}}))
    done.touch()
    return store


def tell(what: str, number: int, count: int) -> None:
    "Show progress, twenty times."
    if number % max(count // 20, 1) == 0:
        print(f"{what}: {number:,}", file=sys.stderr)


def list_runs(count: int) -> list[SyntheticRun]:
    "All runs, oldest first, with the last values of their curves only."
    return [replace(run, curves={key: values[-1:] for key, values in run.curves.items()}) for run in map(describe_run, range(count))]
