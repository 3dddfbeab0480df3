"""Metrics of one held-out split, computed from logits.

Shapes: ``N`` samples, ``K`` classes. Everything is a fraction in [0, 1] unless it says otherwise. NaN or infinite
logits are refused before anything is computed, since NaN can improve a metric.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_calibration_error

from kd_bench.errors import Diverged
from kd_bench.runs.measured import SplitMetrics

ECE_BINS = 15
NOISE_FLOOR_DRAWS = 200


def split_metrics(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None) -> SplitMetrics:
    """All metrics of ``logits`` (N, K) against ``targets`` (N,) and, where there is a teacher, its logits (N, K).

    Raises:
        Diverged: a logit is not finite.
    """
    for whose, values in (("student", logits), ("teacher", teacher_logits)):
        if values is not None and not values.isfinite().all():
            raise Diverged(f"the {whose}'s logits are not finite: no metric is computed")
    top1 = accuracy(logits, targets)
    fidelity = {} if teacher_logits is None else fidelity_metrics(logits, teacher_logits, targets)
    return SplitMetrics(
        top1=top1,
        top5=accuracy(logits, targets, k=5) if logits.shape[1] > 5 else None,
        nll=negative_log_likelihood(logits, targets),
        ece=expected_calibration_error(logits, targets),
        ece_noise_floor=ece_noise_floor(logits),
        teacher_agreement=fidelity.get("teacher_agreement"),
        negative_flips=fidelity.get("negative_flips"),
        positive_flips=fidelity.get("positive_flips"),
        retention=fidelity.get("retention"),
    )


def accuracy(logits: Tensor, targets: Tensor, k: int = 1) -> float:
    """Share of samples whose target is among the ``k`` largest logits, exact in double precision."""
    return float((logits.topk(k, dim=1).indices == targets[:, None]).any(dim=1).double().mean())


def negative_log_likelihood(logits: Tensor, targets: Tensor) -> float:
    """Mean over samples of -log p(target), in nats."""
    return float(F.cross_entropy(logits.double(), targets))


def expected_calibration_error(logits: Tensor, targets: Tensor) -> float:
    """ECE in 15 equal-width bins of confidence, L1 (Guo et al. 2017).

    torchmetrics gets probabilities: given logits that happen to lie in [0, 1] it would take them for probabilities. It
    has a 16th bin for a confidence of exactly 1, which is kept just below.
    """
    probabilities = F.softmax(logits.double(), dim=1).clamp(max=1 - 2**-23)
    return float(multiclass_calibration_error(probabilities, targets, logits.shape[1], n_bins=ECE_BINS, norm="l1"))


def ece_noise_floor(logits: Tensor, seed: int = 0) -> float:
    """The ECE that a perfectly calibrated model with these confidences would show on this many samples.

    Mean over draws in which each prediction is right with probability equal to its confidence. An ECE near this floor
    says nothing against the calibration.
    """
    confidence = F.softmax(logits.double(), dim=1).amax(dim=1)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(NOISE_FLOOR_DRAWS, len(confidence), generator=generator, dtype=torch.float64) < confidence
    # torchmetrics puts a confidence on a bin's edge into the upper bin, and 1 into the last.
    bins = (confidence * ECE_BINS).long().clamp(max=ECE_BINS - 1)
    gap = draws.double() - confidence
    per_bin = torch.zeros(NOISE_FLOOR_DRAWS, ECE_BINS, dtype=torch.float64).index_add_(1, bins, gap)
    return float(per_bin.abs().sum(dim=1).mean() / len(confidence))


def fidelity_metrics(logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> dict[str, float | None]:
    """Agreement of top-1 predictions, flips both ways over all samples, and retention.

    A negative flip is a sample that the teacher gets right and the student wrong. Retention is the student's top-1 over
    the teacher's; None where the teacher gets nothing right.
    """
    student, teacher = logits.argmax(dim=1), teacher_logits.argmax(dim=1)
    student_right, teacher_right = student == targets, teacher == targets
    teacher_top1 = float(teacher_right.double().mean())
    return {
        "teacher_agreement": float((student == teacher).double().mean()),
        "negative_flips": float((teacher_right & ~student_right).double().mean()),
        "positive_flips": float((~teacher_right & student_right).double().mean()),
        "retention": float(student_right.double().mean()) / teacher_top1 if teacher_top1 else None,
    }
