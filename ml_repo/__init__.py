"""Machine-learning experiments from notebooks that anyone can run again."""
__version__ = "0.1.0"

from typing import TYPE_CHECKING, Any

from .core.aliases import SHORT_NAMES, install_flat_names, load_short_name
from .core.extras import explain_missing_packages

if TYPE_CHECKING:
    from .execution.launch import run_notebook
    from .results.diff import diff_runs
    from .results.search import find_runs, load_model
    from .results.seed_groups import compare_runs
    from .tracking.run import start_run
    from .verify.verify import verify_run

install_flat_names()
explain_missing_packages()


def __getattr__(name: str) -> Any:
    return load_short_name(name)


def __dir__() -> list[str]:
    return sorted([*globals(), *SHORT_NAMES])
