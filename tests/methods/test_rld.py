"""RLD against sums over classes, and where the teacher contradicts the label."""

import math

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.base import Requirements
from kd_bench.methods.rld import RLD, masked_correlation_loss, sample_confidence_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)
temperatures = st.sampled_from([0.5, 1.0, 4.0])


def confidence(own: list[float], other: list[float], label: int, temperature: float) -> float:
    student, teacher = slow.softmax(own, temperature)[label], max(slow.softmax(other, temperature))
    pairs = ((teacher, student), (1 - teacher, 1 - student))
    return temperature**2 * math.fsum(p * math.log(p / q) for p, q in pairs)


def correlation(own: list[float], other: list[float], label: int, temperature: float) -> float:
    kept = [k for k in range(len(own)) if other[k] < other[label]]
    if not kept:
        return 0.0
    return temperature**2 * slow.kl([[own[k] for k in kept]], [[other[k] for k in kept]], temperature)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_both_terms_are_the_published_sums(shape, seed, temperature):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    samples = list(zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True))
    sure = slow.mean([confidence(*sample, temperature) for sample in samples])
    ranked = slow.mean([correlation(*sample, temperature) for sample in samples])
    assert sample_confidence_loss(student, teacher, labels, temperature).item() == pytest.approx(sure, rel=1e-7)
    assert masked_correlation_loss(student, teacher, labels, temperature).item() == pytest.approx(
        ranked, rel=1e-9, abs=1e-12
    )

    terms = run(
        RLD(0.5, 2.0, 3.0, temperature, temperature, warmup_epochs=4), on_logits(student), on_logits(teacher), labels
    )
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["confidence"].item() == pytest.approx(2 / 4 * sure, rel=1e-7)
    assert terms["correlation"].item() == pytest.approx(3 / 4 * ranked, abs=1e-12)


def test_a_label_that_the_teacher_ranks_last_leaves_no_class_to_compare():
    student = random_logits((1, 5), 0).requires_grad_()
    teacher = torch.tensor([[3.0, 2.0, -1.0, 2.5, 0.0]], dtype=torch.float64)
    loss = masked_correlation_loss(student, teacher, torch.tensor([2]), 4.0)
    loss.backward()
    assert loss.item() == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_a_wrong_teacher_teaches_its_confidence_and_not_its_class():
    teacher = torch.tensor([[4.0, 1.0, 0.0]], dtype=torch.float64)  # sure of class 0
    label = torch.tensor([1])
    student = torch.tensor([[1.0, 4.0, 0.0]], dtype=torch.float64)  # as sure of the label
    assert sample_confidence_loss(student, teacher, label, 1.0).item() == pytest.approx(0, abs=1e-12)
    assert masked_correlation_loss(student, teacher, label, 1.0).item() == pytest.approx(0, abs=1e-12)


def test_standardized_logits_know_no_scale():
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    method = RLD(1.0, 1.0, 8.0, 4.0, 1.0, 1, standardize_logits=True)
    assert method.requires == Requirements(min_classes=3)
    once, scaled = (
        run(method, on_logits(factor * student), on_logits(teacher), labels)["correlation"].item()
        for factor in (1.0, 7.0)
    )
    assert scaled == pytest.approx(once, rel=1e-6)
