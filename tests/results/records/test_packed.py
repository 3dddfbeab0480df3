"""Equal data alone give equal bytes: results about parts of records are kept by them."""

import itertools
import json
import math
import sys
from typing import Any

import pytest

from kd_bench.results.records.packed import packed, packed_cell, unpacked

DIFFERENT: list[Any] = [None, True, 1, 1.0, "1", [1], {"1": 1}, 0, 0.0, -0.0, False, "", [], {}, 2**70, float(2**70)]
DIFFERENT += [{"a": 1, "b": 2}, {"b": 2, "a": 1}, [[], []], [[[]]], "é", "e\u0301", 1e-300, math.inf]


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(DIFFERENT, 2)))
def test_different_data_have_different_bytes(one: Any, other: Any) -> None:
    assert packed(one) != packed(other)


@pytest.mark.parametrize("value", [*DIFFERENT, {"method": {"temperature": 4.0, "layers": [1, 2, None]}}, "\U0001f600"])
def test_unpacking_gives_the_data_back(value: Any) -> None:
    found = unpacked(packed(value))
    assert (type(found), repr(found)) == (type(value), repr(value))


def test_bytes_do_not_depend_on_who_else_holds_a_text() -> None:
    text = '{"name": "cosine", "again": "cosine", "list": ["cosine", NaN]}'
    one, other = json.loads(text), json.loads(text)
    other["again"] = other["list"][0] = sys.intern(other["name"])
    assert packed(one) == packed(other)


def test_a_cell_is_packed_without_its_seed() -> None:
    assert packed_cell({"seed": 3, "study": "a"}) == packed_cell({"seed": 4, "study": "a"})
    assert packed_cell({"seed": 3, "study": "a"}) != packed_cell({"seed": 3, "study": "b"})


@pytest.mark.parametrize("odd", [-1, 2**63, 1.0, True, "1", None])
def test_an_odd_seed_is_part_of_its_cell(odd: Any) -> None:
    assert unpacked(packed_cell({"seed": odd})) == {"seed": odd}
