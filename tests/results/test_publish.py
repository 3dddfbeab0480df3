"""Publishing: short records, one table of learning curves for the study, and the very boards of the complete ones."""

import json
from pathlib import Path

import pytest
from support.records import measured_content, record_content, save

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.publish import publish
from kd_bench.results.records.curves import read_table
from kd_bench.results.write import write_leaderboard

TABLE = "curves-mine.csv.gz"


def content(method: str = "kd", seed: int = 0, top1: float = 0.75, study: str = "mine", **kwargs) -> dict:
    change = 0.001 * (seed % 10)
    return measured_content(record_content(method, seed, top1 + change, **kwargs), change) | {"study": study}


def store(runs: Path, *contents: dict) -> None:
    for each in contents:
        save(each, runs / each["run_id"] / "record.json")


@pytest.fixture
def runs(tmp_path) -> Path:
    """A study of two methods with a teacher's record, and a run of another study."""
    store(tmp_path / "runs", *(content(method, seed) for method in ("kd", "at") for seed in range(5)))
    store(tmp_path / "runs", content("scratch", 1000, 0.8, role="teacher", student="wide", teacher=None))
    store(tmp_path / "runs", content("dkd", study="another"))
    return tmp_path / "runs"


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_boards_and_pages_of_published_records_are_those_of_the_complete_ones(runs, tmp_path):
    copied, summary = publish("mine", runs, tmp_path / "results")
    assert (copied, summary.records, summary.rejected) == (11, 11, 0)
    for path in runs.glob("*/record.json"):
        if json.loads(path.read_text())["study"] == "another":
            path.unlink()
    write_leaderboard(runs, tmp_path / "complete")
    write_leaderboard(tmp_path / "results" / "records", tmp_path / "short")
    published, complete = files(tmp_path / "short"), files(tmp_path / "complete")
    assert published == complete
    kept = {name: data for name, data in files(tmp_path / "results").items() if not name.startswith("records/")}
    assert kept == {name: complete[name] for name in ("leaderboard.md", "leaderboard.csv", "exemplars.csv")}
    assert len([name for name in published if name.startswith("run-pages/")]) == 11
    assert b"Learning curves" in published[f"run-pages/{content()['run_id']}.html"]


def test_publishing_again_gives_the_same_bytes(runs, tmp_path):
    publish("mine", runs, tmp_path / "results")
    first = files(tmp_path / "results")
    publish("mine", runs, tmp_path / "results")
    assert files(tmp_path / "results") == first
    assert not any(b'"host"' in data for name, data in first.items() if name.startswith("records/"))


def test_the_table_grows_with_the_study_and_forgets_runs_that_were_replaced(runs, tmp_path):
    publish("mine", runs, tmp_path / "results")
    table = tmp_path / "results" / "records" / TABLE
    before = read_table(table)
    added, replacing = content(seed=5), content(seed=4, options={"temperature": 2})
    store(tmp_path / "later", added, replacing)
    publish("mine", tmp_path / "later", tmp_path / "results")
    after = read_table(table)
    gone = content(seed=4)["run_id"]
    assert after.keys() == (before.keys() - {gone}) | {added["run_id"], replacing["run_id"]}
    assert all(after[run_id] == before[run_id] for run_id in before.keys() & after.keys())
    assert write_leaderboard(tmp_path / "results" / "records", tmp_path / "out").rejected == 0


def test_each_study_has_its_table(runs, tmp_path):
    publish("mine", runs, tmp_path / "results")
    publish("another", runs, tmp_path / "results")
    names = {path.name for path in (tmp_path / "results" / "records").iterdir() if path.is_file()}
    assert names == {TABLE, "curves-another.csv.gz"}


def test_a_study_without_curves_has_no_table(tmp_path):
    store(tmp_path / "runs", record_content() | {"study": "mine"})
    publish("mine", tmp_path / "runs", tmp_path / "results")
    assert not list((tmp_path / "results" / "records").glob("curves-*"))


def test_a_damaged_table_is_not_written_over(runs, tmp_path):
    publish("mine", runs, tmp_path / "results")
    table = tmp_path / "results" / "records" / TABLE
    table.write_bytes(table.read_bytes()[:100])
    before = files(tmp_path / "results")
    with pytest.raises(IntegrityError, match=rf"{TABLE} is damaged: .*; delete it and publish all"):
        publish("mine", runs, tmp_path / "results")
    assert files(tmp_path / "results") == before


def test_two_runs_that_would_be_one_file_are_refused(runs, tmp_path):
    store(runs, content(options={"temperature": 2}))
    with pytest.raises(ConfigError, match=r"kd/seed0\.json; tell variants apart by names\.method"):
        publish("mine", runs, tmp_path / "results")
    assert not (tmp_path / "results").exists()
