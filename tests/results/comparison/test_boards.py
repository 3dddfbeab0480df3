"""One claim, one source: what a board says of two methods, ``compare`` says as well."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from support.records import make_record, seeds_of

from kd_bench.results.checking.load import Collection, load
from kd_bench.results.comparison.measures import compare_all
from kd_bench.results.comparison.sides import couples, find_side
from kd_bench.results.comparison.text import as_text
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import build
from kd_bench.results.records.record import Record

PUBLISHED = Path(__file__).parents[3] / "results" / "records"


def random_records(number: int, **setting: object) -> list[Record]:
    """Methods of 1 to 6 seeds, some without a spread against others, some far better, in two configurations."""
    random = np.random.default_rng(number)
    seeds = 0.01 * random.normal(size=6)
    records = []
    for index in range(7):
        name = ("scratch", "kd", "kd", "dkd", "at", "rkd", "sp")[index]
        options = {"temperature": 1.0} if index == 2 else None
        own = random.choice([0.0, 0.004, 0.02]) * random.normal(size=6)
        values = np.round(np.clip(0.7 + 0.02 * index + seeds + own, 0, 1), 3)
        chosen = sorted(random.permutation(6)[: random.integers(1, 7)].tolist())
        teacher = {"teacher": None} if name == "scratch" else {}
        records += [make_record(name, seed, values[seed], options=options, **setting, **teacher) for seed in chosen]
    return records


def collections() -> list[Collection]:
    synthetic = [random_records(number) for number in range(4)]
    synthetic.append([*random_records(5), *random_records(6, student="thin")])
    return [*(Collection(tuple(records), (), ()) for records in synthetic), load(PUBLISHED)]


def claims_of(board: Board, first: int, second: int) -> tuple[object, ...]:
    """What a board claims of its second row against the first."""
    rows = board.rows[first], board.rows[second]
    if rows[0].rank is None or rows[1].rank is None:
        return None, None, None, "none"
    found = board.family.compare(rows[1].entry.key, rows[0].entry.key)
    return found.low, found.high, found.p_value, found.claim if found.claim != "not separated" else "none"


@pytest.mark.parametrize("collection", collections(), ids=lambda collection: str(len(collection.records)))
def test_boards_and_compare_agree_on_every_pair(collection):
    checked = 0
    for board in build(collection).boards:
        for first, second in permutations(range(len(board.rows)), 2):
            rows = board.rows[first], board.rows[second]
            if not rows[0].entry.scores.keys() & rows[1].entry.scores.keys():
                continue
            sides = [find_side(row.entry.label, collection) for row in rows]
            (found,) = compare_all(couples(*sides, board.pair, collection.records), {})
            low, high, p_value, claim = claims_of(board, first, second)
            assert (found.claim if found.claim in ("better", "worse") else "none") == claim
            if ranked := None not in (rows[0].rank, rows[1].rank):
                assert (found.difference.low, found.difference.high, found.p_value) == (low, high, p_value)
                assert found.board_methods == len(board.family.names)
            if ranked and claim == "none":
                assert max(row.rank[0] for row in rows) <= min(row.rank[1] for row in rows)
            checked += 1
    assert checked >= 12


def test_every_kind_of_claim_was_among_them():
    claims = set()
    for collection in collections():
        for board in build(collection).boards:
            claims |= {claims_of(board, *pair)[3] for pair in permutations(range(len(board.rows)), 2)}
    assert claims == {"better", "worse", "none"}


def test_what_a_pair_shows_alone_it_need_not_show_among_many():
    first = (0.80, 0.81, 0.82, 0.83, 0.84)
    other = [value - gap for value, gap in zip(first, (0.0105, 0.0035, 0.0165, 0.0035, 0.0185), strict=True)]
    pair = [*seeds_of("a", first), *seeds_of("b", other)]
    for others, claim, methods in (([], "better", 2), (seeds_of("c", other), "not told apart", 3)):
        collection = Collection((*pair, *others), (), ())
        sides = find_side("b", collection), find_side("a", collection)
        (found,) = compare_all(couples(*sides, None, collection.records), {})
        assert (found.claim, found.board_methods) == (claim, methods)
        assert f"(simultaneous over the {methods} methods of the board)" in as_text(found)


def test_scratch_without_a_teacher_is_compared_on_the_board_of_the_pair():
    collection = Collection(
        (*seeds_of("scratch", (0.70, 0.71, 0.72), teacher=None), *seeds_of("kd", (0.75, 0.77, 0.76))), (), ()
    )
    sides = find_side("scratch", collection), find_side("kd", collection)
    (found,) = compare_all(couples(*sides, None, collection.records), {})
    assert (found.title, found.claim) == ("shapes wide--narrow", "better")
