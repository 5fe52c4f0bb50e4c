"""The live page of results beside `mlflow ui` and trackio's dashboard on the same runs: time to the table, to the sorted table, to the curves of one run.

    .venv/bin/python benchmarks/live.py [--runs 10000] [--keep FOLDER] [--rounds 3]

The runs are those of many_runs.py, the same on all sides. Every server runs before anything is timed, and each page has been open once.
Timed in Chromium without a GPU, from the beginning of the navigation until the page shows what is asked for: rows, rows in the order
of val_accuracy, the curves of the newest run. All get what is asked for in the address. A page that shows it not within two minutes, or that
has no such view, says so instead of a number. The table of trackio asks its server once a run, and the server goes on with that when the page
is closed, so it is started anew for each question. Then the server of the page of results is left alone
with one open page, and a run begins: its processor time, its memory, and the time until the run is in the table are told.
The figures are kept in live.json, by the number of runs.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import psutil
from many_runs import MLFLOW, TRACKIO, describe_run, make_mlflow, make_records, make_trackio, mlflow_environment, trackio_environment
from peers import make_environment

from ml_repo.integrations.servers import find_port
from ml_repo.integrations.mlflow_mapping import shorten_id
from ml_repo.records.record import open_record

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))


def await_answer(link: str) -> None:
    """Wait until a server answers anything."""
    for _ in range(1200):
        with suppress(OSError):
            urllib.request.urlopen(link, timeout=5).close()
            return
        time.sleep(0.1)
    raise SystemExit(f"{link} does not answer")


def measure(browser, link: str, is_there: str, rounds: int) -> float | str:
    """Seconds from the navigation until a script is true, the median of some rounds; else what the page says after two minutes."""
    times = []
    for _ in range(rounds + 1):  # the first fills caches
        browser.open("about:blank")
        time.sleep(0.5)
        start = time.perf_counter()
        browser.open(link)
        while True:
            with suppress(AssertionError):  # one page gives way to the next
                if browser.ask(f"location.href !== 'about:blank' && (() => {{ try {{ return !!({is_there}); }} catch {{ return false; }} }})()"):
                    break
            time.sleep(0.01)
            if time.perf_counter() - start > 120:
                said = browser.ask("(document.querySelector('main h2, h2') ?? document.body).innerText").split("\n")[0]
                return f"not within 120 s (the page says {said[:60]!r})"
        times.append(time.perf_counter() - start)
    return round(statistics.median(times[1:]), 3)


@contextmanager
def serve_trackio(keep: Path, runs: int, port: int) -> Iterator[str]:
    """Its dashboard, freshly started; gives its address."""
    show = f"import trackio; trackio.show('train', open_browser=False, server_port={port}, block_thread=True)"
    process = subprocess.Popen([str(make_environment("trackio", keep) / "python"), "-c", show], env=trackio_environment(keep, runs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        await_answer(f"http://127.0.0.1:{port}/")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def tell_figure(name: str, found: float | str, mine: float | str = "") -> str:
    """A figure and how many times ours it is, or what hinders it."""
    if isinstance(found, str):
        return f"{name}: {found}"
    return f"{name} {found:7.3f} s" + (f", {found / mine:5.1f} times" if isinstance(mine, float) else "")


def main() -> None:
    """Run both servers and print the ratios."""
    from browser import CHROMIUM, Browser

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "ml_repo-many-runs"))
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not CHROMIUM:
        raise SystemExit("This needs Chromium.")
    given.keep.mkdir(parents=True, exist_ok=True)
    records = make_records(given.keep, given.runs)
    make_mlflow(given.keep, given.runs)
    make_trackio(given.keep, given.runs)
    ports = find_port(8790), find_port(5790)
    ours = subprocess.Popen([sys.executable, "-P", "-c", "from ml_repo.live.live_server import main; main()", str(ports[0]), str(records)], env=os.environ | {"ML_REPO_TOKEN": ""})
    theirs = subprocess.Popen([str(make_environment("mlflow", given.keep) / "mlflow"), "ui", "--port", str(ports[1]), "--workers", "1", "--backend-store-uri", mlflow_environment(given.keep, given.runs)["MLFLOW_TRACKING_URI"]], cwd=given.keep, env=mlflow_environment(given.keep, given.runs),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page, other = f"http://127.0.0.1:{ports[0]}/", f"http://127.0.0.1:{ports[1]}/"
    browser = Browser(1300)
    try:
        await_answer(page)
        await_answer(other)
        time.sleep(20)  # MLflow goes on to start helpers
        found = json.load(urllib.request.urlopen(urllib.request.Request(f"{other}ajax-api/2.0/mlflow/experiments/search", json.dumps({"max_results": 10}).encode(), {"Content-Type": "application/json"})))
        experiment = next(one["experiment_id"] for one in found["experiments"] if one["name"] != "Default")
        newest = describe_run(given.runs - 1)
        rows = "document.documentElement.dataset.ready === '1' && document.querySelectorAll('#body tr').length > 20"
        grid = "document.querySelectorAll('[role=row]').length > 8"
        runs = f"{other}#/experiments/{experiment}/runs"
        asked = {
            "table": ((page, rows), (runs, grid)),
            "sorted by val_accuracy": ((f"{page}#sort=metrics.val_accuracy", rows), (f"{runs}?orderByKey=metrics.%60val_accuracy%60&orderByAsc=false", grid)),
            "curves of one run": ((f"{page}runs/{newest.id}.html", "document.querySelector('#live .uplot canvas')"),
                                  (f"{other}#/experiments/{experiment}/runs/{newest.uuid}/model-metrics", "document.querySelector('.js-plotly-plot .main-svg')")),
        }
        trackio = {
            "table": ("/runs?project=train", "document.querySelectorAll('.runs-table tbody tr').length > 20"),
            "curves of one run": (f"/?project=train&run_ids={newest.uuid}", "document.querySelector('.plot canvas')"),
        }
        figures = {"measured": f"{datetime.now():%Y-%m-%d}", "processors": os.cpu_count(), "rounds": given.rounds, "peers": [MLFLOW, TRACKIO]}
        for name, (mine, its) in asked.items():
            one = {"ml-repo ui": measure(browser, *mine, given.rounds), "mlflow ui": measure(browser, *its, given.rounds), "trackio": "its table of runs has no metrics and no order"}
            if name in trackio:
                with serve_trackio(given.keep, given.runs, find_port(7890)) as dashboard:
                    one["trackio"] = measure(browser, dashboard + trackio[name][0], trackio[name][1], given.rounds)
                browser.open("about:blank")
            figures[name] = one
            parts = [tell_figure("ml-repo ui", one["ml-repo ui"]), *(tell_figure(peer, one[peer], one["ml-repo ui"]) for peer in ("mlflow ui", "trackio"))]
            print(f"{name:24}", *parts, sep="   ", flush=True)
        theirs.terminate()
        browser.open(page)
        time.sleep(8)
        process = psutil.Process(ours.pid)
        before = sum(process.cpu_times()[:2])
        time.sleep(30)
        figures["idle, share of a processor"] = round((sum(process.cpu_times()[:2]) - before) / 30, 4)
        figures["memory, MB"] = round(process.memory_info().rss / 1e6)
        since = time.perf_counter()
        record = open_record(records, "train.ipynb", parameters={"lr": {"default": 0.003, "given": 0.1}})
        while shorten_id(record.folder.name) not in browser.ask("document.getElementById('body').innerText"):
            time.sleep(0.01)
        figures["a new run is in the table after, s"] = round(time.perf_counter() - since, 2)
        record.close("failed")
        shutil.rmtree(record.folder)
        for name in list(figures)[-3:]:
            print(f"{name}: {figures[name]}")
        kept = Path(__file__).with_name("live.json")
        known = json.loads(kept.read_text()) if kept.exists() else {}
        kept.write_text(json.dumps(dict(sorted((known | {str(given.runs): figures}).items())), indent=1) + "\n")
    finally:
        browser.close()
        for process in (ours, theirs):
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
