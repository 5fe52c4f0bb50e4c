"""Run the training notebook headless, and keep its record.

    python train.py -p lr 0.01 --note "a larger step"
    docker run --gpus all -v ${PWD}:/tmp example_ml python /tmp/train.py -p lr 0.01

The options are those of `ml-repo run`; `python train.py --help` lists them.
"""
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))

try:
    import click

    from ml_repo.cli.run import run
except ImportError as error:
    sys.exit(f"{error}. The packages of this repository are in .venv (`make train` makes it; then: .venv/bin/python train.py) and in its image.")


@click.command(params=[one for one in run.params if one.name != "notebook"])
@click.pass_context
def train(context: click.Context, **options: Any) -> None:
    """Run nbs/train.ipynb and keep its record.

    \b
    Example:
      python train.py -p lr 0.01 -p epochs 5 --note "a smaller step"
    """
    if options["file"]:
        options["file"] = options["file"].resolve()
    os.chdir(ROOT)
    try:
        context.invoke(run, notebook=Path("nbs/train.ipynb"), **options)
    except (ValueError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    train()
