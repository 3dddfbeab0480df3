"""Decoupled knowledge distillation against sums over classes."""

import math

import pytest
import torch
from golden_rows.logits import terms_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_bench.methods.dkd import DKD, other_classes_loss, target_class_loss
from kd_bench.methods.losses import kl_divergence

from . import slow
from .slow import random_labels, random_logits, reproducible

SHAPES = st.tuples(st.integers(1, 5), st.integers(3, 6))
temperatures = st.sampled_from([0.5, 1.0, 4.0])
seeds = st.integers(0, 1000)


def two_way(row: list[float], label: int, temperature: float) -> list[float]:
    """Logits of the pair (target, all others) at temperature 1."""
    target = slow.softmax(row, temperature)[label]
    return [math.log(target), math.log(1 - target)]


def others(row: list[float], label: int) -> list[float]:
    return [value for k, value in enumerate(row) if k != label]


def slow_dkd(student: Tensor, teacher: Tensor, labels: Tensor, temperature: float) -> tuple[float, float]:
    rows = list(zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True))
    pairs = [[two_way(each[i], each[2], temperature) for each in rows] for i in (0, 1)]
    rest = [[others(each[i], each[2]) for each in rows] for i in (0, 1)]
    return temperature**2 * slow.kl(*pairs), temperature**2 * slow.kl(*rest, temperature)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_both_parts_are_the_kl_of_their_distributions(shape, seed, temperature):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    target_class, other_classes = slow_dkd(student, teacher, labels, temperature)
    result = target_class_loss(student, teacher, labels, temperature)
    assert result.item() == pytest.approx(target_class, rel=1e-6, abs=1e-9)
    result = other_classes_loss(student, teacher, labels, temperature)
    assert result.item() == pytest.approx(other_classes, rel=1e-9, abs=1e-12)


@reproducible
@given(SHAPES, seeds)
def test_kd_is_the_first_part_and_the_second_by_the_teachers_doubt(shape, seed):
    """Zhao et al. 2022: KD = TCKD + (1 - p_target) NCKD, for each sample."""
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    for i in range(shape[0]):
        row = slice(i, i + 1)
        own, other, label = student[row], teacher[row], labels[row]
        doubt = 1 - other.softmax(dim=1)[0, label]
        parts = target_class_loss(own, other, label, 1.0) + doubt * other_classes_loss(own, other, label, 1.0)
        assert parts.item() == pytest.approx(kl_divergence(own, other, 1.0).item(), rel=1e-8, abs=1e-12)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_both_parts_are_zero_where_student_and_teacher_agree(shape, seed, temperature):
    teacher, labels = random_logits(shape, seed), random_labels(shape, seed)
    student = teacher + random_logits((shape[0], 1), seed + 1)
    assert target_class_loss(student, teacher, labels, temperature).item() == pytest.approx(0, abs=1e-9)
    assert other_classes_loss(student, teacher, labels, temperature).item() == pytest.approx(0, abs=1e-9)


def test_an_improbable_class_gives_a_finite_gradient():
    """float32 probabilities of the other classes are zero here, and their logarithms would be infinite."""
    student = torch.tensor([[200.0, 0.0, 1.0]], requires_grad=True)
    loss = target_class_loss(student, torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([0]), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(200 * (1 - 1 / (2 + math.e)), rel=0.02)
    assert student.grad is not None
    assert student.grad[0, 0] > 0.5


@pytest.mark.parametrize(("epoch", "weight"), [(1, 0.25), (2, 0.5), (4, 1.0), (9, 1.0)])
def test_the_weight_of_both_parts_warms_up(epoch, weight):
    arrays = {
        "student_logits": random_logits((4, 5), 0),
        "teacher_logits": random_logits((4, 5), 1),
        "labels": random_labels((4, 5), 2),
    }
    terms = terms_of(DKD(0.5, 1.0, 8.0, 4.0, warmup_epochs=4), arrays, epoch)
    target_class, other_classes = slow_dkd(*arrays.values(), 4.0)
    ce = slow.cross_entropy(arrays["student_logits"].tolist(), arrays["labels"].tolist())
    assert terms["ce"].item() == pytest.approx(0.5 * ce)
    assert terms["target_class"].item() == pytest.approx(weight * target_class)
    assert terms["other_classes"].item() == pytest.approx(weight * 8 * other_classes)
