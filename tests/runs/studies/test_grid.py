"""A study's grid is composed as Hydra would sweep it, wherever its runs go."""

from argparse import Namespace
from pathlib import Path

import pytest

from kd_bench.cli import demo
from kd_bench.config.composition import choices
from kd_bench.errors import ConfigError
from kd_bench.runs.studies import running
from kd_bench.runs.studies.grid import compose_study, study_folder, study_runs


def test_the_demo_is_every_method_with_every_seed():
    points = [(run.cfg.names.method, run.cfg.seed) for run in compose_study("demo", [])]
    methods = ["scratch", "kd", "fitnet", "at_8x8", "byot"]
    assert points == [(method, seed) for method in methods for seed in (0, 1, 2)]


def test_a_study_s_own_choice_is_found_beside_the_shipped_ones():
    weights = {run.cfg.names.method: run.cfg.method.get("at_weight") for run in compose_study("demo", [])}
    assert weights["at_8x8"] == 1000 * (8 * 8) / (32 * 32)


def test_a_star_stands_for_every_method():
    points = {run.cfg.names.method for run in compose_study("all_methods_smoke", ["recipe.epochs=3"])}
    assert points == set(choices("method"))


def test_overrides_hold_for_every_point():
    points = compose_study("demo", ["recipe.epochs=3", "study=mine"])
    assert {(run.cfg.recipe.epochs, run.cfg.study) for run in points} == {(3, "mine")}


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
    points = compose_study(str(tmp_path), [])
    assert [(run.label, run.cfg.recipe.scheduler.eta_min) for run in points] == [
        (f"method {method}, recipe.optimizer.lr {rate}, +recipe.scheduler.eta_min 0.001", 0.001)
        for method in ("kd", "at")
        for rate in ("0.1", "0.2")
    ]
    assert study_folder(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("folder", ["plain", "with space", "a,b", "k=v", "[x]", "it's", "(y)"])
def test_runs_may_go_to_a_folder_of_any_name(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr(running, "run_study", lambda name, overrides, options: seen.append((name, overrides)))
    demo.run(Namespace(runs=Path(folder)))
    ((name, overrides),) = seen
    assert study_runs(name, overrides) == Path(folder)
    assert {run.cfg.paths.runs for run in compose_study(name, overrides)} == {folder}


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="study 'dmo': no such study; did you mean 'demo'"):
        compose_study("dmo", [])


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("recipe.epoch=3", "recipe.epoch: unknown key; did you mean 'epochs'?"),
        ("recipe=digit", "recipe='digit': no such choice; did you mean 'digits'"),
    ],
)
def test_a_wrong_override_is_one_line(override, line):
    with pytest.raises(ConfigError) as caught:
        compose_study("demo", [override])
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
