"""Where somebody waits: every row of the table of speeds with its peer, in one run.

    .venv/bin/python benchmarks/table.py                        all rows, about an hour on two cores
    .venv/bin/python benchmarks/table.py questions --quick      one row, small
    .venv/bin/python benchmarks/table.py --against d9d26c4 --json benchmarks/speed.json

A row is a script here that is called once a round:

    python SCRIPT … --json FILE [--quick] [--ours]

It measures each of its programs once (or takes its own median) and writes a list of measurements into FILE, one for each number:

    {"row": "questions", "what": "10,000 runs: newest 20", "program": "ml_repo", "version": "0.1.0", "value": 0.002, "unit": "s"}

`program` is "ml_repo" for this library and the name on PyPI for a peer, perhaps with a word in brackets: "papermill (loop)". `unit` is
"s" (seconds of a clock), "processor s", "MB" or "trials a minute". A program that cannot answer has "value": null and "why": "a sentence".
With `--quick` a script measures less, such as fewer runs; with `--ours` it leaves the peers out.

This entry calls each script --rounds times, in turn with --ours in a worktree of --against COMMIT, into which the scripts of today are copied (its
package comes first on PYTHONPATH, and its measurements are named "ml_repo COMMIT"), takes medians, adds "values" (of all rounds) and "ratio_to": for each other
program with the same row and what, this value divided by the other one. So below 1 is ahead for seconds and MB, above 1 for trials.
The file of --json has {"rows": {name: {"measured": date, "commit", "machine", "python"}}, "measurements": [...]}; rows that were not measured this time
stay in it as they were.
"""
import argparse
import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
ROWS = {  # by name: script with its options, and what it says; a script joins when it has --json, --quick and --ours
    "questions": (["questions.py"], "questions in a living Python process"),
    "index": (["first_index.py"], "the first index of a folder of records"),
    "run": (["short.py", "run"], "`ml-repo run` of an empty notebook, and its memory"),
    "verify": (["short.py", "verify"], "`verify` of a short notebook, and of one with 2 MB of HTML"),
    "studies": (["studies.py"], "a study with one worker and with two"),
    "tests": (["suite.py"], "`make test`"),
    "docs": (["docs.py"], "`make docs` after one changed notebook"),
}
Measurement = dict[str, Any]


def git(*words: str) -> str:
    "Ask git about this repository."
    return subprocess.run(["git", *words], cwd=ROOT, text=True, check=True, stdout=subprocess.PIPE).stdout.strip()


@contextlib.contextmanager
def worktree(commit: str) -> Iterator[Path | None]:
    "Check a commit out into a temporary folder, with the benchmarks of today; nothing without one."
    if not commit:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        git("worktree", "add", "--quiet", "--detach", str(tree), commit)
        try:
            shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
            in_tree = "-C", str(tree), "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "commit.gpgsign=false"
            git(*in_tree, "add", "--all")  # runs want a clean tree
            git(*in_tree, "commit", "--quiet", "--no-verify", "--allow-empty", "--message", "Measure with the benchmarks of today")
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


def call(row: str, words: list[str], package: Path, is_old: bool) -> list[Measurement]:
    "Call the script of a row once, with the package that lies in a folder; returns what it measured."
    script, *options = ROWS[row][0]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "measured.json"
        command = [sys.executable, str(package / "benchmarks" / script), *options, *words, *["--ours"] * is_old, "--json", str(file)]
        done = subprocess.run(command, cwd=package, env=os.environ | {"PYTHONPATH": str(package)}, stdout=sys.stderr)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} exited with {done.returncode}.")
        return json.loads(file.read_text())


def measure(row: str, options: argparse.Namespace, tree: Path | None) -> list[Measurement]:
    "Measure a row in rounds, this tree and the other one in turn."
    found: dict[tuple[str, str], Measurement] = {}
    for number in range(options.rounds):
        words = ["--quick"] * options.quick + (["--runs", *options.runs] if options.runs else []) + ["--ours"] * (options.ours or number > 0 and options.peers_once)
        rounds = [(ROOT, "")] + ([(tree, f" {options.against}")] if tree else [])
        for package, name in rounds if number % 2 == 0 else rounds[::-1]:
            for one in call(row, words, package, bool(name)):
                one["program"] += name if one["program"].startswith("ml_repo") else ""
                kept = found.setdefault((one["what"], one["program"]), one | {"values": []})
                kept["values"] += [] if one["value"] is None else [one["value"]]
    for one in found.values():
        one["value"] = statistics.median(one["values"]) if one["values"] else None
    for one in found.values():
        one["ratio_to"] = {other["program"]: round(one["value"] / other["value"], 4) for other in found.values()
                           if other is not one and other["what"] == one["what"] and one["value"] is not None and other["value"]}
    return list(found.values())


def read_machine() -> str:
    "Name the processor, how many there are, and the memory."
    model = next((line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{len(os.sched_getaffinity(0))} processors of {model}, {memory:.0f} GiB, {platform.system()} {platform.release()}"


def show(measurements: list[Measurement]) -> None:
    "Print a row: each number, and how this library stands to the others."
    for one in measurements:
        value = f"{one['value']:12,.4g} {one['unit']}" if one["value"] is not None else f"{'':>12} {one.get('why', 'not measured')}"
        ratios = "".join(f"   {ratio:.3g} × {other}" for other, ratio in one["ratio_to"].items()) if one["program"] == "ml_repo" else ""
        print(f"{one['row']:<10}{one['what']:<44}{one['program']:<24}{value}{ratios}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"all without one: {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="small, to see that it works; the figures say little")
    parser.add_argument("--ours", action="store_true", help="leave the peers out")
    parser.add_argument("--peers-once", action="store_true", help="ask the peers in the first round only")
    parser.add_argument("--runs", nargs="+", metavar="N", help="how many runs there are, for the rows questions and index")
    parser.add_argument("--rounds", type=int, default=3, help="how often each script is called (default 3)")
    parser.add_argument("--against", default="", metavar="COMMIT", help="measure an earlier commit as well, in turn with this tree")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the measurements, in place of earlier ones of the same rows")
    options = parser.parse_args()
    if unknown := [row for row in options.rows if row not in ROWS]:
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(ROWS)}")
    kept = json.loads(options.json.read_text()) if options.json and options.json.exists() else {"rows": {}, "measurements": []}
    with worktree(options.against) as tree:
        for row in options.rows or ROWS:
            measured = measure(row, options, tree)
            show(measured)
            kept["rows"][row] = {"measured": f"{datetime.now(timezone.utc):%Y-%m-%d}", "commit": git("rev-parse", "--short", "HEAD"),
                                 "machine": read_machine(), "python": platform.python_version()}
            kept["measurements"] = [one for one in kept["measurements"] if one["row"] != row] + measured
            if options.json:
                options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
