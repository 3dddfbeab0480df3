"""Each metric against scikit-learn, or against a slow formula written out here."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score

from kd_bench.errors import Diverged
from kd_bench.evaluation.metrics import (
    accuracy,
    ece_noise_floor,
    expected_calibration_error,
    fidelity_metrics,
    negative_log_likelihood,
    split_metrics,
)

BINS = 15


def problem(samples: int, classes: int, scale: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of a model that is right more often than not."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, classes, (samples,), generator=generator)
    logits = scale * torch.randn(samples, classes, generator=generator)
    logits[torch.arange(samples), targets] += scale
    return logits, targets


PROBLEMS = [(300, 10, 1.0), (300, 10, 6.0), (257, 100, 2.0), (200, 2, 1.0), (50, 3, 0.1), (1, 6, 1.0)]


def softmax(logits: torch.Tensor) -> np.ndarray:
    values = logits.double().numpy()
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def slow_ece(confidences, correct) -> float:
    """Guo et al. 2017, equation 3, sample by sample. An edge belongs to the upper bin, 1 to the last one."""
    total = 0.0
    for bin_ in range(BINS):
        inside = [
            (confidence, right)
            for confidence, right in zip(confidences, correct, strict=True)
            if min(int(confidence * BINS), BINS - 1) == bin_
        ]
        if inside:
            mean_confidence = sum(confidence for confidence, _ in inside) / len(inside)
            share_right = sum(bool(right) for _, right in inside) / len(inside)
            total += len(inside) / len(confidences) * abs(mean_confidence - share_right)
    return total


def with_confidence(confidences: np.ndarray, classes: int) -> torch.Tensor:
    """Logits whose softmax gives class 0 these probabilities and shares the rest evenly."""
    rest = np.log((1 - confidences) / (classes - 1))
    return torch.from_numpy(np.column_stack([np.log(confidences), *[rest] * (classes - 1)]))


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_accuracy_is_scikit_learns(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    assert accuracy(logits, targets) == accuracy_score(targets, logits.argmax(1))
    if classes > 5:
        expected = top_k_accuracy_score(targets, logits.numpy(), k=5, labels=range(classes))
        assert accuracy(logits, targets, k=5) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_negative_log_likelihood_is_scikit_learns(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    expected = log_loss(targets, softmax(logits), labels=range(classes))
    assert negative_log_likelihood(logits, targets) == pytest.approx(expected, rel=1e-9)


def test_negative_log_likelihood_survives_confident_mistakes():
    """p = exp(-200) is no float32: the value is the margin of the logits, not infinity."""
    assert negative_log_likelihood(torch.tensor([[200.0, 0.0]]), torch.tensor([1])) == pytest.approx(200.0)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_calibration_error_is_the_slow_loop(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    probabilities = softmax(logits)
    correct = probabilities.argmax(1) == targets.numpy()
    expected = slow_ece(probabilities.max(1), correct)
    assert expected_calibration_error(logits, targets) == pytest.approx(expected, abs=1e-6)


def test_calibration_error_by_hand():
    """Confidences 0.9 (right), 0.9 (wrong), 0.5 (right): 2/3 * |0.9 - 0.5| + 1/3 * |0.5 - 1|."""
    logits = with_confidence(np.array([0.9, 0.9, 0.5]), classes=3)
    targets = torch.tensor([0, 1, 0])
    assert expected_calibration_error(logits, targets) == pytest.approx(2 / 3 * 0.4 + 1 / 3 * 0.5)


def test_a_confidence_of_one_is_in_the_last_bin():
    """Softmax saturates: 1 and 0.97 are one bin, in which one of two is right."""
    logits = torch.cat([torch.tensor([[100.0, 0.0, 0.0]]).double(), with_confidence(np.array([0.97]), 3)])
    targets = torch.tensor([1, 0])
    assert softmax(logits)[0].max() == 1.0
    assert expected_calibration_error(logits, targets) == pytest.approx(abs((1 + 0.97) / 2 - 0.5))


def test_logits_within_zero_and_one_are_not_taken_for_probabilities():
    logits = torch.rand(500, 10, generator=torch.Generator().manual_seed(0))
    targets = logits.argmax(1)
    probabilities = softmax(logits)
    assert probabilities.max() < 0.3
    expected = slow_ece(probabilities.max(1), [True] * 500)
    assert expected > 0.8  # as probabilities they would look confident, with an error of about 0.1
    assert expected_calibration_error(logits, targets) == pytest.approx(expected, abs=1e-6)
    assert split_metrics(logits, targets, None).ece == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS[:4])
def test_noise_floor_is_the_slow_error_of_simulated_calibrated_models(samples, classes, scale):
    logits, _ = problem(samples, classes, scale)
    confidences = softmax(logits).max(1)
    generator = np.random.default_rng(0)
    draws = [slow_ece(confidences, generator.random(samples) < confidences) for _ in range(100)]
    assert ece_noise_floor(logits) == pytest.approx(np.mean(draws), abs=4 * np.std(draws) / math.sqrt(60))


@pytest.mark.parametrize(("samples", "published"), [(200, 0.068), (1_000, 0.031), (10_000, 0.0096), (50_000, 0.0044)])
def test_noise_floor_has_the_size_that_is_published_for_it(samples, published):
    confidences = np.random.default_rng(0).uniform(0.2, 1, samples)
    assert published / 1.5 < ece_noise_floor(with_confidence(confidences, 10)) < published * 1.5


def test_noise_floor_is_repeatable_and_leaves_the_global_generator_alone():
    logits, _ = problem(300, 10, 1.0)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = ece_noise_floor(logits)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert ece_noise_floor(logits) == first


def test_noise_floor_of_certainty_is_zero():
    assert ece_noise_floor(torch.tensor([[1000.0, 0.0]] * 10)) == 0.0


def one_hot(classes: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_fidelity_by_hand():
    """Of eight samples teacher and student are both right on 2, flip 3 down and 1 up, are both wrong on 2."""
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0])
    teacher = one_hot([0, 0, 0, 0, 0, 1, 1, 1])
    student = one_hot([0, 0, 1, 2, 1, 0, 1, 2])
    assert fidelity_metrics(student, teacher, targets) == {
        "teacher_agreement": 3 / 8,
        "negative_flips": 3 / 8,
        "positive_flips": 1 / 8,
        "retention": 3 / 5,
    }


def test_retention_is_undefined_when_the_teacher_is_always_wrong():
    fidelity = fidelity_metrics(one_hot([0, 1]), one_hot([1, 2]), torch.tensor([0, 1]))
    assert fidelity["retention"] is None
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


def test_split_metrics_puts_each_metric_in_its_place():
    logits, targets = problem(300, 10, 1.0)
    teacher, _ = problem(300, 10, 1.0, seed=1)
    metrics = split_metrics(logits, targets, teacher)
    assert metrics.top1 == accuracy(logits, targets)
    assert metrics.top5 == accuracy(logits, targets, k=5) > metrics.top1
    assert metrics.nll == negative_log_likelihood(logits, targets)
    assert metrics.ece == expected_calibration_error(logits, targets)
    assert metrics.ece_noise_floor == ece_noise_floor(logits)
    assert metrics.teacher_agreement == float((logits.argmax(1) == teacher.argmax(1)).double().mean())


@pytest.mark.parametrize(("classes", "measured"), [(2, False), (5, False), (6, True)])
def test_top5_means_something_with_more_than_five_classes_only(classes, measured):
    logits, targets = problem(100, classes, 1.0)
    assert (split_metrics(logits, targets, None).top5 is not None) is measured


def test_without_a_teacher_nothing_refers_to_one():
    logits, targets = problem(100, 10, 1.0)
    metrics = split_metrics(logits, targets, None)
    names = ("teacher_agreement", "negative_flips", "positive_flips", "retention")
    assert [getattr(metrics, name) for name in names] == [None] * 4


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("whose", ["student", "teacher"])
def test_logits_that_are_not_finite_are_refused(whose, value):
    """Some metrics improve with NaN: argmax of NaN is class 0, and a calibration error skips it."""
    logits, targets = problem(100, 10, 1.0)
    broken = logits.clone()
    broken[3, 4] = value
    student, teacher = (broken, logits) if whose == "student" else (logits, broken)
    with pytest.raises(Diverged, match=f"^the {whose}'s logits are not finite: no metric is computed$"):
        split_metrics(student, targets, teacher)
