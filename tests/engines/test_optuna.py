"""Searches with Optuna: the best trial is the best on validation data, and every record says the budget."""

import json
import os
import shlex
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from engines.commands import FAST, Command, lines_of, needs, records, wait_for
from kd_bench.results.records.command import command
from kd_bench.results.records.record import RECORD_FILE

pytestmark = [pytest.mark.slow, needs("optuna", "hydra-optuna-sweeper")]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SPACE = "tag(log, interval(0.01, 0.5))"
SEARCH = [*FAST, "recipe.epochs=2", "tuning=optuna", f"tuning.space={{recipe.optimizer.lr: '{SPACE}'}}"]
FOUR = [*SEARCH, "tuning.trials=4"]


def outcomes(folder: Path) -> list[dict[str, Any]]:
    """What the trials of the last search in ``folder`` left, in their order."""
    last = max(folder.glob("runs/sweeps/*"), key=lambda path: path.name)
    files = sorted(last.glob("job-*.json"), key=lambda path: int(path.stem.removeprefix("job-")))
    return [json.loads(path.read_text()) for path in files]


def searched(folder: Path, *arguments: str) -> str:
    code, output = Command(folder, [*arguments], ENVIRONMENT).end()
    assert (code, lines_of(output)) == (0, []), output
    return output


def kill_in_the_second_trial(search: Command, folder: Path) -> None:
    """Once it has saved an epoch."""
    wait_for(lambda: len(records(folder)) == 1)
    (first,) = [path.parent for path in folder.glob(f"runs/*/{RECORD_FILE}")]
    wait_for(lambda: [path for path in folder.glob("runs/*/checkpoint-1-*") if path.parent != first])
    search.process.send_signal(signal.SIGKILL)
    assert search.end()[0] == -signal.SIGKILL


@pytest.fixture(scope="module")
def search(tmp_path_factory) -> tuple[Path, str, list[dict[str, Any]]]:
    """A search of four trials: where, what it printed and what its trials left."""
    folder = tmp_path_factory.mktemp("search")
    output = searched(folder, *FOUR)
    return folder, output, outcomes(folder)


def test_the_best_trial_has_the_best_validation_accuracy(search):
    folder, output, trials = search
    found = {record.run_id: record for record in records(folder)}
    assert len({trial["run_id"] for trial in trials}) == len(found) == 4
    for trial in trials:
        record = found[trial["run_id"]]
        assert trial["validation_top1"] == record.metrics.last.validation.top1
        assert trial["point"] == f"recipe.optimizer.lr={record.config['recipe']['optimizer']['lr']}"
    best = max(trials, key=lambda trial: trial["validation_top1"])
    (result,) = folder.glob("runs/sweeps/*/optimization_results.yaml")
    written = yaml.safe_load(result.read_text())
    assert written["best_value"] == best["validation_top1"]
    assert f"recipe.optimizer.lr={written['best_params']['recipe.optimizer.lr']}" == best["point"]
    line = f"best validation top-1 {100 * best['validation_top1']:.2f} %: {best['point']} (trials: "
    assert [shown for shown in output.splitlines() if shown.startswith(line)]


def test_every_record_says_the_budget_and_the_space(search):
    folder, _, _ = search
    assert [record.config["tuning"] for record in records(folder)] == 4 * [
        {"trials": 4, "space": {"recipe.optimizer.lr": SPACE}}
    ]


def test_the_winner_is_tested_over_seeds_under_the_same_budget(search):
    """With the seed of the search it is the trial itself."""
    folder, _, trials = search
    best = max(trials, key=lambda trial: trial["validation_top1"])
    given = [f"tuning.space={{recipe.optimizer.lr: '{SPACE}'}}", "tuning.trials=4", best["point"], "seed=0,1"]
    searched(folder, "-m", *FAST, "recipe.epochs=2", *given)
    assert {(record.seed, record.config["tuning"]["trials"]) for record in records(folder)} == {(0, 4), (1, 4)}
    assert len(records(folder)) == 5


def test_a_trial_can_be_made_again_from_its_record(search, tmp_path):
    folder, _, _ = search
    first = records(folder)[0]
    arguments = shlex.split(command(first))[2:]
    searched(tmp_path, *arguments, "logger=none")
    (again,) = records(tmp_path)
    assert (again.run_id, again.student.weights_sha256) == (first.run_id, first.student.weights_sha256)


def test_a_killed_search_goes_on_where_it_was(search, tmp_path):
    """The sampler's seed makes the same trials; those that are finished are read."""
    _, _, trials = search
    long = [*SEARCH, "tuning.trials=3", "recipe.epochs=20"]
    first = Command(tmp_path, long, ENVIRONMENT)
    kill_in_the_second_trial(first, tmp_path)
    searched(tmp_path, *long)
    assert sorted(record.times.resumed for record in records(tmp_path)) == [0, 0, 1]
    assert [trial["point"] for trial in outcomes(tmp_path)] == [trial["point"] for trial in trials[:3]]


def test_a_trial_that_diverges_is_a_bad_trial_and_not_the_end(tmp_path):
    space = "tuning.space={recipe.optimizer.lr: 'choice(0.05, 1e6)'}"
    arguments = [*FAST, "recipe.epochs=1", "tuning=optuna", "tuning.trials=4", space]
    code, output = Command(tmp_path, arguments, ENVIRONMENT).end()
    assert code == 5, output
    trials = outcomes(tmp_path)
    failed = [trial for trial in trials if trial["failure"]]
    assert (len(trials), {trial["point"] for trial in failed}) == (4, {"recipe.optimizer.lr=1000000.0"})
    (line,) = lines_of(output)
    assert line.startswith(f"kd-bench: {len(failed)} of 4 jobs failed: loss term ce is not finite")
    assert "%: recipe.optimizer.lr=0.05 (trials: " in output


@pytest.mark.parametrize("launcher", [pytest.param("joblib", marks=needs("joblib", "hydra-joblib-launcher"))])
def test_trials_run_at_a_time_on_a_launcher(tmp_path, launcher):
    at_a_time = [f"hydra/launcher={launcher}", "hydra.sweeper.n_jobs=2"]
    searched(tmp_path, *FOUR, *at_a_time)
    assert [record.config["tuning"]["trials"] for record in records(tmp_path)] == 4 * [4]
    assert len({trial["run_id"] for trial in outcomes(tmp_path)}) == 4


def test_a_storage_holds_no_more_trials_than_the_records_say(tmp_path):
    """What is left of the budget is asked for, with another seed, or the first trials would be drawn again."""
    stored = [*SEARCH, "tuning.trials=3", "hydra.sweeper.storage=sqlite:///trials.db", "hydra.sweeper.study_name=lr"]
    first = Command(tmp_path, [*stored, "recipe.epochs=20"], ENVIRONMENT)
    kill_in_the_second_trial(first, tmp_path)
    again = [*stored, "recipe.epochs=20", "hydra.sweeper.sampler.seed=1"]
    code, output = Command(tmp_path, again, ENVIRONMENT).end()
    words = "should be 2, since records will say tuning.trials=3, of which sqlite:///trials.db holds 1"
    assert (code, lines_of(output)) == (2, [f"kd-bench: hydra.sweeper.n_trials=3: {words}"])
    searched(tmp_path, *again, "hydra.sweeper.n_trials=2")
    finished = [record for record in records(tmp_path) if record.config["tuning"]["trials"] == 3]
    assert len(finished) == 3
    best = max(record.metrics.last.validation.top1 for record in finished)
    (result,) = tmp_path.glob("runs/sweeps/*/optimization_results.yaml")
    assert yaml.safe_load(result.read_text())["best_value"] == best
