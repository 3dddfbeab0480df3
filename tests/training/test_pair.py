"""From a configuration to a pair: stages that the configuration pairs, and what the user is told."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from kd_bench.cli.method_pages.catalogue import requirements
from kd_bench.config.check import check
from kd_bench.config.overrides import compose_run
from kd_bench.data.batch import Batch
from kd_bench.data.samplers import SAMPLERS, EpochOrder
from kd_bench.errors import ConfigError
from kd_bench.methods.at import AT
from kd_bench.methods.base import Progress, Requirements
from kd_bench.models.ensemble import Ensemble
from kd_bench.runs.preview import TrialStep
from kd_bench.training.pair import Pair, build, make_module, notes
from kd_bench.training.teachers import FrozenTeacher


@pytest.fixture
def pair_of(compose):
    return lambda *overrides: build(check(compose(*overrides)))


def terms(pair: Pair) -> tuple[dict[str, Tensor], Any, Any]:
    """Of one batch, with the outputs of student and teacher."""
    x = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    batch = Batch(x, torch.arange(6), torch.arange(6))
    with torch.no_grad():
        student, teacher = pair.student.eval()(x), pair.source.eval()(x)
        losses = pair.method.eval()(student, teacher, batch, Progress(0, 1, 0, 1))
    return losses, student, teacher


def pooled(stage: Tensor, size: int) -> np.ndarray:
    """Means over equal squares."""
    batch, channels, height, _ = stage.shape
    side = height // size
    return stage.double().numpy().reshape(batch, channels, size, side, size, side).mean(axis=(3, 5))


def slow_attention_distance(student: Tensor, teacher: Tensor) -> float:
    size = min(student.shape[2], teacher.shape[2])
    maps = []
    for stage in (student, teacher):
        attention = (pooled(stage, size) ** 2).mean(axis=1).reshape(len(stage), -1)
        maps.append(attention / np.sqrt((attention**2).sum(axis=1, keepdims=True)))
    return float(((maps[0] - maps[1]) ** 2).mean())


@pytest.mark.parametrize(
    ("override", "pairs"),
    [("stage_pairs=null", [(1, 1), (2, 2), (3, 3)]), ("stage_pairs=[[0,0],[1,2],[3,3]]", [(1, 2), (3, 3)])],
)
def test_attention_transfer_compares_the_stages_of_the_configuration(pair_of, override, pairs):
    pair = pair_of("method=at", "method.skip_stages=1", override)
    losses, student, teacher = terms(pair)
    expected = sum(slow_attention_distance(student.stages[i], teacher.stages[j]) for i, j in pairs)
    assert float(losses["at"]) == pytest.approx(pair.method.at_weight * expected, rel=1e-4)


@pytest.mark.parametrize(
    ("override", "compared"), [("null", (1, 1)), ("[[0,0],[1,2]]", (1, 2)), ("[[0,0],[2,2]]", (2, 2))]
)
def test_a_hint_compares_the_stages_of_the_configuration(pair_of, override, compared):
    pair = pair_of("method=fitnet", "method.hint_stage=1", f"stage_pairs={override}")
    losses, student, teacher = terms(pair)
    i, j = compared
    guided = pair.method.regressor(student.stages[i]).detach()
    assert guided.shape == teacher.stages[j].shape
    expected = ((guided.double().numpy() - teacher.stages[j].double().numpy()) ** 2).mean()
    assert float(losses["hint"]) == pytest.approx(pair.method.hint_weight * expected, rel=1e-5)


def test_pairs_that_a_network_does_not_have_are_refused(pair_of):
    with pytest.raises(
        ConfigError, match=r"^stage_pairs=\[\[0, 4\]\]: resnet20_cifar has stages 0 to 3: \[\(16, 8, 8\)"
    ):
        pair_of("method=at", "stage_pairs=[[0,4]]")
    with pytest.raises(ConfigError, match=r"method.hint_stage=2: is a position in .*, allowed 0 to 1"):
        pair_of("method=fitnet", "method.hint_stage=2", "stage_pairs=[[1,1],[2,2]]")


def notes_of(compose, *overrides: str) -> list[str]:
    config = check(compose(*overrides))
    return notes(config, build(config))


def test_the_user_is_told_how_stages_are_paired(compose):
    automatic = (
        "stages, student-teacher: 0-0, 1-1, 2-2, 3-3 (by resolution or depth; stage_pairs=[[0,0],...] changes it)"
    )
    assert notes_of(compose, "method=fitnet") == [automatic]
    configured = "stages, student-teacher: 1-2, 3-3 (as configured)"
    assert notes_of(compose, "method=sp", "stage_pairs=[[1,2],[3,3]]") == [configured]
    assert notes_of(compose, "method=scratch", "teacher=none") == []


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (("method=at",), "method.at_weight"),
        (("method=kd_at",), "method.terms.at.at_weight"),
        (("method=at", "method.at_weight=62.5"), None),
        (("method=at", "dataset.image_size=[16,16]"), None),
    ],
)
def test_a_weight_of_larger_images_is_warned_of(compose, overrides, key):
    warnings = [line for line in notes_of(compose, *overrides) if "tuned" in line]
    warned = f"{key}=1000 was tuned on 32x32 images and may drown the labels on 8x8; in proportion to the pixels: 62.5"
    assert warnings == ([warned] if key else [])


def test_a_hint_stage_counts_the_configured_pairs(pair_of):
    assert pair_of("method=fitnet", "stage_pairs=[[1,2],[3,3]]", "method.hint_stage=1").method.pair == (3, 3)
    refusal = r"^method\.hint_stage=2: is a position in stage_pairs=\[\[1, 2\]\], allowed 0 to 0; stages of"
    with pytest.raises(ConfigError, match=refusal):
        pair_of("method=fitnet", "stage_pairs=[[1,2]]")


@pytest.mark.parametrize(
    ("dataset", "recipe", "padding"),
    [
        ("digits", "digits", 1),
        ("cifar10", "crd", 4),
        ("cifar100", "crd", 4),
        ("fashion_mnist", "crd", 4),
        ("tiny_imagenet", "crd", 4),
        ("imagenet", "imagenet", 0),
        ("image_folder", "photographs", 0),
    ],
)
def test_a_data_set_names_its_recipe_unless_one_is_given(dataset, recipe, padding):
    overrides = [f"dataset={dataset}"]
    cfg = compose_run(overrides)
    assert (cfg.names.recipe, cfg.recipe.augmentation.crop_padding) == (recipe, padding)
    assert cfg.recipe.augmentation.horizontal_flip == (recipe != "digits")
    assert compose_run([*overrides, "recipe=mdistiller"]).names.recipe == "mdistiller"
    assert compose_run(["recipe=digits", *overrides]).recipe.augmentation.crop_padding == 1


def test_the_user_is_told_which_network_sees_resized_images(compose):
    lines = notes_of(compose, "student.name=test_vit", "teacher.input_size=[16,12]")
    assert lines[:2] == [
        "student test_vit gets 8x8 images resized to 160x160",
        "teacher resnet20_cifar gets 8x8 images resized to 16x12",
    ]


def test_an_ensemble_is_built_of_its_members(compose):
    overrides = ["teacher=ensemble", "teacher.members.first.name=resnet8_cifar", "teacher.members.second.weight=3"]
    config = check(compose(*overrides, "teacher.average=probabilities"))
    pair = build(config)
    assert isinstance(pair.teacher, Ensemble)
    assert pair.source is pair.teacher
    assert [tap.name for tap in pair.teacher.taps()] == ["resnet8_cifar", "resnet20_cifar"]
    assert pair.teacher.weights == [0.25, 0.75]
    assert pair.teacher.average == "probabilities"
    assert isinstance(make_module(config, pair).teacher, FrozenTeacher)


@pytest.mark.parametrize("method", ["crd", "pskd", "crd_kd", "wttm_crd"])
def test_a_memory_of_the_training_samples_is_not_shared_by_processes(compose, method):
    build(check(compose(f"method={method}")))
    with pytest.raises(ConfigError, match=f"method={method} keeps a memory of all training samples"):
        build(check(compose(f"method={method}", "trainer=ddp")))


@pytest.mark.parametrize(
    ("overrides", "multiple"),
    [
        (["recipe.batch_size=63"], 2),
        (["recipe.batch_size=2"], 2),
        (["trainer.devices=3"], 3),
        (["method=dlb", "recipe.batch_size=62"], 4),
    ],
)
def test_a_batch_is_shared_equally(compose, overrides, multiple):
    with pytest.raises(ConfigError, match=f"should be a multiple of {multiple} and at least {2 * multiple}"):
        build(check(compose("trainer=ddp", *overrides)))


def test_a_class_is_all_that_a_new_sampler_takes(compose, monkeypatch):
    class Fours(EpochOrder):
        words, divisor = "batches of fours", 4

        @classmethod
        def trial(cls, batch_size: int) -> Tensor:
            return torch.zeros(batch_size, dtype=torch.int64)

    monkeypatch.setitem(SAMPLERS, "fours", Fours)
    monkeypatch.setattr(AT, "requires", Requirements(sampler="fours"))
    config = check(compose("method=at", "recipe.batch_size=8"))
    pair = build(config)
    assert requirements(pair.method) == ["teacher", "batches of fours"]
    assert TrialStep(config, pair)._batch.index.tolist() == [0] * 8
    with pytest.raises(ConfigError, match=r"^method=at needs a recipe.batch_size that 4 divides, not 6$"):
        build(check(compose("method=at", "recipe.batch_size=6")))
    with pytest.raises(ConfigError, match=r"^recipe.batch_size=12: .* multiple of 8 and at least 16$"):
        build(check(compose("method=at", "trainer=ddp", "recipe.batch_size=12")))
