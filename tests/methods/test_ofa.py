"""One-for-all: the loss against a sum over classes, and where its exits stand."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress
from kd_bench.methods.losses import soft_cross_entropy
from kd_bench.methods.ofa import OFA, ofa_loss, spread
from kd_bench.models.features import Outputs

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)
SPEC = DataSpec(5, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def method(**changes) -> OFA:
    settings = {"ce_weight": 0.5, "kd_weight": 2.0, "exit_weight": 3.0, "modulation": 1.5, "temperature": 1.0}
    return OFA(**{**settings, "skip_stages": 1, "exits": 4, **changes})


def network(*stages: tuple[int, int, int], embedding: int = 6) -> SimpleNamespace:
    return SimpleNamespace(name="given", stage_shapes=list(stages), embedding_size=embedding)


@reproducible
@given(SHAPES, seeds, st.sampled_from([1.0, 1.5, 2.0]), st.sampled_from([1.0, 2.0]))
def test_the_target_is_enhanced_by_the_teachers_confidence(shape, seed, modulation, temperature):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    samples = []
    for own, other, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        p, log = slow.softmax(other, temperature), slow.log_softmax(own, temperature)
        target = ((1 + p[label]) ** modulation - 1) * log[label]
        samples.append(-target - sum(p[k] ** modulation * log[k] for k in range(shape[1]) if k != label))
    result = ofa_loss(student, teacher, labels, modulation, temperature).item()
    assert result == pytest.approx(slow.mean(samples), rel=1e-9)


@reproducible
@given(SHAPES, seeds)
def test_without_modulation_it_is_the_cross_entropy_with_the_teacher(shape, seed):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    expected = soft_cross_entropy(student, teacher.softmax(dim=1)).item()
    assert ofa_loss(student, teacher, labels, 1.0, 1.0).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("stages", "skip", "exits", "expected"),
    [
        (4, 1, 4, [1, 2, 3]),  # a ResNet for CIFAR: all but the stem
        (5, 1, 4, [1, 2, 3, 4]),  # timm's resnet18
        (12, 0, 4, [2, 5, 8, 11]),  # a ViT
        (12, 1, 4, [3, 6, 9, 11]),
        (3, 0, 1, [2]),
    ],
)
def test_exits_are_spread_evenly_up_to_the_last_stage(stages, skip, exits, expected):
    assert spread(stages, skip, exits) == expected


def test_every_exit_learns_from_the_teachers_logits():
    shapes = [(2, 8, 8), (3, 8, 8), (4, 4, 4)]
    made = method()
    made.build_adapters(network(*shapes), network((7, 1, 1), embedding=9), SPEC)
    assert [exit_.classifier.weight.shape for exit_ in made.exits] == [(5, 9), (5, 9)]
    made = made.double()
    stages = [torch.randn(4, *shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    student = random_logits((4, 5), 0).requires_grad_()
    teacher, labels = random_logits((4, 5), 1), random_labels((4, 5), 2)
    batch = Batch(torch.zeros(4, 3, 8, 8), labels, torch.arange(4))
    outputs = Outputs(student, stages, torch.zeros(4, 6)), Outputs(teacher, [], teacher)
    terms = made(*outputs, batch, Progress(0, 1, 0, 1))
    logits = [exit_(stage)[0] for exit_, stage in zip(made.exits, stages[1:], strict=True)]
    expected = 3 * sum(ofa_loss(each, teacher, labels, 1.5, 1.0).item() for each in logits)
    assert terms["exits"].item() == pytest.approx(expected)
    assert terms["kd"].item() == pytest.approx(2 * ofa_loss(student, teacher, labels, 1.5, 1.0).item())
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    reached = torch.autograd.grad(terms["exits"], [*stages, student], allow_unused=True)
    assert [gradient is not None for gradient in reached] == [False, True, True, False]


def test_leaving_out_every_stage_is_refused():
    with pytest.raises(ConfigError, match=r"method.skip_stages=2 leaves no stage for an exit; given: \[\(2, 8, 8\)"):
        method(skip_stages=2).build_adapters(network((2, 8, 8), (3, 4, 4)), network((7, 1, 1)), SPEC)
