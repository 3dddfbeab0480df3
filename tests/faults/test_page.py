"""docs/reliability.md is what the table and the figures say, and names no test that does not exist."""

import ast
import json
from functools import cache

import pytest

from .page import FIGURES, PAGE, ROOT, named_tests, page, table

COUNTS = {"C": 10, "D": 8, "K": 8, "P": 8, "X": 4, "E": 3, "U": 5, "S": 4}


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == page(), "run: .venv/bin/python tests/faults/page.py"


def test_all_fifty_faults_and_nine_promises_are_there():
    rows = table()
    assert [*rows["promises"]] == [f"R{number}" for number in range(1, 10)]
    faults = [name for group in rows["faults"].values() for name in group]
    assert faults == [f"{kind}{number}" for kind, count in COUNTS.items() for number in range(1, count + 1)]
    assert len(faults) == 50


@cache
def functions(path: str) -> set[str]:
    file = ROOT / path
    nodes = ast.walk(ast.parse(file.read_text())) if file.is_file() else ()
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("row", "test"), list(named_tests()))
def test_a_test_that_is_named_exists(row, test):
    path, _, name = test.partition("::")
    assert name in functions(path)


def test_every_figure_is_of_a_test_that_exists():
    for test in json.loads(FIGURES.read_text()):
        path, _, name = test.partition("[")[0].partition("::")
        assert name in functions(path)
