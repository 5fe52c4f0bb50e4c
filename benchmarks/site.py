"""How long the pages of many runs take to make, to bring up to date, and to open.

    .venv/bin/python benchmarks/site.py                     1,000 runs made from those of this repository, in a temporary folder
    .venv/bin/python benchmarks/site.py --runs 10000 --plain     without figures and notebooks of their own, for the table alone

Each run is a copy of one that is committed here, with an id, parameters, metrics, printed numbers and figures of its own: four
figures that no other run has, so nothing is saved by storing each figure once. Times are processor time of this one process and,
where it says so, wall time. Opening is measured in Chromium without a GPU, from the beginning of the navigation to the moment when
the table is there and the page answers; the median of several.
"""
import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

from site_records import ROOT, make_records

sys.path.insert(0, str(ROOT / "tests"))


def open_page(browser, link: str, rounds: int = 3) -> tuple[float, float]:
    """Seconds until the page is ready, and until a frame after it; the median of some rounds."""
    times = []
    for _ in range(rounds):
        browser.open("about:blank")
        time.sleep(0.3)
        start = time.perf_counter()
        browser.open(link)
        while not browser.ask("location.href !== 'about:blank' && document.readyState === 'complete' && (!document.getElementById('body') || document.documentElement.dataset.ready === '1')"):
            time.sleep(0.02)
        browser.ask("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        times.append(time.perf_counter() - start)
    return statistics.median(times), max(times)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--runs", type=int, default=1000)
    options.add_argument("--plain", action="store_true", help="empty notebooks")
    options.add_argument("--keep", type=Path, help="folder for records and pages; they stay")
    given = options.parse_args()

    from browser import CHROMIUM, Browser
    from ml_repo.site.builder import build_site
    from ml_repo.results.search import find_runs

    place = given.keep or Path(tempfile.mkdtemp())
    records, site = place / "records", place / "site"
    if not records.exists():
        make_records(records, given.runs, given.plain)
    find_runs(records=[records])  # the index is not what is measured

    def build(what: str) -> None:
        start, wall = time.process_time(), time.perf_counter()
        built = build_site(site, find_runs(records=[records]))
        print(f"{what:<24} {time.process_time() - start:7.2f} s processor  {time.perf_counter() - wall:7.2f} s wall   {built.made} made, {built.kept} as before", flush=True)

    shutil.rmtree(site, ignore_errors=True)
    build("all pages")
    build("once more, no change")
    make_records(records, 1, given.plain, first=900_000)
    build("one run more")
    more = sorted(records.glob("train-*"))[-1]
    sizes = [file.stat().st_size for file in site.rglob("*") if file.is_file()]
    print(f"{'size':<24} {sum(sizes) / 1e6:7.1f} MB in {len(sizes)} files; table: {(site / 'data' / 'runs.js').stat().st_size / 1e6:.2f} MB")
    if CHROMIUM:
        browser = Browser()
        try:
            run = min(path.stem for path in (site / "runs").glob("*.html"))
            for what, link in {"table of all runs": "index.html", "settings, seeds together": "index.html#seeds=1", "a run": f"runs/{run}.html"}.items():
                name, _, view = link.partition("#")
                median, worst = open_page(browser, f"{(site / name).as_uri()}#{view}")
                print(f"{f'opens: {what}':<32} {median:5.2f} s wall (worst {worst:.2f})")
        finally:
            browser.close()
    shutil.rmtree(place if not given.keep else more)


if __name__ == "__main__":
    main()
