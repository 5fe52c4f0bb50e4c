"""The first index of a folder of records: all of them are read, once.

    .venv/bin/python benchmarks/first_index.py                   10,000 and 100,000 records, made once and kept
    .venv/bin/python benchmarks/first_index.py --quick           1,000 records

`many_runs.py` makes the records. A new process asks for the newest 20 runs where there is no index; its own imports do not count.
Peers have no such step: their store is their only copy of the runs. `benchmarks/table.py` says what is written into the file of --json.
"""
import subprocess
import sys

from many_runs import make_records
from measurements import keep, make_parser
from peers import KEEP

PROGRAM = """import sys, time
from ml_repo.results.search import find_runs
since = time.perf_counter(), time.process_time()
assert len(find_runs(limit=20, records=[sys.argv[1]])) == 20
print(time.perf_counter() - since[0], time.process_time() - since[1])
"""


def measure(count: int) -> list[dict]:
    """Make an index of `count` records."""
    records = make_records(KEEP, count)
    for file in records.glob(".index.sqlite*"):
        file.unlink()
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(records)], check=True, text=True, stdout=subprocess.PIPE)
    row = {"row": "index", "what": f"{count:,} records", "program": "ml_repo", "version": "this tree"}
    times = zip(("", ", processor"), ("s", "processor s"), map(float, done.stdout.split()))
    return [row | {"what": row["what"] + end, "value": value, "unit": unit} for end, unit, value in times]


def main() -> None:
    parser = make_parser(__doc__, "1,000 records", "the same; there is no peer")
    parser.add_argument("--runs", type=int, nargs="+", metavar="N", help="how many records (default 10000 100000)")
    options = parser.parse_args()
    rows = [row for count in options.runs or ([1000] if options.quick else [10_000, 100_000]) for row in measure(count)]
    keep(rows, options.json)


if __name__ == "__main__":
    main()
