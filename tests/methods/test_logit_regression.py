"""Least squares on logits against a sum over samples and classes."""

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.logit_regression import LogitRegression, logit_regression_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)


@reproducible
@given(SHAPES, seeds)
def test_half_the_squared_distance_of_each_sample(shape, seed):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    distances = [
        sum((own - other) ** 2 for own, other in zip(*rows, strict=True))
        for rows in zip(student.tolist(), teacher.tolist(), strict=True)
    ]
    terms = run(LogitRegression(0.25, 3.0), on_logits(student), on_logits(teacher), labels=labels)
    assert terms["regression"].item() == pytest.approx(3 * slow.mean(distances) / 2, rel=1e-9)
    assert terms["ce"].item() == pytest.approx(0.25 * slow.cross_entropy(student.tolist(), labels.tolist()), rel=1e-9)


@reproducible
@given(SHAPES, seeds)
def test_the_gradient_is_the_difference(shape, seed):
    student, teacher = random_logits(shape, seed).requires_grad_(), random_logits(shape, seed + 1)
    logit_regression_loss(student, teacher).backward()
    torch.testing.assert_close(student.grad, (student.detach() - teacher) / shape[0])
