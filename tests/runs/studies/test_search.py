"""What a search must say before its first trial. The trials themselves: tests/engines/test_optuna.py."""

import json
import sys

import pytest
from omegaconf import DictConfig, OmegaConf

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.errors import ConfigError
from kd_bench.results.records.fingerprint import determining
from kd_bench.runs.lineage import teacher_run
from kd_bench.runs.studies.search import FOUND, check_search, found

LR = {"recipe.optimizer.lr": "tag(log, interval(0.01, 0.5))"}


def search(tuning: dict, **sweeper) -> DictConfig:
    """The part of a composed configuration that says how a search goes."""
    asked = {
        "_target_": "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper",
        "direction": "maximize",
        "n_trials": tuning["trials"],
        "params": tuning["space"],
        "storage": None,
        "study_name": None,
        **sweeper,
    }
    task = asked.pop("task", ["method=kd"])
    return OmegaConf.create({"tuning": tuning, "hydra": {"sweeper": asked, "overrides": {"task": task}}})


def test_the_ends_and_the_choices_of_every_axis_are_checked_first():
    space = {**LR, "method": "choice(kd, at, dkd)", "seed": "range(0, 4)", "method.temperature": "interval(1.0, 8.0)"}
    assert check_search(search({"trials": 9, "space": space})) == [
        ["method=kd", "recipe.optimizer.lr=0.01", "method=kd", "seed=0", "method.temperature=1.0"],
        ["method=kd", "recipe.optimizer.lr=0.5", "method=at", "seed=3", "method.temperature=8.0"],
        ["method=kd", "recipe.optimizer.lr=0.01", "method=dkd", "seed=0", "method.temperature=1.0"],
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"_target_": "hydra_plugins.ax.AxSweeper"}, "its budget cannot be recorded; use tuning=optuna"),
        ({"direction": "minimize"}, "hydra.sweeper.direction=minimize: should be maximize"),
        ({"direction": ["maximize", "minimize"]}, "should be maximize"),
        ({"n_trials": 8}, "hydra.sweeper.n_trials=8: should be 9, since records will say tuning.trials=9"),
        ({"params": {"seed": "range(0, 4)"}}, "hydra.sweeper.params: is not recorded; give the space as tuning.space="),
        ({"search_space": {"seed": {"type": "int"}}}, "is not recorded"),
        ({"task": ["method=kd", "seed=0,1"]}, "seed=0,1: is not recorded; give the space as tuning.space="),
    ],
)
def test_what_records_would_not_say_is_refused(changes, reason):
    with pytest.raises(ConfigError) as caught:
        check_search(search({"trials": 9, "space": LR}, **changes))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("space", "reason"),
    [
        (None, "tuning.space: is missing; give the space as tuning.space={KEY: 'interval(LOW, HIGH)'}"),
        ({"seed": "3"}, "tuning.space: seed=3: is one value; write interval(LOW, HIGH) or choice(A, B)"),
        ({"seed": "intervall(0, 3)"}, "tuning.space: Error parsing override 'seed=intervall(0, 3)'"),
    ],
)
def test_a_space_that_is_none_is_refused(space, reason):
    with pytest.raises(ConfigError) as caught:
        check_search(search({"trials": 9, "space": space}))
    assert str(caught.value).startswith(reason)


def test_what_was_found_is_told_as_overrides(tmp_path):
    assert found(tmp_path) is None
    result = {"best_params": {"method.temperature": 2.5, "seed": 3}, "best_value": 0.9768518518518519}
    (tmp_path / FOUND).write_text(json.dumps(result))
    assert found(tmp_path) == f"best validation top-1 97.69 %: method.temperature=2.5 seed=3 (trials: {tmp_path})"


# --- Runs under a budget ---

BUDGET = ["tuning.trials=9", "tuning.space={recipe.optimizer.lr:'interval(0.01,0.5)'}"]


def test_a_tuned_run_is_another_run_than_one_that_was_not(compose):
    tuned, plain = determining(check(compose(*BUDGET))), determining(check(compose()))
    assert tuned.pop("tuning") == {"trials": 9, "space": {"recipe.optimizer.lr": "interval(0.01,0.5)"}}
    assert tuned == plain


def test_its_teacher_is_not(compose):
    cfg = compose(*BUDGET)
    teacher = teacher_run(cfg, check(cfg).teacher.networks()[0])
    assert check(teacher).tuning == RunConfig.model_fields["tuning"].default


@pytest.mark.parametrize("override", BUDGET)
def test_a_budget_without_a_space_is_refused(compose, override):
    with pytest.raises(ConfigError, match=r"tuning.trials=.*, tuning.space=.*: a search has both"):
        check(compose(override))


# --- The command line ---


@pytest.fixture
def command_line(tmp_path, monkeypatch) -> None:
    """An empty working directory; what ``main`` changes of the process is put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["kd-bench"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train", "-m", "+hydra.sweeper.custom_search_space=os.system", "seed=0,1"],
            "hydra.sweeper.custom_search_space='os.system': is not allowed here; the search space is tuning.space",
        ),
        (
            ["train", "-m", "recipe.epoch=1,2"],
            "2 of 2 points are wrong, none was started: recipe.epoch=1: recipe.epoch: unknown key; did you mean "
            "'epochs'?; recipe.epoch=2: recipe.epoch: unknown key; did you mean 'epochs'?",
        ),
    ],
)
def test_a_wrong_command_is_one_line(command_line, capsys, arguments, line):
    assert main(arguments) == 2
    assert capsys.readouterr().err == f"kd-bench: {line}\n"


@pytest.mark.parametrize("choice", ["hydra/launcher=joblib", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"])
@pytest.mark.parametrize("command", [["train", "-m"], ["study", "digits_families"]], ids=lambda command: command[0])
def test_an_extra_that_is_absent_is_named(command_line, monkeypatch, capsys, command, choice):
    from hydra.core.config_store import ConfigStore

    group, _, name = choice.partition("=")
    files = ConfigStore.instance().repo["hydra"][group.partition("/")[2]]
    monkeypatch.setattr(
        ConfigStore.instance(),
        "repo",
        {**ConfigStore.instance().repo, "hydra": {**ConfigStore.instance().repo["hydra"]}},
    )
    kept = {each: node for each, node in files.items() if each != f"{name}.yaml"}
    monkeypatch.setitem(ConfigStore.instance().repo["hydra"], group.partition("/")[2], kept)
    assert main([*command, choice]) == 2
    extra = {"joblib": "joblib", "submitit_slurm": "submitit", "optuna": "optuna"}[name]
    assert capsys.readouterr().err == f"kd-bench: {group}={name!r}: needs the extra: pip install 'kd-bench[{extra}]'\n"


@pytest.mark.parametrize("flag", ["--jobs=2", "--retry=1", "--timeout=3", "--dry-run", "--skip-refused", "--fail-fast"])
def test_what_a_launcher_knows_nothing_of_is_refused(command_line, monkeypatch, capsys, flag):
    monkeypatch.setattr("kd_bench.runs.studies.grid.is_in_this_process", lambda hydra: False)
    assert main(["study", "digits_families", flag]) == 2
    line = "not with hydra/launcher=... or a search, which have settings of their own"
    assert capsys.readouterr().err == f"kd-bench: {flag.partition('=')[0]}: {line}\n"
