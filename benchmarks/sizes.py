"""How many bytes runs take: as records, in the SQLite store of MLflow, and in git. Writes benchmarks/sizes.json.

    python benchmarks/sizes.py KEEP            # KEEP: a folder for what is made, kept for the next time; 3 GB

The runs are those of many_runs.py: 20 parameters, 4 metrics of 50 steps, no artifacts, the same for both sides. A number is the sum of
the sizes of files (not of disk blocks). For git, everything is committed and packed by `git gc`. Records are committed once, since a
record never changes; MLflow's file is one file that changes with each run, so it is committed ten times, after each tenth of the runs.
The example is the ten real records in experiments/. Artifacts: what MLflow and Keras write for the example's model with its defaults.
"""
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import many_runs
from many_runs import COLUMNS, STATES, describe_run, make_mlflow, make_records, make_rows, make_template, tell

HERE = Path(__file__).parent


def measure(folder: Path) -> int:
    "The bytes of all files in a folder, without git's own."
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts)


def git(folder: Path, *arguments: str) -> str:
    "Ask git."
    return subprocess.run(["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "commit.gpgsign=false", "-c", "gc.auto=0", *arguments],
                          cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path) -> None:
    "Commit everything."
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "Keep it")


def pack(folder: Path) -> int:
    "The bytes of what git has of a folder, once it is packed."
    git(folder, "gc", "--quiet", "--prune=now")
    facts = dict(line.split(": ") for line in git(folder, "count-objects", "-v").splitlines())
    return (int(facts["size-pack"]) + int(facts["size"])) * 1024


def measure_records(keep: Path, count: int) -> dict[str, int]:
    "Records: as files, and in git."
    records = make_records(keep, count)
    (records / ".gitignore").write_text("*/.*\n")
    commit(records) if not (records / ".git").exists() else None
    return {"bytes": measure(records), "git_bytes": pack(records), "files": len(git(records, "ls-files").splitlines())}


def grow(store: Path, first: int, last: int, defaults: dict) -> None:
    "Insert runs `first` to `last` - 1 as MLflow would have left them, after those that are there."
    base = sqlite3.connect(store)
    cursor = base.execute("SELECT * FROM runs LIMIT 1")
    template = dict(zip([one[0] for one in cursor.description], cursor.fetchone()))
    tags = base.execute("SELECT key, value FROM tags WHERE run_uuid = ?", (template["run_uuid"],)).fetchall()
    for number in range(first, last):
        run = describe_run(number)
        begin = round(run.started.timestamp() * 1000)
        row = template | {"run_uuid": run.uuid, "name": run.id, "status": STATES[run.state][0], "start_time": begin,
                          "end_time": begin + round(run.duration_s * 1000), "artifact_uri": template["artifact_uri"].replace(template["run_uuid"], run.uuid)}
        base.execute(f"INSERT INTO runs ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))
        rows = make_rows(run, defaults) | {"tags": [(key, run.id if key == "mlflow.runName" else value, run.uuid) for key, value in tags]}
        for table, values in rows.items():
            base.executemany(f"INSERT INTO {table} ({', '.join(COLUMNS[table])}) VALUES ({', '.join('?' * len(COLUMNS[table]))})", values)
        tell("MLflow's runs", number + 1, last)
    base.commit()
    base.close()


def measure_mlflow(keep: Path, count: int, commits: int = 10) -> dict[str, int]:
    "MLflow's SQLite file: as a file, and in git after `commits` commits on the way."
    folder = keep / f"mlflow-{count}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    defaults = {name: about["default"] for name, about in json.loads((make_template(keep) / "record.json").read_text())["parameters"].items()}
    shutil.copy(make_mlflow(keep, 3), folder / "mlflow.db")
    done = 3
    for stage in range(1, commits + 1):
        grow(folder / "mlflow.db", done, count * stage // commits, defaults)
        done = max(done, count * stage // commits)
        commit(folder)
    return {"bytes": (folder / "mlflow.db").stat().st_size, "git_bytes": pack(folder), "commits": commits}


def measure_example(keep: Path) -> dict[str, object]:
    "The real records of this repository, by kind of file."
    target = keep / "example"
    shutil.rmtree(target, ignore_errors=True)
    committed = subprocess.run(["git", "archive", "HEAD", "experiments"], cwd=HERE.parent, check=True, capture_output=True).stdout
    target.mkdir()
    subprocess.run(["tar", "-x"], cwd=target, input=committed, check=True)
    kinds: dict[str, int] = {}
    for path in target.rglob("*"):
        if path.is_file():
            name = ".store" if ".store" in path.parts else path.name
            kinds[name] = kinds.get(name, 0) + path.stat().st_size
    commit(target)
    return {"runs": len(list(target.glob("experiments/*/record.json"))), "bytes": measure(target), "git_bytes": pack(target), "by_file": kinds}


ARTIFACTS = """import json, os, pathlib, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import mlflow
from ml_repo.project.model import build_model
here, notebook = pathlib.Path.cwd(), sys.argv[1]
size = lambda folder: sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file())
mlflow.set_tracking_uri(f"sqlite:///{here}/mlflow.db")
model = build_model((8, 8, 1), 10, 32)
model.save("model.keras")
with mlflow.start_run():
    mlflow.log_artifact(notebook)
    before = size("mlruns") if pathlib.Path("mlruns").exists() else 0
    mlflow.tensorflow.log_model(model, name="model", pip_requirements=["keras"])
print(json.dumps({"weights": model.count_params(), "model_keras_bytes": pathlib.Path("model.keras").stat().st_size,
                  "mlflow_notebook_bytes": before, "mlflow_model_bytes": size("mlruns") - before}))
"""


def measure_artifacts(keep: Path) -> dict[str, int]:
    "What one run adds to MLflow's artifacts: the executed notebook, and the model."
    folder = keep / "artifacts"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    notebook = sorted(HERE.parent.glob("experiments/*/train.ipynb"))[0]
    quiet = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONPATH": str(HERE.parent)}
    printed = subprocess.run([sys.executable, "-c", ARTIFACTS, str(notebook)], cwd=folder, env=quiet, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


def main() -> None:
    "Measure everything, and write it down."
    keep = Path(sys.argv[1]).resolve()
    keep.mkdir(parents=True, exist_ok=True)
    since, rows = time.monotonic(), []
    for count in (10, 100, 1000, 10_000):
        row = {"runs": count, "records": measure_records(keep, count), "mlflow": measure_mlflow(keep, count, 10 if count <= 1000 else 1)}
        print(f"{time.monotonic() - since:.0f} s", row, flush=True)
        rows.append(row)
    facts = {"measured": datetime.now(timezone.utc).date().isoformat(), "mlflow": many_runs.MLFLOW, "git": git(keep, "--version").split()[2], "growth": rows,
             "example": measure_example(keep), "artifacts": measure_artifacts(keep)}
    (HERE / "sizes.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    main()
