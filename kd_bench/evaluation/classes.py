"""Classes and samples in which a student differs from its teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.results.records.measured import ClassMetrics, Exemplars
from kd_bench.results.statistics.multiplicity import benjamini_hochberg
from kd_bench.results.statistics.paired import mcnemar_p_value

FALSE_DISCOVERY_RATE = 0.05
EXEMPLARS_LISTED = 100
CONFIDENCE_DIGITS = 6  # those that machines agree on


def class_metrics(logits: Tensor, targets: Tensor, teacher_logits: Tensor | None) -> ClassMetrics:
    """Return counts and statistics by class of logits (N, K), for targets (N,) and the teacher's logits (N, K)."""
    classes = logits.shape[1]

    def count(chosen: Tensor) -> list[int]:
        return [int(number) for number in torch.bincount(targets[chosen], minlength=classes)]

    right = logits.argmax(dim=1) == targets
    samples, correct = count(torch.ones_like(right)), count(right)
    top1 = sorted(hits / total for hits, total in zip(correct, samples, strict=True) if total)
    negative = positive = worse = better = None
    if teacher_logits is not None:
        teacher_right = teacher_logits.argmax(dim=1) == targets
        negative, positive = count(teacher_right & ~right), count(right & ~teacher_right)
        worse, better = _differing(negative, positive)
    return ClassMetrics(
        samples=samples,
        correct=correct,
        negative_flips=negative,
        positive_flips=positive,
        worst_top1=top1[0],
        worst_tenth_top1=_mean(top1[: max(1, len(top1) // 10)]),
        sd_top1=_mean([(value - _mean(top1)) ** 2 for value in top1]) ** 0.5,
        significantly_worse=worse,
        significantly_better=better,
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _differing(negative: list[int], positive: list[int]) -> tuple[list[int], list[int]]:
    """Return positions of the classes in which the student is worse, and better, than chance explains.

    Classes without a flip are tests too: they say that nothing was found, and count in the correction.
    """
    flips = list(zip(negative, positive, strict=True))
    adjusted = benjamini_hochberg([mcnemar_p_value(*both) for both in flips])
    found = [position for position, value in enumerate(adjusted) if value <= FALSE_DISCOVERY_RATE]
    worse = [position for position in found if negative[position] > positive[position]]
    return worse, [position for position in found if positive[position] > negative[position]]


def disagreements(logits: Tensor, targets: Tensor, teacher_logits: Tensor) -> Exemplars:
    """Return the samples on which student and teacher predict different classes; see ``Exemplars`` for their order."""
    student, teacher = logits.argmax(dim=1), teacher_logits.argmax(dim=1)
    confidence = F.softmax(teacher_logits.double(), dim=1).amax(dim=1)
    differing = [
        (-round(float(confidence[index]), CONFIDENCE_DIGITS), index)
        for index in (student != teacher).nonzero().flatten().tolist()
    ]
    listed = sorted(differing)[:EXEMPLARS_LISTED]
    index = [position for _, position in listed]
    return Exemplars(
        total=len(differing),
        index=index,
        target=targets[index].tolist(),
        teacher=teacher[index].tolist(),
        student=student[index].tolist(),
        teacher_confidence=[-value for value, _ in listed],
    )
