"""`ml-repo check` finds what is planted in strangers' notebooks, leaves clean ones alone, and what its rules say of libraries is so."""
import warnings
from collections import Counter

import nbformat
import pytest
from check_notebooks import read_list
from strangers import STRANGERS

from ml_repo.notebook.checks import RULES, find_complaints

TRUE_OF_STRANGERS = Counter(names=5, exit=3)  # five use a name that is not there, three end by sys.exit or os._exit


def list_found(notebook: nbformat.NotebookNode) -> list[tuple[str, int, str]]:
    """Rule, cell and code of what is found in a notebook."""
    content = nbformat.convert(notebook, 4)
    return [(complaint.rule.name, complaint.found.cell, complaint.found.code) for complaint in find_complaints(content)]


def test_planted_causes_are_found_in_their_cell():
    lists = {name: [one for one in read_list(name) if one.rule] for name in ("planted", "fresh")}
    assert len(lists["planted"]) == 30 and {one.rule for part in lists.values() for one in part} == {rule.name for rule in RULES}
    missed = {name: [one.name for one in part if (one.rule, one.cell) not in [place[:2] for place in list_found(one.build())]]
              for name, part in lists.items()}
    assert missed == {"planted": [], "fresh": []}


def test_clean_notebooks_are_left_alone():
    clean = [one for name in ("clean", "fresh") for one in read_list(name) if not one.rule]
    assert len(clean) >= 30
    assert {one.name: found for one in clean if (found := list_found(one.build()))} == {}


def test_other_peoples_notebooks_give_no_false_alarm(tmp_path):
    found = Counter()
    for number, stranger in enumerate(STRANGERS.values()):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.update(complaint.rule.name for complaint in find_complaints(stranger.write(tmp_path / str(number))))
        except ValueError as error:
            assert "cannot be read as a notebook" in str(error) or "This is not a notebook" in str(error)
    assert found == TRUE_OF_STRANGERS
