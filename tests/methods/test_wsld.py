"""Weighted soft labels against sums over classes."""

import math

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.wsld import WSLD, soft_label_weights, wsld_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)
temperatures = st.sampled_from([0.5, 2.0, 4.0])


def ratio(own: list[float], other: list[float], label: int) -> float:
    return slow.log_softmax(own)[label] / slow.log_softmax(other)[label]


@reproducible
@given(SHAPES, seeds, temperatures)
def test_soft_labels_count_by_the_ratio_of_the_losses(shape, seed, temperature):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    samples = []
    for own, other, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        pairs = zip(slow.softmax(other, temperature), slow.log_softmax(own, temperature), strict=True)
        samples.append((1 - math.exp(-ratio(own, other, label))) * -math.fsum(p * log for p, log in pairs))
    expected = temperature**2 * slow.mean(samples)
    # The authors' 1e-7 beside the teacher's loss shows where that is small.
    assert wsld_loss(student, teacher, labels, temperature).item() == pytest.approx(expected, rel=1e-3, abs=1e-6)

    terms = run(WSLD(0.5, 2.0, temperature), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["soft"].item() == pytest.approx(2 * expected, rel=1e-3, abs=1e-6)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_the_weights_are_constants_of_the_gradient(shape, seed, temperature):
    student, teacher = random_logits(shape, seed).requires_grad_(), random_logits(shape, seed + 1)
    labels = random_labels(shape, seed)
    wsld_loss(student, teacher, labels, temperature).backward()
    weights = soft_label_weights(student, teacher, labels)
    p, q = ((logits.detach() / temperature).softmax(dim=1) for logits in (teacher, student))
    torch.testing.assert_close(student.grad, temperature * weights[:, None] * (q - p) / shape[0], rtol=1e-9, atol=1e-12)


def test_a_student_as_good_as_its_teacher_gets_the_same_weight_on_all_samples():
    logits, labels = random_logits((6, 4), 0), random_labels((6, 4), 1)
    expected = [1 - math.exp(-1)] * 6
    assert soft_label_weights(logits, logits, labels).tolist() == pytest.approx(expected, rel=1e-3)
    perfect = torch.eye(4, dtype=torch.float64)[labels] * 1e3
    assert soft_label_weights(perfect, logits, labels).tolist() == pytest.approx([0.0] * 6)
    assert soft_label_weights(logits, perfect, labels).tolist() == pytest.approx([1.0] * 6)
