"""Born-Again networks against the definition of cross-entropy."""

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from kd_bench.methods.born_again import BornAgain, born_again_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible


@reproducible
@given(SHAPES, st.integers(0, 1000))
def test_born_again_is_kl_plus_the_teachers_entropy(shape, seed):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = slow.kl(student.tolist(), teacher.tolist()) + slow.entropy(teacher.tolist())
    assert born_again_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@reproducible
@given(SHAPES, st.integers(0, 1000))
def test_its_gradient_is_that_of_the_kl_divergence_at_temperature_one(shape, seed):
    student, teacher = random_logits(shape, seed).requires_grad_(), random_logits(shape, seed + 1)
    (ours,) = torch.autograd.grad(born_again_loss(student, teacher), student)
    divergence = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    (expected,) = torch.autograd.grad(divergence, student)
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("soft_weight", "ce_weight"), [(1.0, 0.0), (0.5, 2.0)])
def test_terms_carry_their_weights(soft_weight, ce_weight):
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    terms = run(BornAgain(soft_weight, ce_weight), on_logits(student), on_logits(teacher), labels=labels)
    soft = slow.kl(student.tolist(), teacher.tolist()) + slow.entropy(teacher.tolist())
    assert list(terms) == ["ce", "soft"]
    assert terms["soft"].item() == pytest.approx(soft_weight * soft)
    assert terms["ce"].item() == pytest.approx(ce_weight * slow.cross_entropy(student.tolist(), labels.tolist()))
