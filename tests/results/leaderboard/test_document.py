"""The JSON: valid by its schema, equal to the rows, harmless whatever the names are."""

import json

import jsonschema
import pytest
from support.records import seeds_of

from kd_bench.results.leaderboard.document import SCHEMA_FILE, json_text, schema_text

from .test_text import HOSTILE, KD, SCRATCH, hostile_leaderboard, leaderboard_of


def test_the_published_schema_is_that_of_the_code():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text()


def test_numbers_are_those_of_the_rows():
    leaderboard = leaderboard_of(seeds_of("scratch", SCRATCH), seeds_of("kd", KD), seeds_of("once", (0.9,)))
    document = json.loads(json_text(leaderboard))
    jsonschema.validate(document, json.loads(schema_text()))
    kd, _, once = document["boards"][0]["rows"]
    row = leaderboard.boards[0].rows[0]
    assert kd["test_top1"] == {"mean": row.top1.mean, "low": row.top1.low, "high": row.top1.high, "n": 5}
    assert kd["significantly_best"] is True
    assert kd["rank"] == [1, 1]
    assert kd["metrics"]["parameters"]["mean"] == 1500
    assert kd["noise_floors"] == {"ece": 0.01}
    assert kd["runs"][1] == {"run_id": row.entry.runs[1].run_id, "seed": 1, "test_top1": 0.74}
    assert (once["rank"], once["test_top1"]["low"], once["evidence"]) == (None, None, "single run")
    assert "brier" not in kd["metrics"]
    assert document["metrics"]["brier"]["lower_is_better"] is True


@pytest.mark.parametrize("leaderboard", [hostile_leaderboard(), leaderboard_of()])
def test_hostile_and_empty_boards_are_valid(leaderboard):
    document = json.loads(json_text(leaderboard))
    jsonschema.validate(document, json.loads(schema_text()))
    names = {row["method"] for board in document["boards"] for row in board["rows"]}
    assert names == (set(HOSTILE) if document["boards"] else set())
