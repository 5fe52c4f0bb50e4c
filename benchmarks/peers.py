"""The programs that the benchmarks compare with: pinned in peers.txt, each in a virtual environment of its own, made once."""
import os
import subprocess
import sys
from pathlib import Path

PINNED = {line.partition("==")[0]: line for line in (Path(__file__).with_name("peers.txt")).read_text().split("\n") if "==" in line}
KEEP = Path(os.environ.get("ML_REPO_BENCHMARKS") or "~/.cache/ml_repo-benchmark").expanduser()  # what is made once and kept


def make_environment(name: str, keep: Path = KEEP) -> Path:
    "Install a peer, where it is not yet; returns the folder of its programs."
    folder = keep / PINNED[name].replace("==", "-")
    if not (folder / "installed").exists():
        print(f"installing {PINNED[name]}", file=sys.stderr)
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([sys.executable, "-m", "venv", "--clear", *(["--without-pip"] if uv.exists() else []), str(folder)], check=True)
        python = str(folder / "bin" / "python")
        install = [str(uv), "pip", "install", "--quiet", "--compile-bytecode", "--python", python] if uv.exists() else [python, "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, PINNED[name]], check=True)
        (folder / "installed").touch()
    return folder / "bin"
