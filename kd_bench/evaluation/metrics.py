"""Metrics of one held-out split, computed from logits.

Shapes: ``N`` samples, ``K`` classes. Everything is a fraction in [0, 1] unless it says otherwise. NaN or infinite
logits are refused before anything is computed, since NaN can improve a metric.
"""

from torch import Tensor

from kd_bench.errors import Diverged
from kd_bench.evaluation.calibration import calibration_metrics
from kd_bench.evaluation.fidelity import fidelity_metrics
from kd_bench.results.records.measured import ScaledCalibration, SplitMetrics


def split_metrics(
    logits: Tensor, targets: Tensor, teacher_logits: Tensor | None, temperature: float | None = None
) -> SplitMetrics:
    """Return all metrics of ``logits`` (N, K) against ``targets`` (N,) and, where there is one, the teacher's logits.

    Args:
        temperature: fitted on another split; calibration is then measured after scaling with it, too.

    Raises:
        Diverged: a logit is not finite.
    """
    check_finite(logits, teacher_logits)
    scaled = None
    if temperature is not None:
        calibration = calibration_metrics(logits.double() / temperature, targets)
        scaled = ScaledCalibration(temperature=temperature, **calibration)
    fidelity = dict.fromkeys(("teacher_agreement", "negative_flips", "positive_flips", "retention"))
    return SplitMetrics(
        top1=accuracy(logits, targets),
        top5=accuracy(logits, targets, k=5) if logits.shape[1] > 5 else None,
        macro_top1=macro_accuracy(logits, targets),
        scaled=scaled,
        **calibration_metrics(logits, targets),
        **(fidelity if teacher_logits is None else fidelity_metrics(logits, teacher_logits, targets)),
    )


def check_finite(logits: Tensor, teacher_logits: Tensor | None) -> None:
    """Raise Diverged unless all logits are finite."""
    for whose, values in (("student", logits), ("teacher", teacher_logits)):
        if values is not None and not values.isfinite().all():
            raise Diverged(f"the {whose}'s logits are not finite: no metric is computed")


def accuracy(logits: Tensor, targets: Tensor, k: int = 1) -> float:
    """Return the share of samples whose target is among the ``k`` largest logits, exact in double precision.

    Of equal logits the first counts as the largest.
    """
    best = logits.argmax(dim=1, keepdim=True) if k == 1 else logits.topk(k, dim=1).indices
    return float((best == targets[:, None]).any(dim=1).double().mean())


def macro_accuracy(logits: Tensor, targets: Tensor) -> float:
    """Return the mean accuracy of the classes that occur: rare classes count as much as frequent ones."""
    right = logits.argmax(dim=1) == targets
    samples, correct = targets.bincount(), targets.bincount(right.double())
    occurring = samples > 0
    return float((correct[occurring] / samples[occurring]).mean())
