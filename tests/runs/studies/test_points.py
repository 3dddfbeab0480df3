"""Points of a grid with the same choices share one composition, and are what they would be by themselves."""

import hydra
import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kd_bench.config.composition import composed, composing
from kd_bench.runs.studies.points import Composer


@pytest.fixture
def composer():
    """A composer of ``conf/train.yaml``, and the overrides that it has composed itself."""
    seen = []

    def compose(overrides):
        seen.append(overrides)
        return hydra.compose("train", overrides, return_hydra_config=True)

    with composing():
        yield Composer(compose), seen


SHARED = {
    "seeds": [["method=kd", "seed=0"], ["method=kd", "seed=7"], ["method=kd", "seed=-1"]],
    "values": [["method.temperature=2", "recipe.epochs=3"], ["method.temperature=8.0", "recipe.epochs=5"]],
    "the last one counts": [["seed=1", "seed=2"], ["seed=2", "seed=1"]],
    "kinds of values": [[f"student.name={name}"] for name in ("null", "'a b'", "true", "1", "${method.temperature}")],
    "lists and nodes": [["dataset.mean=[9,9,9]"], ["recipe.augmentation={crop_padding: 2}"], ["dataset.std=[1,1,1]"]],
    "names": [["names.method=warm", "study=mine"], ["names.method=kd ${seed}", "study=mine", "seed=3"]],
    "in any order": [["method.temperature=3", "method=kd"], ["method=kd", "method.temperature=4"]],
    "null, and what was below it": [["recipe.scheduler=null"], ["recipe.scheduler.T_max=4"]],
}


@pytest.mark.parametrize("points", SHARED.values(), ids=SHARED)
def test_points_with_the_same_choices_share_a_composition(composer, points):
    compose, seen = composer
    together = [compose(point) for point in points]
    assert len(seen) == 1
    alone = [composed("train", point) for point in points]
    assert together == alone
    assert [OmegaConf.is_struct(cfg) for cfg in together] == [True] * len(points)
    assert [OmegaConf.to_container(cfg, resolve=False) for cfg in together] == [
        OmegaConf.to_container(cfg, resolve=False) for cfg in alone
    ]


def test_interpolations_follow_the_values(composer):
    points = [composer[0]([f"recipe.epochs={epochs}"]) for epochs in (3, 5)]
    assert [cfg.recipe.scheduler.T_max for cfg in points] == [3, 5]


APART = {
    "another choice": ["method=at"],
    "a new key": ["+method.note=1"],
    "a key left out": ["~recipe.scheduler"],
    "a group as a node": ["method={temperature: 3}"],
    "names as a node": ["names={method: mine}"],
}


@pytest.mark.parametrize("other", APART.values(), ids=APART)
def test_anything_else_is_composed_by_itself(composer, other):
    compose, seen = composer
    compose(["seed=1"])
    assert compose([*other, "seed=2"]) == composed("train", [*other, "seed=2"])
    assert len(seen) == 2


@pytest.mark.parametrize(
    "wrong", ["method.temprature=2", "paths.runs.x=1", "recipe.epochs=1,2", "recipe.epochs=[", "nothing"]
)
def test_a_wrong_point_is_refused_in_the_same_words(composer, wrong):
    with pytest.raises(HydraException) as alone:
        composed("train", [wrong])
    with pytest.raises(HydraException) as shared:
        composer[0]([wrong])
    assert str(shared.value).splitlines()[0] == str(alone.value).splitlines()[0]
