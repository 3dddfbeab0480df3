"""Calibration, whether confidences are right: proper scores and calibration errors, raw and after temperature scaling.

Shapes: ``N`` samples, ``K`` classes. Logits come in, and become probabilities in float64 here and nowhere else: a
library that is given logits which happen to lie in [0, 1] takes them for probabilities. The confidence of a sample is
its largest probability; a bin holds what lies at its lower edge, the last one 1 as well.
"""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional as F

from kd_bench.results.records.measured import Reliability

ECE_BINS = 15
NOISE_FLOOR_DRAWS = 200
TEMPERATURE_LIMITS = (1e-2, 1e2)


def calibration_metrics(logits: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics below of logits (N, K) and targets (N,), by the names that records give them."""
    return {
        "nll": negative_log_likelihood(logits, targets),
        "brier": brier_score(logits, targets),
        "ece": expected_calibration_error(logits, targets),
        "ece_noise_floor": ece_noise_floor(logits),
        "ece_equal_mass": equal_mass_calibration_error(logits, targets),
        "classwise_ece": classwise_calibration_error(logits, targets),
        "mce": maximum_calibration_error(logits, targets),
    }


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    """Return the mean over samples of -log p(target), in nats."""
    return float(F.cross_entropy(logits.double(), targets))


def brier_score(logits: Tensor, targets: Tensor) -> float:
    """Return the mean squared distance of the probabilities from the target's one-hot vector, in [0, 2].

    A sum over the classes (Brier 1950), not a mean: some libraries give 1/K of it.
    """
    probabilities = _probabilities(logits)
    of_target = probabilities.gather(1, targets[:, None]).squeeze(1)
    return max(0.0, float((probabilities.square().sum(dim=1) - 2 * of_target + 1).mean()))


def expected_calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Return the ECE in 15 equal-width bins of confidence, L1 (Guo et al. 2017, equation 3)."""
    gaps, _ = _binned(*_confidence_and_gap(logits, targets))
    return float(gaps.abs().sum() / len(targets))


def reliability(logits: Tensor, targets: Tensor) -> Reliability:
    """Return the bins of the ECE."""
    confidence, gap = _confidence_and_gap(logits, targets)
    gaps, samples = _binned(confidence, gap)
    confidences, _ = _binned(confidence, confidence)
    return Reliability(
        samples=samples.tolist(),
        correct=(gaps + confidences).round().long().tolist(),
        confidence=[
            min(1.0, total / count) if count else None
            for total, count in zip(confidences.tolist(), samples.tolist(), strict=True)
        ],
    )


def maximum_calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Return the largest mean gap of a bin (Guo et al. 2017, equation 4); a bin of one sample counts like any."""
    gaps, samples = _binned(*_confidence_and_gap(logits, targets))
    return float((gaps.abs() / samples.clamp(min=1)).max())


def equal_mass_calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Return the ECE in 15 bins of equally many samples by confidence (their numbers differ by at most one).

    Equal confidences are taken in the order of the samples.
    """
    confidence, gap = _confidence_and_gap(logits, targets)
    bins = gap[confidence.argsort(stable=True)].tensor_split(ECE_BINS)
    return sum(abs(float(part.sum())) for part in bins) / len(targets)


def classwise_calibration_error(logits: Tensor, targets: Tensor) -> float:
    """Return the mean over all K classes of the ECE of "this class" against "another one".

    The bins are 15 of equal width of the class's probability (Kull et al. 2019). Most probabilities are near 0, so
    values shrink as K grows.
    """
    probabilities = _probabilities(logits)
    errors = [
        _binned(values, (targets == label).double() - values)[0].abs().sum()
        for label, values in enumerate(probabilities.unbind(dim=1))
    ]
    return float(torch.stack(errors).mean() / len(targets))


def ece_noise_floor(logits: Tensor, seed: int = 0) -> float:
    """Return the ECE that a perfectly calibrated model with these confidences would show on this many samples.

    Mean over draws in which each prediction is right with probability equal to its confidence. An ECE near this floor
    says nothing against the calibration.
    """
    confidence = _probabilities(logits).amax(dim=1)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(NOISE_FLOOR_DRAWS, len(confidence), generator=generator, dtype=torch.float64) < confidence
    per_bin = torch.zeros(NOISE_FLOOR_DRAWS, ECE_BINS, dtype=torch.float64)
    per_bin.index_add_(1, _bins(confidence), draws.double() - confidence)
    return float(per_bin.abs().sum(dim=1).mean() / len(confidence))


def fit_temperature(logits: Tensor, targets: Tensor) -> float | None:
    """Return the temperature that minimises the negative log-likelihood of ``logits / temperature`` (Guo et al. 2017).

    Fit it on the validation split: on the test split it would know what it is judged by.

    Returns:
        None where there is no minimum between 0.01 and 100: of predictions without a mistake the likelihood grows as
        the temperature falls to 0, of ones no better than chance as it rises.
    """
    double = logits.double()
    low, high = (math.log(limit) for limit in TEMPERATURE_LIMITS)
    found = minimize_scalar(
        lambda power: float(F.cross_entropy(double / math.exp(power), targets)),
        bounds=(low, high),
        method="bounded",
        options={"xatol": 1e-9},
    )
    inside = low + 0.01 < float(found.x) < high - 0.01
    return math.exp(float(found.x)) if inside else None


def _probabilities(logits: Tensor) -> Tensor:
    return F.softmax(logits.double(), dim=1)


def _confidence_and_gap(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) confidences, and by how much being right (1 or 0) exceeds them."""
    confidence = _probabilities(logits).amax(dim=1)
    return confidence, (logits.argmax(dim=1) == targets).double() - confidence


def _bins(confidence: Tensor) -> Tensor:
    return (confidence * ECE_BINS).long().clamp(max=ECE_BINS - 1)


def _binned(confidence: Tensor, gap: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums of the gaps and numbers of samples in each bin, (15,) each."""
    bins = _bins(confidence)
    return torch.bincount(bins, gap, minlength=ECE_BINS), torch.bincount(bins, minlength=ECE_BINS)
