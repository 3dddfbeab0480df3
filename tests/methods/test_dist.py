"""DIST against scipy's correlation of each row and each column."""

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr

from kd_bench.methods.dist import DIST, dist_losses

from . import slow
from .slow import random_labels, random_logits, reproducible

SHAPES = st.tuples(st.integers(3, 6), st.integers(3, 6))
seeds = st.integers(0, 1000)


def slow_dist(student: list[list[float]], teacher: list[list[float]], temperature: float) -> tuple[float, float]:
    own, other = ([slow.softmax(row, temperature) for row in rows] for rows in (student, teacher))
    columns = [list(zip(*rows, strict=True)) for rows in (own, other)]
    inter = 1 - slow.mean([pearsonr(*rows).statistic for rows in zip(own, other, strict=True)])
    intra = 1 - slow.mean([pearsonr(*pair).statistic for pair in zip(*columns, strict=True)])
    return temperature**2 * inter, temperature**2 * intra


@reproducible
@given(SHAPES, seeds, st.sampled_from([1.0, 4.0]))
def test_both_relations_are_one_minus_scipys_correlation(shape, seed, temperature):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    inter, intra = dist_losses(student, teacher, temperature)
    expected = slow_dist(student.tolist(), teacher.tolist(), temperature)
    # The epsilon of the authors' code makes the correlation of classes that hardly vary smaller.
    assert inter.item() == pytest.approx(expected[0], rel=1e-4, abs=1e-4)
    assert intra.item() == pytest.approx(expected[1], rel=1e-2, abs=1e-2)


@reproducible
@given(SHAPES, seeds)
def test_a_linear_change_of_the_probabilities_is_no_difference(shape, seed):
    """Huang et al. 2022: the relation is kept by any positive scale and shift of a row, unlike KL."""
    teacher = random_logits(shape, seed, scale=1.0).softmax(dim=1)
    flatter = 0.3 * teacher + 0.7 / shape[1]
    assert dist_losses(flatter.log(), teacher.log(), 1.0)[0].item() == pytest.approx(0, abs=1e-4)
    assert dist_losses(teacher.log(), teacher.log(), 1.0)[1].item() == pytest.approx(0, abs=1e-3)


def test_predictions_that_do_not_vary_give_finite_gradients():
    student = torch.zeros(4, 3, requires_grad=True)
    loss = torch.stack(dist_losses(student, random_logits((4, 3), 0).float(), 4.0)).sum()
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_dist_weighs_its_terms():
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    terms = run(DIST(0.5, 2.0, 3.0, 4.0), on_logits(student), on_logits(teacher), labels=labels)
    inter, intra = dist_losses(student, teacher, 4.0)
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["inter_class"].item() == pytest.approx(2 * inter.item())
    assert terms["intra_class"].item() == pytest.approx(3 * intra.item())
