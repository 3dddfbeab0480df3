"""Points of a grid with the same choices share one composition, and are what they would be by themselves."""

import pickle

import hydra
import pytest
from hydra.errors import HydraException
from omegaconf import OmegaConf

from kd_bench.config.check import resolved
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
    "additions on other keys": [
        ["+teacher.overrides={recipe.optimizer.lr: 0.05}", f"teacher.name={name}"] for name in ("wrn_40_2", "vgg13")
    ],
    "null, and what was below it": [["recipe.scheduler=null"], ["recipe.scheduler.T_max=4"]],
}


@pytest.mark.parametrize("points", SHARED.values(), ids=SHARED)
def test_points_with_the_same_choices_share_a_composition(composer, points):
    compose, seen = composer
    together = [compose(point).cfg for point in points]
    assert len(seen) == 1
    alone = [composed("train", point) for point in points]
    assert together == alone
    assert [OmegaConf.is_struct(cfg) for cfg in together] == [True] * len(points)
    assert [OmegaConf.to_container(cfg, resolve=False) for cfg in together] == [
        OmegaConf.to_container(cfg, resolve=False) for cfg in alone
    ]


@pytest.mark.parametrize("points", SHARED.values(), ids=SHARED)
def test_plain_containers_are_those_of_the_composed_configuration(composer, points):
    for point in points:
        written, alone = composer[0](point), composed("train", point)
        assert written.written() == OmegaConf.to_container(alone, resolve=False)
        assert written.resolved() == resolved(alone)


def test_points_with_plain_values_share_one_configuration(composer):
    points = [composer[0](["method=kd", f"method.temperature={value}", f"seed={value}"]) for value in (1, 2)]
    assert points[0].shared is points[1].shared
    assert [dict(point.values) for point in points] == [{"method.temperature": n, "seed": n} for n in (1, 2)]


def test_another_process_gets_the_configuration_and_no_more(composer):
    point = composer[0](["method=kd", "recipe.epochs=7"])
    before = point.resolved()
    copied = pickle.loads(pickle.dumps(point))  # noqa: S301 - made here
    assert list(vars(copied.shared)) == ["cfg"]
    assert (copied.cfg, copied.resolved()) == (point.cfg, before)
    assert copied.but("seed", 3).cfg.seed == 3


def test_interpolations_follow_the_values(composer):
    points = [composer[0]([f"recipe.epochs={epochs}"]).cfg for epochs in (3, 5)]
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
    assert compose([*other, "seed=2"]).cfg == composed("train", [*other, "seed=2"])
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
