"""IKL and GKL against sums over all pairs of classes, and the class weights of the epoch before."""

import math
from types import SimpleNamespace

import pytest
import torch
from golden_rows.given import on_logits
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.methods.gkl import GKL, gkl_loss
from kd_bench.methods.ikl import IKL, ikl_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)


def pairs(own: list[float], other: list[float], weights: list[float]) -> float:
    classes = range(len(own))
    return 0.25 * math.fsum(
        weights[i] * weights[j] * ((other[i] - other[j]) - (own[i] - own[j])) ** 2 for i in classes for j in classes
    )


@reproducible
@given(SHAPES, seeds)
def test_ikl_compares_all_differences_of_logits(shape, seed):
    student, teacher, weights = (random_logits(shape, seed + i) for i in range(3))
    weights = weights.softmax(dim=1)
    samples = [pairs(*rows) for rows in zip(student.tolist(), teacher.tolist(), weights.tolist(), strict=True)]
    assert ikl_loss(student, teacher, weights).item() == pytest.approx(slow.mean(samples), rel=1e-9)
    shifted = student + torch.arange(shape[0])[:, None]
    assert ikl_loss(shifted, teacher, weights).item() == pytest.approx(slow.mean(samples), rel=1e-9)


@reproducible
@given(SHAPES, seeds, st.sampled_from([0.0, 0.1, 1.0]))
def test_gkl_divides_by_all_weights_of_the_batch(shape, seed, exponent):
    student, teacher, weights = (random_logits(shape, seed + i) for i in range(3))
    weights = weights.softmax(dim=1)
    powers = [[weight**exponent for weight in row] for row in weights.tolist()]
    samples = [pairs(*rows) for rows in zip(student.tolist(), teacher.tolist(), powers, strict=True)]
    expected = math.fsum(samples) / math.fsum(sum(row) ** 2 for row in powers)
    assert gkl_loss(student, teacher, weights, exponent).item() == pytest.approx(expected, rel=1e-9)


def test_a_quarter_of_the_squares_has_the_gradient_of_kl_where_weights_are_the_teachers():
    """The identity that IKL takes apart: gradients of KL are those of the soft and the pairwise error together."""
    teacher = random_logits((5, 6), 0)
    student = (teacher + 1e-4 * random_logits((5, 6), 1)).requires_grad_()
    weights = teacher.softmax(dim=1)
    (pairwise,) = torch.autograd.grad(ikl_loss(student, teacher, weights), student)
    divergence = F.kl_div(student.log_softmax(dim=1), weights, reduction="batchmean")
    (expected,) = torch.autograd.grad(divergence, student)
    torch.testing.assert_close(pairwise, expected, rtol=1e-3, atol=1e-8)  # to first order of the difference


def made(global_weights: bool) -> IKL:
    method = IKL(0.5, 2.0, 3.0, 4.0, 1.5, global_weights, warmup_epochs=2)
    method.build_adapters(None, None, SimpleNamespace(num_classes=4))  # type: ignore[arg-type]
    return method


def terms(method: IKL, student: Tensor, teacher: Tensor, labels: Tensor, epoch: int) -> dict[str, Tensor]:
    progress = Progress(epoch, 9, 0, 90)
    return method(on_logits(student), on_logits(teacher), Batch(labels, labels, labels), progress)


def test_terms_carry_their_weights():
    student, teacher, labels = random_logits((5, 4), 0), random_logits((5, 4), 1), random_labels((5, 4), 2)
    found = terms(made(False), student, teacher, labels, epoch=0)
    softened = [[value / 4 for value in row] for row in teacher.tolist()]
    soft = slow.kl(student.tolist(), teacher.tolist(), 4.0) + slow.entropy(softened)
    weights = [slow.softmax(row, 1.5) for row in teacher.tolist()]
    samples = [pairs(*rows) for rows in zip(student.tolist(), teacher.tolist(), weights, strict=True)]
    assert found["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert found["soft"].item() == pytest.approx(0.5 * 2 * soft)
    assert found["pairwise"].item() == pytest.approx(0.5 * 3 * slow.mean(samples))


def test_class_weights_are_the_means_of_the_epoch_before():
    method = made(True)
    student, labels = random_logits((5, 4), 0), torch.tensor([0, 2, 0, 3, 2])  # none of class 1
    batches = [random_logits((5, 4), seed) for seed in (1, 2)]
    for teacher in batches:
        found = terms(method, student, teacher, labels, epoch=0)
        expected = ikl_loss(student, teacher, torch.full((5, 4), 0.25))
        assert found["pairwise"].item() == pytest.approx(0.5 * 3 * expected.item(), rel=1e-6)

    rows: dict[int, list[list[float]]] = {label: [] for label in range(4)}
    for teacher in batches:
        for row, label in zip(teacher.tolist(), labels.tolist(), strict=True):
            rows[label].append(slow.softmax(row, 1.5))
    means = [
        [slow.mean(list(of)) for of in zip(*found, strict=True)] if found else [0.25] * 4 for found in rows.values()
    ]
    anew = torch.tensor([1, 0, 2, 3, 0])
    weights = torch.tensor([means[label] for label in anew.tolist()], dtype=torch.float64)
    found = terms(method, student, batches[0], anew, epoch=1)
    assert found["pairwise"].item() == pytest.approx(3 * ikl_loss(student, batches[0], weights).item(), rel=1e-5)


def test_global_weights_are_a_memory_that_one_process_keeps():
    assert made(True).requires.memory
    assert not made(False).requires.memory
    assert not list(made(False).buffers())


def test_gkl_is_ikl_but_for_its_second_term():
    student, teacher, labels = random_logits((5, 4), 0), random_logits((5, 4), 1), random_labels((5, 4), 2)
    method = GKL(0.5, 2.0, 3.0, 4.0, 1.5, 0.2, False, warmup_epochs=2)
    found, alike = terms(method, student, teacher, labels, 0), terms(made(False), student, teacher, labels, 0)
    assert {name: found[name].item() for name in ("ce", "soft")} == {
        name: alike[name].item() for name in ("ce", "soft")
    }
    weights = (teacher / 1.5).softmax(dim=1)
    assert found["pairwise"].item() == pytest.approx(0.5 * 3 * gkl_loss(student, teacher, weights, 0.2).item())
