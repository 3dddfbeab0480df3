"""Normalized knowledge distillation against sums over classes."""

import math

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.dkd import other_classes_loss
from kd_bench.methods.nkd import NKD, normalized_others_loss, soft_target_loss

from . import slow
from .slow import random_labels, random_logits, reproducible

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6))
seeds = st.integers(0, 1000)
temperatures = st.sampled_from([0.5, 1.0, 3.0])


@reproducible
@given(SHAPES, seeds, temperatures)
def test_both_parts_are_the_published_sums(shape, seed, temperature):
    """The other classes' probabilities are those of the softmax over all, divided by their sum."""
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    target_parts, other_parts = [], []
    for own, other, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        target_parts.append(-slow.softmax(other)[label] * slow.log_softmax(own)[label])
        p, q = slow.softmax(other, temperature), slow.softmax(own, temperature)
        rest = [k for k in range(shape[1]) if k != label]
        p_sum, q_sum = (math.fsum(values[k] for k in rest) for values in (p, q))
        other_parts.append(-math.fsum(p[k] / p_sum * math.log(q[k] / q_sum) for k in rest))
    assert soft_target_loss(student, teacher, labels).item() == pytest.approx(slow.mean(target_parts), rel=1e-9)
    expected = temperature**2 * slow.mean(other_parts)
    result = normalized_others_loss(student, teacher, labels, temperature).item()
    assert result == pytest.approx(expected, rel=1e-6, abs=1e-9)

    terms = run(NKD(0.5, 2.0, 1.5, temperature), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["soft_target"].item() == pytest.approx(2 * slow.mean(target_parts))
    assert terms["others"].item() == pytest.approx(1.5 * expected, rel=1e-6, abs=1e-9)


@reproducible
@given(st.tuples(st.integers(1, 5), st.integers(3, 6)), seeds, temperatures)
def test_the_gradient_of_the_second_part_is_that_of_dkd(shape, seed, temperature):
    student, teacher = random_logits(shape, seed).requires_grad_(), random_logits(shape, seed + 1)
    labels = random_labels(shape, seed)
    gradients = [
        torch.autograd.grad(loss(student, teacher, labels, temperature), student)[0]
        for loss in (normalized_others_loss, other_classes_loss)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)
