"""Names of a run: two runs that differ have two names, and a name says what the run learns from."""

import pytest

from kd_bench.config.check import check
from kd_bench.results.records.states import new_state
from kd_bench.runs.naming import LONGEST_NAME, differences, name_of, title
from kd_bench.training.pair import build


@pytest.fixture
def named(compose):
    """``named("method=kd")``: the line and the tracker's name of a run."""

    def of(*overrides: str) -> tuple[str, str]:
        config = check(compose(*overrides))
        pair, state = build(config), new_state(config, "0123456789abcdef", "student", 1)
        return title(state, config, pair), name_of(state, config, pair)

    return of


NAMES = {
    "method=kd": ("digits: resnet20_cifar -> resnet8_cifar, kd, seed 0", "kd-resnet8_cifar-s0"),
    "method.temperature=2 seed=3": (
        "digits: resnet20_cifar -> resnet8_cifar, kd, temperature=2, seed 3",
        "kd-resnet8_cifar-temperature=2-s3",
    ),
    "recipe.optimizer.lr=0.01 method.kd_weight=0.5 trainer.threads=1": (
        "digits: resnet20_cifar -> resnet8_cifar, kd, kd_weight=0.5, lr=0.01, seed 0",
        "kd-resnet8_cifar-kd_weight=0.5-lr=0.01-s0",
    ),
    "method=scratch teacher=none": ("digits: resnet8_cifar, scratch, seed 0", "scratch-resnet8_cifar-s0"),
    "teacher.name=resnet14_cifar": (
        "digits: resnet14_cifar -> resnet8_cifar, kd, seed 0",
        "kd-resnet8_cifar-teacher=resnet14_cifar-s0",
    ),
    "method=takd": (
        "digits: resnet20_cifar -> resnet14_cifar -> resnet8_cifar, takd, seed 0",
        "takd-resnet8_cifar-from=resnet14_cifar-s0",
    ),
    "method=born_again chain.generations=2": (
        "digits: resnet8_cifar -> resnet8_cifar, born_again, generation=2, seed 0",
        "born_again-resnet8_cifar-from=resnet8_cifar-generation=2-s0",
    ),
}


@pytest.mark.parametrize("overrides", NAMES)
def test_a_name_says_what_differs_from_the_defaults(named, overrides):
    assert named(*overrides.split()) == NAMES[overrides]


def test_names_of_one_key_in_two_sections_are_told_apart(compose):
    config = check(compose("+student.kwargs={drop_rate:0.1}", "+teacher.kwargs={drop_rate:0.2}"))
    assert differences(config) == ["teacher.kwargs.drop_rate=0.2", "student.kwargs.drop_rate=0.1"]


def test_a_long_name_is_cut_and_ends_with_the_run(named):
    many = [f"{key}=0.123456789" for key in ("method.kd_weight", "method.ce_weight", "recipe.optimizer.lr")]
    line, name = named(*many, "recipe.optimizer.weight_decay=0.000123456789", "method.temperature=3.987654321")
    assert len(name) == LONGEST_NAME
    assert name.startswith("kd-resnet8_cifar-ce_weight=0.123456789-")
    assert name.endswith("-s0-012345")
    assert "weight_decay=0.000123456789" in line


def test_what_cannot_be_seen_is_escaped(compose):
    (word,) = differences(check(compose("method=scratch", "teacher=none", "+student.kwargs={act:'a\u202eb\n'}")))
    assert word == "act=a\\u202eb\\n"
