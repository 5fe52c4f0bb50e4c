"""What the scripts that benchmarks/table.py calls have in common: three options, and the list of measurements that they print and write."""
import argparse
import json
from pathlib import Path
from typing import Any


def make_parser(about: str, quick: str, ours: str) -> argparse.ArgumentParser:
    """Make the parser of a script's options; `quick` and `ours` say what these two leave out."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements into a file")
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--ours", action="store_true", help=ours)
    return parser


def keep(measured: list[dict[str, Any]], file: Path | None) -> None:
    """Print measurements, and write them into a file if there is to be one."""
    for one in measured:
        print(f"{one['what']:<56}{one['program']:<12}{one['value']:>10.3f} {one['unit']}")
    if file:
        file.write_text(json.dumps(measured))
