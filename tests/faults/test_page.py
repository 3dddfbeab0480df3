"""docs/reliability.md is made from the table and the figures, which name only tests that exist."""

import ast
import json
from collections import Counter
from functools import cache

import pytest

from .page import FIGURES, PAGE, ROOT, measured, named_tests, page, table

COUNTS = {"C": 10, "D": 8, "K": 8, "P": 8, "X": 4, "E": 3, "U": 5, "S": 4}


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run: .venv/bin/python tests/faults/page.py"


def test_all_faults_and_nine_promises_are_there():
    rows = table()
    assert [*rows["promises"]] == [f"R{number}" for number in range(1, 10)]
    faults = [name for group in rows["faults"].values() for name in group]
    counts = Counter(name[0] for name in faults)
    assert faults == [f"{kind}{number}" for kind, count in counts.items() for number in range(1, count + 1)]
    assert all(counts[kind] >= count for kind, count in COUNTS.items()), "a fault is no longer there"


@cache
def functions(path: str) -> set[str]:
    file = ROOT / path
    nodes = ast.walk(ast.parse(file.read_text())) if file.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("row", "test"), list(named_tests()))
def test_a_test_that_is_named_exists(row, test):
    path, _, name = test.partition("::")
    assert name in functions(path)


def test_every_figure_is_of_a_test_that_its_promise_names():
    promises = table()["promises"]
    for test, figure in json.loads(FIGURES.read_text()).items():
        name = test.partition("[")[0]
        path, _, function = name.partition("::")
        assert function in functions(path)
        assert name in promises[figure["promise"]]["tests"]


def test_figures_are_summarised_over_the_tests_of_a_promise():
    figures = [
        {"promise": "R1", "numbers": {"kills": 200, "seconds lost": "-0.5, 2.8", "whole": True}},
        {"promise": "R1", "numbers": {"kills": 50, "seconds lost": "3.2, 0.7", "whole": False}},
        {"promise": "R2", "numbers": {"kills": 7}},
    ]
    text = "{sum kills} kills, {max kills} at once; {max seconds lost} s; {sum whole} of {count whole} whole"
    assert measured(text, "R1", figures) == "250 kills, 200 at once; 3.2 s; 1 of 2 whole"
    with pytest.raises(LookupError, match="R2 has no figure 'seconds lost'"):
        measured("{max seconds lost}", "R2", figures)
