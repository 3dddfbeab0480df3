"""A study's grid is composed as Hydra would sweep it, wherever its runs go."""

from argparse import Namespace
from pathlib import Path

import hydra
import pytest

from kd_bench.cli import demo
from kd_bench.cli.main import main
from kd_bench.config.composition import choices, composed, composing
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError
from kd_bench.runs.studies import grid, running
from kd_bench.runs.studies.grid import open_study

METHODS = ["scratch", "kd", "fitnet", "at_8x8", "byot"]


def test_the_demo_is_every_method_with_every_seed():
    points = [(run.cfg.names.method, run.cfg.seed) for run in open_study("demo", []).points]
    assert points == [(method, seed) for method in METHODS for seed in (0, 1, 2)]


def test_a_study_s_own_choice_is_found_beside_the_shipped_ones():
    weights = {run.cfg.names.method: run.cfg.method.get("at_weight") for run in open_study("demo", []).points}
    assert weights["at_8x8"] == 1000 * (8 * 8) / (32 * 32)


def test_a_star_stands_for_every_method():
    points = {run.cfg.names.method for run in open_study("all_methods_smoke", ["recipe.epochs=3"]).points}
    assert points == set(choices("method"))


def test_overrides_hold_for_every_point():
    points = open_study("demo", ["recipe.epochs=3", "study=mine"]).points
    assert {(run.cfg.recipe.epochs, run.cfg.study) for run in points} == {(3, "mine")}


def test_an_override_of_an_axis_replaces_it():
    points = open_study("digits_families", ["method=scratch,kd", "recipe.epochs=3"]).points
    assert [(run.cfg.names.method, run.cfg.seed, run.cfg.recipe.epochs) for run in points] == [
        (method, seed, 3) for method in ("scratch", "kd") for seed in (0, 1, 2)
    ]
    points = open_study("digits_families", ["method=kd", "seed=range(3,5)"]).points
    assert [run.label for run in points] == ["method kd, seed 3", "method kd, seed 4"]


def test_a_key_that_is_no_axis_takes_one_value():
    with pytest.raises(ConfigError) as caught:
        open_study("demo", ["recipe.epochs=1,2"])
    assert str(caught.value) == "recipe.epochs=1,2: takes one value; only axes of the grid take several: method, seed"


OWN = """
defaults: [train, _self_]
study: own
recipe: {epochs: 1}
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      method: kd,at
      recipe.optimizer.lr: 0.1, 0.2
      +recipe.scheduler.eta_min: 0.001
"""


def test_a_study_may_lie_anywhere(tmp_path):
    (tmp_path / "study.yaml").write_text(OWN)
    points = open_study(str(tmp_path), []).points
    assert [(run.label, run.cfg.recipe.scheduler.eta_min) for run in points] == [
        (f"method {method}, recipe.optimizer.lr {rate}, +recipe.scheduler.eta_min 0.001", 0.001)
        for method in ("kd", "at")
        for rate in ("0.1", "0.2")
    ]


@pytest.mark.parametrize("key", ["recipe.scheduler.eta_min", "+recipe.scheduler.eta_min"])
def test_an_axis_that_adds_a_key_is_replaced_with_and_without_its_plus(key, tmp_path):
    (tmp_path / "study.yaml").write_text(OWN)
    points = open_study(str(tmp_path), [f"{key}=0.1,0.2", "method=at", "recipe.optimizer.lr=1"]).points
    assert [run.cfg.recipe.scheduler.eta_min for run in points] == [0.1, 0.2]


def test_one_of_hydra_s_launchers_runs_the_axes_that_were_given(tmp_path, monkeypatch):
    monkeypatch.setattr(grid, "is_in_this_process", lambda cfg: False)  # as with hydra/launcher=joblib, an extra
    (tmp_path / "study.yaml").write_text(OWN)
    given = ["recipe.optimizer.lr=0.5,'1'", "seed=3"]
    study = open_study(str(tmp_path), given)
    assert study.hydra_folder == tmp_path
    with composing(tmp_path):
        search = f"hydra.searchpath=['file://{CONF}']"
        cfg = hydra.compose("study", [search, *study.overrides], return_hydra_config=True)
    assert cfg.seed == 3
    assert cfg.hydra.sweeper.params == {
        "method": "kd,at",
        "recipe.optimizer.lr": "0.5,'1'",
        "+recipe.scheduler.eta_min": "0.001",
    }


@pytest.fixture
def compositions(monkeypatch) -> list[list[str]]:
    """The overrides of every composition from here on."""
    seen: list[list[str]] = []
    compose = hydra.compose

    def counted(name, overrides, return_hydra_config):
        seen.append(overrides)
        return compose(name, overrides, return_hydra_config)

    monkeypatch.setattr(hydra, "compose", counted)
    return seen


def test_a_study_is_composed_once_and_so_is_every_choice_for_all_values(compositions):
    study = open_study("demo", ["recipe.epochs=3"])
    assert [overrides[1:] for overrides in compositions] == [["recipe.epochs=3"]]  # the search path comes first
    assert study.points is study.points
    assert len(study.points) == 15
    assert [overrides[1:] for overrides in compositions[1:]] == [[f"method={name}"] for name in METHODS]


def test_nothing_but_the_base_is_composed_for_the_status(compositions, tmp_path):
    assert main(["status", "demo", f"paths.runs={tmp_path}"]) == 2
    assert len(compositions) == 1


def test_a_point_whose_composition_is_shared_is_what_it_would_be_by_itself(tmp_path):
    text = OWN.replace("recipe.optimizer.lr: 0.1, 0.2", "seed: 0,7,3")
    (tmp_path / "study.yaml").write_text(f"{text}names: {{method: 'kd ${{seed}}'}}\n")
    points = open_study(str(tmp_path), []).points
    with composing(tmp_path):
        search = f"hydra.searchpath=[file://{CONF}]"
        alone = [composed("study", [search, *run.label.replace(" ", "=").split(",=")]) for run in points]
    assert [(run.cfg.names.method, run.cfg.seed) for run in points[:3]] == [("kd 0", 0), ("kd 7", 7), ("kd 3", 3)]
    assert len(points) == 6
    assert [run.cfg for run in points] == alone


@pytest.mark.parametrize(
    ("axis", "line"),
    [
        ("method: kd,kdd", "method='kdd': no such choice; did you mean 'kd'"),
        ("recipe.epoch: 1,2", "recipe.epoch: unknown key; did you mean 'epochs'?"),
        ("seed: interval(0,3)", "Can only enumerate CHOICE and RANGE sweeps"),
    ],
)
def test_a_wrong_grid_is_one_line(axis, line, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(
        OWN.replace("recipe.optimizer.lr: 0.1, 0.2", axis).replace("method: kd,at", "")
    )
    assert main(["study", str(tmp_path)]) == 2
    (reason,) = capsys.readouterr().err.splitlines()
    assert reason.startswith(f"kd-bench: {line}")


@pytest.mark.parametrize("params", ["[method=kd, seed=0]", "method=kd,at", "3", "{}", "null"])
def test_a_grid_that_is_no_mapping_is_one_line(params, tmp_path, capsys):
    text, _, _ = OWN.partition("    params:")
    (tmp_path / "study.yaml").write_text(f"{text}    params: {params}\n")
    assert main(["study", str(tmp_path)]) == 2
    (reason,) = capsys.readouterr().err.splitlines()
    empty = params in ("{}", "null")
    problem = "is missing" if empty else "should be a mapping of keys to values, such as {method: 'kd,at'}"
    file = tmp_path / "study.yaml"
    assert reason == f"kd-bench: study {str(tmp_path)!r}: {file} has no grid: hydra.sweeper.params {problem}"


@pytest.mark.parametrize("folder", ["plain", "with space", "a,b", "k=v", "[x]", "it's", "(y)"])
def test_runs_may_go_to_a_folder_of_any_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(running, "run_study", lambda study, options: seen.append(study))
    demo.run(Namespace(runs=Path(folder)))
    (study,) = seen
    assert (study.name, study.runs) == ("demo", Path(folder))
    assert {run.cfg.paths.runs for run in study.points} == {folder}


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="study 'dmo': no such study; did you mean 'demo'"):
        open_study("dmo", [])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("recipe.epoch=3", "recipe.epoch: unknown key; did you mean 'epochs'?"),
        ("recipe=digit", "recipe='digit': no such choice; did you mean 'digits'"),
    ],
)
def test_a_wrong_override_is_one_line(override, line):
    with pytest.raises(ConfigError) as caught:
        open_study("demo", [override])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
