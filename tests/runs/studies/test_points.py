"""Points of a grid that differ in their seeds alone share one composition; the other ones have one each."""

import pytest
from omegaconf import OmegaConf

from kd_bench.runs.studies.points import Composer


@pytest.fixture
def composed(monkeypatch):
    """A composer, and the overrides that it has composed itself."""
    monkeypatch.setattr("kd_bench.runs.studies.points.as_task_sees", lambda whole: OmegaConf.to_container(whole))
    seen = []

    def compose(overrides):
        seen.append(overrides)
        return OmegaConf.from_dotlist(overrides)

    return Composer(compose), seen


def test_seeds_share_a_composition(composed):
    compose, seen = composed
    points = [["epochs=3", f"seed={seed}", f"method={name}"] for name in ("kd", "at") for seed in (0, 2, 10)]
    assert [compose(point) for point in points] == [
        {"epochs": 3, "seed": seed, "method": name} for name in ("kd", "at") for seed in (0, 2, 10)
    ]
    assert seen == [points[0], points[3]]


def test_the_last_seed_counts(composed):
    compose, seen = composed
    assert [compose(["seed=5", f"seed={seed}"])["seed"] for seed in (0, 1)] == [0, 1]
    assert seen == [["seed=5", "seed=0"]]


@pytest.mark.parametrize("other", ["seed=-1", "seed=1.0", "seed=null", "seed='1'", "seed=01", "+seed=1", "my_seed=1"])
def test_what_is_no_plain_seed_is_composed(composed, other):
    compose, seen = composed
    compose(["seed=0"])
    assert compose([other]) == OmegaConf.to_container(OmegaConf.from_dotlist([other]))
    assert seen == [["seed=0"], [other]]


def test_a_point_without_a_seed_keeps_its_own(composed):
    compose, seen = composed
    assert compose(["seed=4", "a=1"]) == {"seed": 4, "a": 1}
    assert compose(["a=1"]) == {"a": 1}
    assert len(seen) == 2
