"""A plan builds every network and every teacher's run once, and is what it would be for each point by itself."""

import pytest
from support.records import make_record, save, state_content

from kd_bench.config.check import check_resolved
from kd_bench.errors import ConfigError
from kd_bench.runs.lineage import completed, earlier_runs
from kd_bench.runs.studies import pairs, planning
from kd_bench.runs.studies.grid import compose_list
from kd_bench.runs.studies.pairs import Pairs, key_of
from kd_bench.runs.studies.planning import plan
from kd_bench.runs.studies.scheduling import Options, Scheduler
from kd_bench.training.pair import build

PAIR = ["teacher=resnet20_cifar", "student=resnet8_cifar", "trainer.threads=1", "logger=none"]
METHODS = ("kd", "simkd", "fitnet", "crd", "mean_teacher", "dml", "takd", "born_again", "scratch")


def points(tmp_path, *overrides):
    """One point for each of ``overrides``, whose runs go to a folder of the test."""
    shared = [*PAIR, f"paths.runs={tmp_path}"]
    return compose_list([(" ".join(each), [*shared, *each]) for each in overrides])


def test_every_run_waits_for_the_runs_that_it_would_have_by_itself(tmp_path):
    changed = ["recipe.epochs=2", "seed=1", "teacher.seed=3", "stage_pairs=[[0,1]]", "recipe=digits", "study=mine"]
    grid = points(tmp_path, *(["method=" + name] for name in METHODS), *(["method=kd", each] for each in changed))
    tasks = {task.key: task for task in plan(grid)}
    for point in grid:
        config = completed(point.cfg)
        runs = earlier_runs(point.cfg, config, build(config))
        expected = tuple(key_of(completed(cfg).recorded()) for cfg, _ in runs)
        assert tasks[key_of(config.recorded())].after == expected, point.label


def test_a_network_is_built_once(tmp_path, monkeypatch):
    made = []

    def counted(key, *arguments):
        made.append(key)
        return create(key, *arguments)

    create = pairs.create_tap
    monkeypatch.setattr(pairs, "create_tap", counted)
    grid = points(tmp_path, *(["method=simkd", f"recipe.optimizer.lr={rate}"] for rate in (0.1, 0.2, 0.3)))
    together = Pairs()
    assert len({id(together.checked(point.written).pair) for point in grid}) == 3
    assert sorted(made) == ["student", "teacher"]


def test_pairs_that_share_networks_keep_their_own_pairing(tmp_path):
    grid = points(tmp_path, ["stage_pairs=[[0,0]]"], ["stage_pairs=[[1,2]]"], ["stage_pairs=null"])
    together = Pairs()
    found = [together.checked(point.written).pair.student.stage_pairs for point in grid]
    assert found == [[(0, 0)], [(1, 2)], None]


def test_runs_that_differ_in_the_seed_are_checked_once_and_each_seed_by_itself(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(pairs, "check_resolved", lambda node: counted.append(node["seed"]) or check_resolved(node))
    grid = points(tmp_path, *([f"seed={seed}", "method.temperature=2"] for seed in (0, 1, 2, -1, "x", 2**63)))
    together = Pairs()
    for point in grid[:3]:
        alone = check_resolved(point.written.resolved())
        assert together.checked(point.written).config == alone
    assert counted == [0]
    for point in grid[3:]:
        with pytest.raises(ConfigError, match=r"^seed="):
            together.checked(point.written)


def test_a_step_is_measured_once_for_all_weights_and_temperatures(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(planning, "step_cost", lambda config, pair: measured.append(config.method) or {"seconds": 1.0})
    values = ["temperature=2", "temperature=8", "ce_weight=0.5", "ce_weight=0"]
    tasks = plan(points(tmp_path, *(["method=kd", "recipe.epochs=2", f"method.{each}"] for each in values)), True)
    assert len(measured) == 3  # the teacher, the method with both terms, and without one
    samples = 863  # of 1,797 digits: without 719 for the test and a fifth of the rest for validation
    assert {task.seconds for task in tasks if task.role == "student"} == {2 * -(-samples // 64) * 1.0}


@pytest.mark.parametrize(
    ("state", "leftover", "skipped"),
    [("completed", None, True), ("completed", f"checkpoint-1-00001-{'0' * 16}.ckpt", False), ("running", None, False)],
)
def test_a_finished_run_needs_no_process_unless_it_left_something(tmp_path, state, leftover, skipped):
    grid = points(tmp_path, ["method=scratch", "teacher=none"])
    (task,) = plan(grid)
    directory = tmp_path / task.run_id
    save(make_record("scratch", top1=0.75, run_id=task.run_id).model_dump_json(), directory / "record.json")
    save(state_content(state=state, run_id=task.run_id), directory / "state.json")
    if leftover:
        (directory / leftover).touch()
    (task,) = plan(grid)
    assert task.done
    assert task.top1 == (0.75 if skipped else None)


def test_the_scheduler_tells_of_finished_runs_and_starts_nothing(tmp_path, monkeypatch):
    (point,) = points(tmp_path, ["method=scratch", "teacher=none"])
    task = planning.Task("key", "label", point.written, "student", run_id="0" * 16, done=True, top1=0.75)
    monkeypatch.setattr(Scheduler, "_launch", lambda self, task: pytest.fail("a process was started"))
    heard = []
    outcomes = Scheduler([task], Options(), tmp_path, lambda *each: heard.append(each)).run()
    assert (outcomes["key"].state, outcomes["key"].top1) == ("completed", 0.75)
    assert heard == [(task, outcomes["key"])]
