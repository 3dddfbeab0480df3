"""Fidelity against scikit-learn, scipy and slow formulas written out here."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy
from sklearn.metrics import accuracy_score, cohen_kappa_score

from evaluation.problems import one_hot, problem, softmax
from kd_bench.evaluation.fidelity import correctness_kappa, fidelity_metrics, jensen_shannon, kl_divergence, linear_cka
from kd_bench.evaluation.metrics import split_metrics

PAIRS = [(300, 10, 1.0), (300, 10, 6.0), (257, 100, 2.0), (200, 2, 1.0), (1, 6, 1.0)]


def test_fidelity_by_hand():
    """Of eight samples teacher and student are both right on 2, flip 3 down and 1 up, are both wrong on 2."""
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0])
    teacher = one_hot([0, 0, 0, 0, 0, 1, 1, 1])
    student = one_hot([0, 0, 1, 2, 1, 0, 1, 2])
    metrics = fidelity_metrics(student, teacher, targets)
    assert (metrics["teacher_agreement"], metrics["negative_flips"], metrics["positive_flips"]) == (3 / 8, 3 / 8, 1 / 8)
    assert metrics["retention"] == 3 / 5
    assert metrics["retention_over_chance"] == pytest.approx((3 / 8 - 1 / 3) / (5 / 8 - 1 / 3))


def test_retention_is_undefined_when_the_teacher_is_always_wrong():
    fidelity = fidelity_metrics(one_hot([0, 1]), one_hot([1, 2]), torch.tensor([0, 1]))
    assert fidelity["retention"] is None
    assert fidelity["retention_over_chance"] is None
    assert fidelity["positive_flips"] == 1.0


@pytest.mark.parametrize("seed", range(5))
def test_flips_balance_the_difference_of_accuracies(seed):
    student, targets = problem(400, 10, 0.5, seed)
    teacher, _ = problem(400, 10, 0.5, seed + 100)
    teacher[torch.arange(400), targets] += 0.7
    metrics = split_metrics(student, targets, teacher)
    difference = accuracy_score(targets, student.argmax(1)) - accuracy_score(targets, teacher.argmax(1))
    assert metrics.positive_flips - metrics.negative_flips == pytest.approx(difference, abs=1e-12)
    assert metrics.retention == pytest.approx(metrics.top1 / accuracy_score(targets, teacher.argmax(1)))


def test_retention_over_chance_is_undefined_of_a_teacher_at_chance_and_negative_below_it():
    targets = torch.tensor([0, 0, 1, 1])
    chance, perfect, worse = one_hot([0, 1, 0, 1], 2), one_hot([0, 0, 1, 1], 2), one_hot([0, 1, 0, 0], 2)
    assert fidelity_metrics(perfect, chance, targets)["retention_over_chance"] is None
    assert fidelity_metrics(worse, perfect, targets)["retention_over_chance"] == pytest.approx(-0.5)


@pytest.mark.parametrize(("samples", "classes", "scale"), PAIRS)
def test_kl_divergence_is_scipys_from_teacher_to_student(samples, classes, scale):
    student, teacher = (problem(samples, classes, scale, seed)[0] for seed in (0, 1))
    expected = entropy(softmax(teacher), softmax(student), axis=1).mean()
    assert kl_divergence(teacher, student) == pytest.approx(expected, rel=1e-9)
    if samples > 1:
        assert kl_divergence(student, teacher) != pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("samples", "classes", "scale"), PAIRS)
def test_jensen_shannon_divergence_is_scipys_distance_squared(samples, classes, scale):
    student, teacher = (problem(samples, classes, scale, seed)[0] for seed in (0, 1))
    expected = (jensenshannon(softmax(teacher), softmax(student), axis=1) ** 2).mean()
    assert jensen_shannon(teacher, student) == pytest.approx(expected, rel=1e-7)
    assert jensen_shannon(student, teacher) == pytest.approx(expected, rel=1e-7)


def test_divergences_at_their_ends():
    one, other = torch.tensor([[1000.0, 0.0]]), torch.tensor([[0.0, 1000.0]])
    assert kl_divergence(one, other) == pytest.approx(1000)  # finite, although the probability is 0 in any float
    assert jensen_shannon(one, other) == pytest.approx(math.log(2))
    logits, _ = problem(50, 10, 3.0)
    assert kl_divergence(logits, logits) == 0
    assert jensen_shannon(logits, logits) == pytest.approx(0, abs=1e-15)


def test_divergence_is_a_sum_over_samples_and_no_mean_of_batch_means():
    student, teacher = (problem(513, 10, 2.0, seed)[0] for seed in (0, 1))
    whole = kl_divergence(teacher, student)
    batches = [kl_divergence(*parts) for parts in zip(teacher.split(512), student.split(512), strict=True)]
    assert whole == pytest.approx((512 * batches[0] + batches[1]) / 513)
    assert whole != pytest.approx(sum(batches) / 2, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_kappa_of_being_right_is_scikit_learns(seed):
    student, targets = problem(200, 10, 0.7, seed)
    teacher, _ = problem(200, 10, 0.7, seed + 10)
    teacher[torch.arange(200), targets] += 1
    first, second = student.argmax(1) == targets, teacher.argmax(1) == targets
    expected = cohen_kappa_score(first, second)
    assert correctness_kappa(first, second) == pytest.approx(expected, abs=1e-12)
    assert fidelity_metrics(student, teacher, targets)["correctness_kappa"] == pytest.approx(expected, abs=1e-12)


def test_kappa_at_its_limits():
    mixed, right = torch.tensor([True, False, True, False]), torch.ones(4, dtype=torch.bool)
    assert correctness_kappa(mixed, mixed) == 1
    assert correctness_kappa(mixed, ~mixed) == -1
    assert correctness_kappa(mixed, right) == 0
    assert correctness_kappa(right, right) is None
    assert correctness_kappa(~right, ~right) is None


def slow_cka(first: np.ndarray, second: np.ndarray) -> float:
    """Kornblith et al. 2019 by Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), HSIC = tr(K H L H)."""
    samples = len(first)
    centering = np.eye(samples) - np.full((samples, samples), 1 / samples)

    def hsic(one: np.ndarray, other: np.ndarray) -> float:
        return np.trace(one @ one.T @ centering @ other @ other.T @ centering)

    return hsic(first, second) / math.sqrt(hsic(first, first) * hsic(second, second))


@pytest.mark.parametrize(("samples", "ours", "theirs"), [(50, 7, 12), (20, 40, 30), (100, 3, 3)])
def test_cka_is_that_of_gram_matrices(samples, ours, theirs):
    generator = torch.Generator().manual_seed(0)
    first = 5 + torch.randn(samples, ours, generator=generator)
    second = first[:, :1] * torch.randn(1, theirs, generator=generator)
    second = second + torch.randn(samples, theirs, generator=generator)
    assert linear_cka(first, second) == pytest.approx(slow_cka(first.double().numpy(), second.double().numpy()))


def test_cka_does_not_see_rotation_scale_and_shift_but_a_stretch():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, 8, generator=generator).double()
    rotation, _ = torch.linalg.qr(torch.randn(8, 8, generator=generator).double())
    assert linear_cka(values, 3 * values @ rotation + 7) == pytest.approx(1)
    assert linear_cka(values, values * torch.logspace(0, 2, 8)) < 0.9


def test_cka_of_unrelated_embeddings_is_high_with_few_samples():
    """The trap: it needs many more samples than dimensions."""
    few, many = (
        linear_cka(*(torch.randn(samples, 64, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)))
        for samples in (20, 5000)
    )
    assert few > 0.7
    assert many < 0.02


def test_cka_of_a_constant_embedding_is_undefined():
    assert linear_cka(torch.ones(10, 4), torch.randn(10, 4)) is None
