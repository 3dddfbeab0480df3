"""Calibration against scikit-learn, torchmetrics and slow formulas written out here."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from evaluation.problems import BINS, PROBLEMS, problem, softmax, with_confidence
from kd_bench.evaluation.calibration import (
    brier_score,
    calibration_metrics,
    classwise_calibration_error,
    ece_noise_floor,
    equal_mass_calibration_error,
    expected_calibration_error,
    fit_temperature,
    maximum_calibration_error,
    negative_log_likelihood,
    reliability,
)


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
    assert calibration_metrics(logits, targets)["ece"] == pytest.approx(expected, abs=1e-6)


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


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
@pytest.mark.parametrize(("norm", "metric"), [("l1", expected_calibration_error), ("max", maximum_calibration_error)])
def test_equal_width_errors_are_torchmetrics_on_probabilities(samples, classes, scale, norm, metric):
    logits, targets = problem(samples, classes, scale)
    probabilities = torch.from_numpy(softmax(logits)).clamp(max=1 - 2**-23)  # it has a 16th bin for exactly 1
    expected = multiclass_calibration_error(probabilities, targets, classes, n_bins=BINS, norm=norm)
    assert metric(logits, targets) == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_brier_score_is_scikit_learns_sum_over_classes(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    expected = brier_score_loss(targets, softmax(logits), labels=range(classes), scale_by_half=False)
    assert brier_score(logits, targets) == pytest.approx(expected, abs=1e-12)


def test_brier_score_reaches_its_ends():
    logits = torch.tensor([[100.0, 0.0], [100.0, 0.0]])
    assert brier_score(logits, torch.tensor([0, 0])) == pytest.approx(0, abs=1e-12)
    assert brier_score(logits, torch.tensor([1, 1])) == pytest.approx(2)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_equal_mass_error_is_the_slow_formula(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    confidence, right = softmax(logits).max(1), logits.argmax(1).numpy() == targets.numpy()
    total = 0.0
    for part in np.array_split(sorted(range(samples), key=lambda index: confidence[index]), BINS):
        if len(part):
            total += len(part) / samples * abs(confidence[part].mean() - right[part].mean())
    assert equal_mass_calibration_error(logits, targets) == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_classwise_error_is_the_slow_error_of_each_class_against_the_rest(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    probabilities = softmax(logits)
    errors = [slow_ece(probabilities[:, label], targets.numpy() == label) for label in range(classes)]
    assert classwise_calibration_error(logits, targets) == pytest.approx(np.mean(errors), abs=1e-9)


@pytest.mark.parametrize(("samples", "classes", "scale"), PROBLEMS)
def test_reliability_bins_give_the_calibration_errors_back(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    bins = reliability(logits, targets)
    assert (sum(bins.samples), len(bins.samples)) == (samples, BINS)
    assert sum(bins.correct) == int((logits.argmax(1) == targets).sum())
    gaps = [
        (count, abs(correct / count - confidence))
        for count, correct, confidence in zip(bins.samples, bins.correct, bins.confidence, strict=True)
        if count
    ]
    assert [confidence is None for confidence in bins.confidence] == [not count for count in bins.samples]
    weighted = sum(count * gap for count, gap in gaps) / samples
    assert weighted == pytest.approx(expected_calibration_error(logits, targets), abs=1e-12)
    assert max(gap for _, gap in gaps) == pytest.approx(maximum_calibration_error(logits, targets), abs=1e-12)


def test_a_calibrated_model_is_near_its_noise_floor_and_an_overconfident_one_is_not():
    """Targets drawn from the model's own probabilities."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4000, 10, generator=generator)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    floor = ece_noise_floor(logits)
    assert expected_calibration_error(logits, targets) < 2 * floor
    assert equal_mass_calibration_error(logits, targets) < 2 * floor
    assert expected_calibration_error(3 * logits, targets) > 10 * ece_noise_floor(3 * logits)


def test_temperature_scaling_finds_the_factor_that_made_a_model_overconfident():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 10, generator=generator)
    targets = torch.multinomial(logits.softmax(1), 1, generator=generator).squeeze(1)
    temperature = fit_temperature(3 * logits, targets)
    assert temperature == pytest.approx(3, rel=0.03)
    before, after = (calibration_metrics(values, targets) for values in (3 * logits, 3 * logits / temperature))
    assert after["nll"] < before["nll"]
    assert after["ece"] < 0.02 < before["ece"]


@pytest.mark.parametrize(("samples", "classes", "scale"), [(300, 10, 1.0), (257, 100, 2.0), (200, 2, 0.7)])
def test_temperature_is_that_of_another_optimizer(samples, classes, scale):
    logits, targets = problem(samples, classes, scale)
    values = logits.double().numpy()

    def loss(power: np.ndarray) -> float:
        return log_loss(targets, softmax(torch.from_numpy(values / math.exp(power[0]))), labels=range(classes))

    expected = minimize(loss, [0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-14})
    assert fit_temperature(logits, targets) == pytest.approx(math.exp(expected.x[0]), rel=1e-4)


def test_there_is_no_temperature_without_a_mistake_or_without_skill():
    logits = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    assert fit_temperature(logits, logits.argmax(1)) is None  # 0 would be best
    assert fit_temperature(logits, logits.argmin(1)) is None  # infinity would be best


def test_metrics_are_those_of_probabilities_whatever_the_float_type():
    logits, targets = problem(300, 10, 3.0)
    exact, single = (calibration_metrics(values, targets) for values in (logits.double(), logits))
    assert exact == single
