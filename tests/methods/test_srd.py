"""SRD: both released losses against loops, and what the teacher of a student with two heads teaches."""

import math
import statistics

import pytest
import torch
from golden_rows.given import on_logits, run

from kd_bench.methods.srd import SRD, correlation_loss, difference_loss, normalized
from kd_bench.models.features import Outputs

from .slow import cross_entropy, kl, random_labels, random_logits


def slow_normalized(values: list[list[float]], eps: float) -> list[list[float]]:
    columns = list(zip(*values, strict=True))
    means, variances = [statistics.fmean(c) for c in columns], [statistics.pvariance(c) for c in columns]
    return [[(x - m) / math.sqrt(v + eps) for x, m, v in zip(row, means, variances, strict=True)] for row in values]


def test_the_difference_is_the_logarithm_of_a_sum_of_fourth_powers():
    own, other = random_logits((5, 4), 0), random_logits((5, 4), 1)
    rows = zip(slow_normalized(own.tolist(), 1e-4), slow_normalized(other.tolist(), 1e-4), strict=True)
    total = math.fsum(abs(a - b) ** 4 for one, two in rows for a, b in zip(one, two, strict=True))
    assert difference_loss(own, other, 4.0).item() == pytest.approx(math.log(total), rel=1e-9)


def test_the_correlation_is_that_of_each_dimension():
    own, other = random_logits((5, 4), 0), random_logits((5, 4), 1)
    correlations = [statistics.correlation(own[:, d].tolist(), other[:, d].tolist()) for d in range(4)]
    wanted = math.log(math.fsum((1 - c) ** 4 for c in correlations) + 1e-5)
    assert correlation_loss(own, other, 4.0).item() == pytest.approx(wanted, rel=1e-9)
    assert correlation_loss(own, own, 4.0).item() == pytest.approx(math.log(1e-5), rel=1e-9)


def test_a_dimension_without_variance_is_zero():
    constant = torch.ones(4, 2)
    assert not normalized(constant, 1e-12).any()


def test_a_distillation_head_learns_from_the_teacher_and_the_other_from_labels():
    embedding, labels = random_logits((6, 3), 0).float(), random_labels((6, 5), 1)
    first, second, teacher = (random_logits((6, 5), seed) for seed in (2, 3, 4))
    method = SRD(1.0, 1.0, 1.0, 0.0, "correlation", 4.0)
    method.projection = torch.nn.Linear(3, 3)
    student = Outputs((first + second) / 2, [], embedding, heads=[first, second])
    terms = run(method, student, on_logits(teacher)._replace(embedding=embedding), labels)
    assert terms["ce"].item() == pytest.approx(cross_entropy(first.tolist(), labels.tolist()), rel=1e-9)
    assert terms["kd"].item() == pytest.approx(kl(second.tolist(), teacher.tolist()), rel=1e-9)
    alone = run(method, student._replace(heads=None), on_logits(teacher)._replace(embedding=embedding), labels)
    assert alone["kd"].item() == pytest.approx(kl(student.logits.tolist(), teacher.tolist()), rel=1e-9)
