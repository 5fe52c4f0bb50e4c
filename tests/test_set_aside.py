"""What a verdict sets aside is what the code measures or draws, and it is listed; results that look alike are not."""
import pytest
from conftest import checked
from test_record import commit, make_repository, write_notebook

from ml_repo.records.reader import find_records, read_record
from ml_repo.verify.report import judge_runs
from ml_repo.verify.verify import verify_run

CELLS = [  # source, verdict, a part of what is set aside
    ("import datetime, random, time\nimport numpy as np\nstart = time.time()", None, ""),
    ("print(f'estimated bandwidth {np.random.default_rng().uniform(1, 9):.6f} GB/s')", "differs", ""),
    ("print('demand is highest on', datetime.date(2026, 3, 1) + datetime.timedelta(days=random.randrange(10**5)))", "differs", ""),
    ("print('next sale on', datetime.date.today() + datetime.timedelta(days=random.randrange(10**5)))", "differs", ""),
    ("print(f'mean waiting time {random.uniform(1, 9):.6f} s')\ntime.time()\nNone", "differs", ""),
    ("print(f'read {9 / (time.time() - start):.9f} GB/s')", "identical", "times `"),
    ("print('made at', datetime.datetime.now())", "identical", "dates `"),
    ("%timeit -n 2 -r 2 sum(range(9))", "identical", "times `"),
    ("import matplotlib\nmatplotlib.use('agg')\nimport matplotlib.pyplot as plt\nfrom matplotlib.animation import FuncAnimation\nfrom IPython.display import HTML\n"
     "figure, axes = plt.subplots(figsize=(1, 1))\nline, = axes.plot([0, 1])\nHTML(FuncAnimation(figure, lambda k: [line], frames=2).to_jshtml())", "identical", "identifiers `"),
    ("from uuid import uuid4\nHTML(f'<p>drawn: {uuid4().hex}</p>')", "cannot be judged", "identifiers `"),
]


@pytest.fixture(scope="module")
def verification(tmp_path_factory):
    """A notebook with all of these cells, run and verified."""
    repository = make_repository(tmp_path_factory.mktemp("aside") / "repository")
    write_notebook(repository / "a.ipynb", "x: int = 1  # no meaning, above 0", *(source for source, *_ in CELLS))
    commit(repository)
    checked("ml-repo", "run", "a.ipynb", "--quiet", cwd=repository)
    return verify_run(find_records(repository / "experiments")[0], keep=False)


@pytest.mark.parametrize(("number", "source", "verdict", "aside"), [(number, *cell) for number, cell in enumerate(CELLS, 2)],
                         ids=lambda value: str(value)[:30])
def test_only_what_the_code_measures_or_draws_is_set_aside(verification, number, source, verdict, aside):
    items = {item.name: item for item in verification.items}
    item = items.get(f"cell {number}")
    assert (item and item.verdict) == verdict, item
    assert any(aside in text for text in item.aside) if aside else not (item and item.aside)
    assert any(f"Set aside in cell {number}: {aside}" in note for note in verification.notes) or not aside
