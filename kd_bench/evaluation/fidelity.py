"""Fidelity: the likeness of student and teacher, whoever is right.

Shapes: ``N`` samples, ``K`` classes, ``D`` embedding. Everything is over all samples in float64, never a mean of batch
means. Fidelity is no accuracy: a student may agree more and be right less (Stanton et al. 2021, arXiv:2106.05945).
"""

import math

from torch import Tensor
from torch.nn import functional as F

LN2 = math.log(2)


def fidelity_metrics(logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> dict[str, float | None]:
    """Return the metrics below by the names that records give them, and flips both ways as shares of all samples.

    A negative flip is a sample that the teacher gets right and the student wrong. Retention is the student's top-1 over
    the teacher's, None where the teacher gets nothing right; over chance, 1/K is taken off both, None unless the
    teacher is better than that.
    """
    student, teacher = logits.argmax(dim=1), teacher_logits.argmax(dim=1)
    student_right, teacher_right = student == targets, teacher == targets
    student_top1, teacher_top1 = float(student_right.double().mean()), float(teacher_right.double().mean())
    chance = 1 / logits.shape[1]
    return {
        "teacher_agreement": float((student == teacher).double().mean()),
        "negative_flips": float((teacher_right & ~student_right).double().mean()),
        "positive_flips": float((~teacher_right & student_right).double().mean()),
        "retention": student_top1 / teacher_top1 if teacher_top1 else None,
        "retention_over_chance": (student_top1 - chance) / (teacher_top1 - chance) if teacher_top1 > chance else None,
        "correctness_kappa": correctness_kappa(student_right, teacher_right),
        "kl": kl_divergence(teacher_logits, logits),
        "js": jensen_shannon(teacher_logits, logits),
    }


def correctness_kappa(first: Tensor, second: Tensor) -> float | None:
    """Return Cohen's kappa of two classifiers' being right, (N,) each: agreement beyond what their accuracies imply.

    1 is the same mistakes, 0 independent ones. None where both are right on all samples, or wrong on all.
    """
    observed = float((first == second).double().mean())
    first_top1, second_top1 = float(first.double().mean()), float(second.double().mean())
    expected = first_top1 * second_top1 + (1 - first_top1) * (1 - second_top1)
    return (observed - expected) / (1 - expected) if expected < 1 else None


def kl_divergence(teacher_logits: Tensor, logits: Tensor) -> float:
    """Return KL(teacher || student) at temperature 1: mean over samples, sum over classes, in nats."""
    teacher, student = _log_probabilities(teacher_logits), _log_probabilities(logits)
    return max(0.0, float(F.kl_div(student, teacher, reduction="batchmean", log_target=True)))


def jensen_shannon(teacher_logits: Tensor, logits: Tensor) -> float:
    """Return the mean over samples of the Jensen-Shannon divergence in nats, symmetric, in [0, ln 2] (Lin 1991)."""
    teacher, student = _log_probabilities(teacher_logits), _log_probabilities(logits)
    middle = teacher.logaddexp(student) - LN2
    halves = [F.kl_div(middle, each, reduction="batchmean", log_target=True) for each in (teacher, student)]
    return min(LN2, max(0.0, float(halves[0] + halves[1]) / 2))


def linear_cka(first: Tensor, second: Tensor) -> float | None:
    """Return the linear centred kernel alignment of two embeddings (N, D) and (N, D') of the same samples, in [0, 1].

    ‖Y'X‖² / (‖X'X‖ ‖Y'Y‖) with centred columns and Frobenius norms (Kornblith et al. 2019, arXiv:1905.00414, equation
    5). Invariant to rotations and scale. With few samples for the dimensions, unrelated embeddings score high too.
    None where an embedding is the same for all samples.
    """
    x, y = (values.double() - values.double().mean(dim=0) for values in (first, second))
    scale = float((x.T @ x).norm() * (y.T @ y).norm())
    return min(1.0, float((y.T @ x).norm() ** 2) / scale) if scale else None


def _log_probabilities(logits: Tensor) -> Tensor:
    return F.log_softmax(logits.double(), dim=1)
