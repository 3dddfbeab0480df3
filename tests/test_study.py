"""A study's grid is composed as Hydra would sweep it, wherever its runs go."""

from pathlib import Path

import pytest

from kd_bench.errors import ConfigError
from kd_bench.study import compose_study


def test_the_demo_is_every_method_with_every_seed():
    points = [(run.cfg.names.method, run.cfg.seed) for run in compose_study("demo", [])]
    methods = ["scratch", "kd", "fitnet", "at_8x8", "byot"]
    assert points == [(method, seed) for method in methods for seed in (0, 1, 2)]


def test_a_study_s_own_choice_is_found_beside_the_shipped_ones():
    weights = {run.cfg.names.method: run.cfg.method.get("at_weight") for run in compose_study("demo", [])}
    assert weights["at_8x8"] == 1000 * (8 * 8) / (32 * 32)


@pytest.mark.parametrize("folder", ["plain", "with space", "a,b", "k=v", "[x]", "it's", "(y)"])
def test_runs_may_go_to_a_folder_of_any_name(folder, monkeypatch):
    seen = []
    monkeypatch.setattr("kd_bench.study.run_in_turn", lambda points: seen.extend(points) or [])
    monkeypatch.setattr("kd_bench.study.write_leaderboard", _no_board)
    from kd_bench.study import demo

    with pytest.raises(_Reached):
        demo(Path(folder))
    assert {run.cfg.paths.runs for run in seen} == {folder}


def test_an_unknown_study_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="study 'dmo': no such study; did you mean 'demo'"):
        compose_study("dmo", [])


class _Reached(Exception):
    pass


def _no_board(records: Path, out: Path) -> None:
    raise _Reached
