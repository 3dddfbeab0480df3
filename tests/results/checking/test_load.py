import json

import pytest
from support.records import make_record, record_content, save, state_content

from kd_bench.errors import ConfigError
from kd_bench.results.checking.load import Collection, load


def test_finds_run_directories_and_published_records_at_any_depth(folder):
    save(record_content(seed=0), folder / "a" / "record.json")
    save(record_content(seed=1), folder / "shapes" / "wide--narrow" / "kd" / "seed1.json")
    save("not looked at", folder / "a" / "config.json")
    found = load(folder)
    assert {record.seed for record in found.records} == {0, 1}
    assert found.states == found.rejected == ()


def test_names_that_start_with_a_dot_are_not_looked_at(folder):
    save("{", folder / "a" / ".record.json.17.tmp")
    save("{", folder / "a" / ".seed0.json")
    save("{", folder / ".cache" / "record.json")
    assert load(folder) == Collection((), (), ())


@pytest.mark.parametrize("name", ["missing", "file"])
def test_a_directory_that_is_none_is_named(folder, name):
    save("", folder / "file")
    with pytest.raises(ConfigError, match=str(folder / name)) as raised:
        load(folder / name)
    assert raised.value.exit_code == 2


def test_an_identical_copy_counts_once(folder):
    content = record_content()
    save(content, folder / "runs" / "record.json")
    save(json.dumps(content, indent=4), folder / "published" / "seed0.json")
    found = load(folder)
    assert len(found.records) == 1
    assert found.rejected == ()


def test_different_records_of_one_run_id_are_all_rejected(folder):
    run_id = "0" * 16
    save(record_content(top1=0.7, run_id=run_id), folder / "a" / "record.json")
    save(record_content(top1=0.8, run_id=run_id), folder / "b" / "record.json")
    save(record_content(top1=0.8, run_id=run_id), folder / "c" / "record.json")
    found = load(folder)
    assert found.records == ()
    assert [item.path for item in found.rejected] == ["a/record.json", "b/record.json", "c/record.json"]
    assert found.rejected[0].reason == f"run id {run_id} is also that of another record: b/record.json, c/record.json"


def with_top1(value):
    content = record_content()
    content["metrics"]["last"]["test"]["top1"] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"schema_version": 1', "Invalid JSON"),
        ("", "Invalid JSON"),
        ("[]", "file"),
        (with_top1(float("nan")), "metrics.last.test.top1: Input should be a finite number"),
        (with_top1(float("inf")), "metrics.last.test.top1: Input should be a finite number"),
        (with_top1(1.7), "metrics.last.test.top1: Input should be less than or equal to 1"),
        (with_top1("0.7"), "metrics.last.test.top1: Input should be a valid number"),
        (with_top1(None), "metrics.last.test.top1"),
        (json.dumps({**record_content(), "rank": 1}), "rank: Extra inputs are not permitted"),
        (json.dumps({**record_content(), "schema_version": 1}), "schema_version"),
    ],
)
def test_what_is_no_record_is_rejected_with_the_reason(folder, text, reason):
    save(text, folder / "bad" / "record.json")
    save(record_content(), folder / "good" / "record.json")
    found = load(folder)
    assert len(found.records) == 1
    (rejected,) = found.rejected
    assert rejected.path == "bad/record.json"
    assert reason in rejected.reason
    assert str(folder) not in rejected.reason


def test_bytes_that_are_no_text_are_rejected(folder):
    (folder / "record.json").write_bytes(b"\xff\xfe\x00")
    (rejected,) = load(folder).rejected
    assert "cannot be read" in rejected.reason


def test_states_of_runs_without_a_record(folder):
    save(state_content("fitnet", "failed"), folder / "a" / "state.json")
    save(state_content("at", "diverged"), folder / "b" / "state.json")
    save(state_content("at", "oom", seed=1), folder / "c" / "state.json")
    save(state_content("kd", "preempted"), folder / "d" / "state.json")
    save(state_content("kd", "running", seed=1), folder / "e" / "state.json")
    found = load(folder)
    assert [state.state for state in found.states] == ["diverged", "oom", "failed", "preempted", "running"]
    assert (found.failed, found.unfinished) == (3, 2)


def test_the_state_beside_a_record_is_not_listed(folder):
    save(record_content(), folder / "a" / "record.json")
    save(state_content(state="completed"), folder / "a" / "state.json")
    assert load(folder).states == ()


def test_the_state_of_a_run_whose_record_was_published_is_not_listed(folder):
    content = record_content()
    save(content, folder / "published" / "seed0.json")
    save({**state_content(), "run_id": content["run_id"]}, folder / "a" / "state.json")
    assert load(folder).states == ()


def test_a_completed_run_without_a_record_says_so(folder):
    save(state_content(state="completed", cause=""), folder / "a" / "state.json")
    (state,) = load(folder).states
    assert state.cause == "completed, but its record is missing"


def test_a_damaged_state_is_rejected(folder):
    save("{", folder / "a" / "state.json")
    (rejected,) = load(folder).rejected
    assert rejected.path == "a/state.json"
    assert "is not a valid run state" in rejected.reason


def test_records_are_sorted_by_run_id(folder):
    records = [make_record(seed=seed) for seed in range(6)]
    for index, record in enumerate(records):
        save(record.model_dump_json(), folder / str(index) / "record.json")
    run_ids = [record.run_id for record in load(folder).records]
    assert run_ids == sorted(record.run_id for record in records)


@pytest.mark.parametrize(
    ("name", "beside"), [("evaluation.json", "record.json"), ("seed3.evaluation.json", "seed3.json")]
)
def test_a_supplement_without_its_record_is_rejected(folder, name, beside):
    save("{}", folder / "a" / name)
    save(record_content(), folder / "a" / ("seed4.json" if beside == "seed3.json" else "other.json"))
    (rejected,) = load(folder).rejected
    assert (rejected.path, rejected.reason) == (f"a/{name}", "there is no record beside it")
    save(record_content(), folder / "a" / beside)
    assert [item.reason.split(":")[0] for item in load(folder).rejected] == ["is not a valid evaluation"]
