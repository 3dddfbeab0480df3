"""NormKD against sums over classes, one sample at a time."""

import statistics

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st

from kd_bench.methods.normkd import NormKD, normkd_loss

from . import slow
from .slow import random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)
shapes = st.tuples(st.integers(1, 5), st.integers(3, 6))
norms = st.sampled_from([0.5, 1.0, 2.0])


@reproducible
@given(shapes, seeds, norms)
def test_each_sample_of_each_network_has_its_own_temperature(shape, seed, norm):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    samples = []
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        own_temperature, other_temperature = (norm * statistics.stdev(row) for row in (own, other))
        softened = [value / own_temperature for value in own], [value / other_temperature for value in other]
        samples.append(other_temperature**2 * slow.kl([softened[0]], [softened[1]]))
    expected = slow.mean(samples)
    assert normkd_loss(student, teacher, norm).item() == pytest.approx(expected, rel=1e-9)

    terms = run(NormKD(0.1, 0.9, norm), on_logits(student), on_logits(teacher), labels)
    assert terms["ce"].item() == pytest.approx(0.1 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["kd"].item() == pytest.approx(0.9 * expected, rel=1e-9)


def test_the_students_scale_is_free_and_has_no_gradient():
    student, teacher = random_logits((4, 5), 0).requires_grad_(), random_logits((4, 5), 1)
    loss = normkd_loss(student, teacher, 2.0)
    assert normkd_loss(5 * student, teacher, 2.0).item() == pytest.approx(loss.item(), rel=1e-9)
    (gradient,) = torch.autograd.grad(loss, student)
    centered = student.detach() - student.detach().mean(dim=1, keepdim=True)
    assert (gradient * centered).sum(dim=1).tolist() == pytest.approx([0.0] * 4, abs=1e-12)
    assert gradient.any()


def test_logits_that_are_all_alike_give_finite_gradients():
    student = torch.zeros(2, 4, requires_grad=True)
    loss = normkd_loss(student, random_logits((2, 4), 0).float(), 2.0)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
