"""Multi-level logit distillation against loops over samples, classes and temperatures."""

import pytest
import torch
from golden_rows.logits import terms_of
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_bench.methods.mlld import MLLD, gram_distance, level_losses, unsure_shares

from . import slow
from .slow import random_labels, random_logits, reproducible

SHAPES = st.tuples(st.integers(1, 5), st.integers(2, 6))
seeds = st.integers(0, 1000)


def slow_gram_distance(student: list[list[float]], teacher: list[list[float]]) -> float:
    """Over all pairs of rows, the squared difference of their products, per row."""
    size = range(len(student))
    products = [
        [[sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) for j in size] for i in size]
        for rows in (student, teacher)
    ]
    return sum((products[0][i][j] - products[1][i][j]) ** 2 for i in size for j in size) / len(student)


def transposed(rows: list[list[float]]) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def probabilities(logits: Tensor, temperature: float) -> list[list[float]]:
    return [slow.softmax(row, temperature) for row in logits.tolist()]


def median(values: list[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(values) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


@reproducible
@given(SHAPES, seeds, st.sampled_from([1.0, 4.0]))
def test_levels_compare_products_of_classes_and_of_samples(shape, seed, temperature):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    own, other = probabilities(student, temperature), probabilities(teacher, temperature)
    classes, samples = level_losses(student, teacher, temperature)
    assert classes.item() == pytest.approx(slow_gram_distance(transposed(own), transposed(other)), rel=1e-9)
    assert samples.item() == pytest.approx(slow_gram_distance(own, other), rel=1e-9)


@reproducible
@given(SHAPES, seeds)
def test_levels_do_not_know_the_order_of_what_they_do_not_compare(shape, seed):
    """Zero for equal predictions; the batch level is the same if both networks' classes are permuted."""
    student, teacher = (random_logits(shape, seed + i).softmax(dim=1) for i in (0, 1))
    order = torch.randperm(shape[1], generator=torch.Generator().manual_seed(seed))
    assert gram_distance(teacher, teacher).item() == 0
    permuted = gram_distance(student[:, order], teacher[:, order])
    assert permuted.item() == pytest.approx(gram_distance(student, teacher).item(), rel=1e-9)


@pytest.mark.parametrize("shape", [(6, 4), (5, 7)])
def test_the_total_is_that_of_the_authors_code(shape):
    """The share of unsure samples and classes is a factor, and the first view stands in for the second at 2 and 6."""
    first, second = (random_logits(shape, i) for i in (0, 1))
    first_teacher, second_teacher = (random_logits(shape, i) for i in (2, 3))
    labels = random_labels(shape, 4)
    method = MLLD(0.1, 0.9, temperatures=[4.0, 3.0, 5.0], weak_temperatures=[2.0, 6.0])
    views = {
        "student_logits": torch.cat([first, second]),
        "teacher_logits": torch.cat([first_teacher, second_teacher]),
        "labels": labels,
    }
    terms = terms_of(method, views)

    sure = probabilities(first_teacher, 1.0)
    confidence = [max(row) for row in sure], [sum(column) for column in transposed(sure)]
    samples, classes = (sum(v <= median(values) for v in values) / len(values) for values in confidence)
    assert [share.item() for share in unsure_shares(first_teacher)] == pytest.approx([samples, classes])
    kd = {
        (view, t): t**2 * slow.kl(own.tolist(), other.tolist(), t)
        for view, own, other in [(1, first, first_teacher), (2, second, second_teacher)]
        for t in (2, 3, 4, 5, 6)
    }
    instance = samples * sum(kd[1, t] for t in (2, 3, 4, 5, 6))
    instance += kd[2, 3] + kd[2, 4] + kd[2, 5] + kd[1, 2] + kd[1, 6]
    levels = [
        (slow_gram_distance(transposed(own), transposed(other)), slow_gram_distance(own, other))
        for own, other in ((probabilities(first, t), probabilities(first_teacher, t)) for t in (2, 3, 4, 5, 6))
    ]
    ce = [slow.cross_entropy(view.tolist(), labels.tolist()) for view in (first, second)]
    assert terms["ce"].item() == pytest.approx(0.1 * sum(ce), rel=1e-9)
    assert terms["instance"].item() == pytest.approx(0.9 * instance, rel=1e-9)
    assert terms["class"].item() == pytest.approx(0.9 * classes * sum(level[0] for level in levels), rel=1e-9)
    assert terms["batch"].item() == pytest.approx(0.9 * samples * sum(level[1] for level in levels), rel=1e-9)
