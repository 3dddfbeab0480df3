"""Many records: what is let go of, shared or computed once changes no output."""

import json

import pytest
from support.records import measured_content, record_content, save

from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.errors import ConfigError
from kd_bench.results import write
from kd_bench.results.checking.configuration import config_problems, expected_run_id
from kd_bench.results.checking.load import load
from kd_bench.results.records import command
from kd_bench.results.records.compact import Shared
from kd_bench.results.records.fingerprint import fingerprint
from kd_bench.results.records.record import Record


@pytest.fixture
def folder(tmp_path):
    """Records with classes, exemplars and a full evaluation; a true copy, a false one, one that is damaged."""
    path = tmp_path / "records"
    for method in ("scratch", "kd", "fitnet"):
        for seed in range(3):
            content = measured_content(record_content(method, seed, 0.7 + 0.01 * seed))
            save(content, path / content["run_id"] / "record.json")
    save(content, path / "copy" / "record.json")
    other = record_content("at", 0, 0.71)
    save(other, path / "one" / "record.json")
    save({**other, "recipe": "other"}, path / "two" / "record.json")
    save("{", path / "damaged" / "record.json")
    return path


def outputs(folder, out, monkeypatch, most):
    monkeypatch.setattr(write, "MOST_RUN_PAGES", most)
    write.write_leaderboard(folder, out)
    return {path.name: path.read_bytes() for path in out.iterdir() if path.suffix in (".md", ".csv", ".json", ".tex")}


def test_boards_of_what_is_kept_are_those_of_whole_records(folder, tmp_path, monkeypatch):
    whole = outputs(folder, tmp_path / "whole", monkeypatch, 500)
    assert outputs(folder, tmp_path / "kept", monkeypatch, 3) == whole
    assert len(whole["leaderboard.csv"].splitlines()) == 4  # a header and three methods
    assert len(whole["exemplars.csv"].splitlines()) > 1


def test_histories_are_kept_where_pages_of_runs_need_them(folder):
    assert load(folder).records[0].history
    assert load(folder, 9).records[0].history  # 13 files, of which copies and damaged ones leave nine
    assert len(load(folder, 9).records) == 9
    assert not load(folder, 8).records[0].history
    for most in (8, 9, 100):
        assert load(folder, most).rejected == load(folder).rejected


def test_equal_parts_of_records_are_one_object():
    shared = Shared()
    first, second = (
        shared.for_boards(Record.model_validate_json(json.dumps(record_content("kd", seed, 0.7)))) for seed in (0, 1)
    )
    assert first.dataset is second.dataset
    assert first.config["method"] is second.config["method"]
    assert (first.seed, second.seed) == (0, 1)


def recorded(*overrides, **changes):
    config = check(compose_run(["teacher=wrn_16_2_cifar", *overrides])).recorded()
    content = json.loads(json.dumps(record_content("kd", 0, 0.7))) | {"config": config, "overrides": list(overrides)}
    return Record.model_validate_json(json.dumps(content | changes))


@pytest.mark.parametrize("seed", [0, 1, 2**53, 2**53 + 1, 2**63 - 1])
def test_the_seeds_of_a_cell_have_run_ids_of_their_own(seed):
    record = recorded(f"seed={seed}")
    assert config_problems(record) == []
    config = check(compose_run(["teacher=wrn_16_2_cifar", f"seed={seed}"]))
    weights = [[record.teacher.weights_sha256], []]
    assert expected_run_id(record, {}.get) == fingerprint(config, record.dataset.content_sha256, weights, 0)


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "1", None])
def test_a_seed_that_is_none_is_found(seed):
    record = recorded()
    config = {**record.config, "seed": seed}
    (problem,) = config_problems(record.model_copy(update={"config": config}))
    assert problem.startswith("config.seed: ")


OVERRIDES = ["names.method=other", "trainer.threads=2", "recipe.epochs=7", "method=kd", "method.temperature=2.5"]


@pytest.mark.parametrize("missing", [None, *OVERRIDES])
@pytest.mark.parametrize("changed", [None, "recipe.batch_size=32", "+student.kwargs.depth=2", "recipe.epochs=9"])
def test_cells_composed_together_differ_as_each_by_itself(missing, changed):
    config = check(compose_run([*OVERRIDES, *([changed] if changed and changed[0] != "+" else [])])).recorded()
    record = recorded().model_copy(
        update={"config": config, "overrides": [each for each in OVERRIDES if each != missing]}
    )
    alone = command._differing(tuple(record.overrides), json.dumps({**config, "seed": 0}))
    assert command.differing(record) == list(alone)


def test_only_values_that_nothing_depends_on_are_free():
    free = command._free(("dataset=digits", "method=kd", "recipe=digits"))
    assert {"names.method", "trainer.threads", "method.temperature"} <= free.keys()
    assert not {"recipe.epochs", "recipe.scheduler.T_max", "paths.data"} & free.keys()
    with pytest.raises(ConfigError):
        command._free(("method=none_such",))
