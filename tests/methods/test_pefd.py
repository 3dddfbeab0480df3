"""PEFD: its distance against a loop over samples and projectors."""

import math

import pytest
import torch

from kd_bench.methods.pefd import pefd_loss

from .pairs import built
from .slow import mean, random_logits


def test_pefd_is_one_minus_the_cosine_of_the_mean_projection(compose):
    made = built(compose, "pefd")
    batch = made.batch()
    student, teacher = made.outputs(batch)
    losses = []
    for own, other in zip(student.embedding.tolist(), teacher.embedding.tolist(), strict=True):
        projected = [0.0] * len(other)
        for layer in made.method.projectors:
            for d, (row, offset) in enumerate(zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)):
                projected[d] += max(0.0, offset + math.fsum(w * x for w, x in zip(row, own, strict=True))) / 3
        norms = [math.sqrt(math.fsum(value**2 for value in vector)) for vector in (projected, other)]
        losses.append(1 - math.fsum(a * b for a, b in zip(projected, other, strict=True)) / norms[0] / norms[1])
    assert len(made.method.projectors) == 3
    terms = made.terms(False, student, teacher, batch)
    assert terms["direction"].item() == pytest.approx(25 * mean(losses), rel=1e-4)
    assert terms["kd"] == 0


def test_the_projectors_differ(compose):
    first, second, third = (layer.weight for layer in built(compose, "pefd").method.projectors)
    assert not torch.equal(first, second)
    assert not torch.equal(second, third)


def test_lengths_do_not_matter_and_zeros_give_no_nan():
    own, other = random_logits((3, 5), 0), random_logits((3, 5), 1)
    assert pefd_loss(7 * own, other).item() == pytest.approx(pefd_loss(own, 2 * other).item(), rel=1e-9)
    zeros = torch.zeros(3, 5, requires_grad=True)
    loss = pefd_loss(zeros, other.float())
    loss.backward()
    assert loss == 1
    assert zeros.grad.isfinite().all()
