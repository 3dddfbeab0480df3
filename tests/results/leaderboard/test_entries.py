"""Which records make one row."""

import json
from typing import Any

from support.records import record_content

from kd_bench.results.checking.load import Collection
from kd_bench.results.leaderboard.building import build
from kd_bench.results.leaderboard.entries import build_entries
from kd_bench.results.records.record import Record


def by_plugin(seed: int, **plugins: str) -> Record:
    content: dict[str, Any] = record_content("mine", seed)
    content["config"]["plugins"] = ["their_kd"]
    content["code"]["plugins"] = plugins
    return Record.model_validate_json(json.dumps(content))


def rows(records: list[Record]) -> dict[str, list[int]]:
    return {entry.label: [run.seed for run in entry.runs] for entry in build_entries(records)}


def test_plugins_of_one_name_and_other_sources_share_no_row():
    first, second = "a" * 64, "b" * 64
    records = [by_plugin(0, their_kd=first), by_plugin(1, their_kd=first), by_plugin(2, their_kd=second)]
    assert rows(records) == {
        f"mine [plugins.their_kd={'a' * 16}]": [0, 1],
        f"mine [plugins.their_kd={'b' * 16}]": [2],
    }


def test_a_record_without_the_hash_of_its_plugin_is_no_seed_of_one_with_it():
    """Nothing says that the source was the same."""
    records = [by_plugin(0), by_plugin(1), by_plugin(2, their_kd="a" * 64)]
    assert rows(records) == {"mine [plugins.their_kd=unset]": [0, 1], f"mine [plugins.their_kd={'a' * 16}]": [2]}


def test_rows_of_one_source_are_named_as_before():
    assert rows([by_plugin(0, their_kd="a" * 64), by_plugin(1, their_kd="a" * 64)]) == {"mine": [0, 1]}


def test_boards_have_the_rows_of_each_source():
    records = tuple(by_plugin(seed, their_kd=letter * 64) for letter in "ab" for seed in range(3))
    (board,) = build(Collection(records, (), ())).boards
    assert sorted(row.entry.label for row in board.rows) == [f"mine [plugins.their_kd={each * 16}]" for each in "ab"]
