"""Pure functions that two or more methods share.

Shapes: ``B`` batch, ``K`` classes. No function here applies the weight of a term.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of ``logits`` (B, K) with class indices ``targets`` (B,)."""
    return F.cross_entropy(logits, targets)


def soft_cross_entropy(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Cross-entropy of ``logits`` (B, K) with target distributions ``probabilities`` (B, K), mean over the batch.

    Unlike the KL divergence it keeps the targets' entropy, which has no gradient.
    """
    return -(probabilities * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """KL(teacher || student) of distributions softened by ``temperature``, summed over classes, mean over the batch.

    Args:
        student_logits, teacher_logits: (B, K).
        temperature: > 0, a scalar; there is no factor ``temperature ** 2`` here.
    """
    return kl_summands(student_logits, teacher_logits, temperature).sum() / len(student_logits)


def kl_summands(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """The share (B, K) that each sample and class has in ``kl_divergence``, before the sum and the mean."""
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True)


def standardized(logits: Tensor) -> Tensor:
    """Each row of ``logits`` (B, K) with mean 0 and standard deviation 1, before any temperature.

    Sun et al. 2024 (arXiv:2403.01427), algorithm 1. The standard deviation is the unbiased one, with 1e-7 added, as in
    the authors' code, which keeps the temperature and the factor T^2 of the method as they are.
    """
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + 1e-7)


def logit_pair(student_logits: Tensor, teacher_logits: Tensor, standardize: bool) -> tuple[Tensor, Tensor]:
    """Both (B, K) as they are or ``standardized``: the option ``standardize_logits`` of the methods on logits.

    With two classes standardized logits are always +-0.71 and have no gradient.
    """
    if not standardize:
        return student_logits, teacher_logits
    return standardized(student_logits), standardized(teacher_logits)


def without_target(logits: Tensor, targets: Tensor) -> Tensor:
    """Logits of the K - 1 classes that are not the label: (B, K) and class indices (B,) to (B, K - 1)."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device).expand(len(logits), -1)
    return logits.gather(1, others + (others >= targets[:, None]))


def two_way(logits: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """Logarithms (B, 2) of the softened probabilities of one class and of all others together.

    Computed from logarithms throughout: the logarithm of a sum of probabilities is minus infinity where the other
    classes are improbable.

    Args:
        logits: (B, K).
        classes: (B,) class indices.
    """
    log_probabilities = F.log_softmax(logits / temperature, dim=1)
    others = without_target(log_probabilities, classes).logsumexp(dim=1, keepdim=True)
    return torch.cat([log_probabilities.gather(1, classes[:, None]), others], dim=1)


def warm_up(epoch: int, epochs: int) -> float:
    """Weight that rises linearly over the first ``epochs`` >= 1, from 1 / epochs in ``epoch`` 0 to 1."""
    return min((epoch + 1) / epochs, 1.0)


def cosine_decay(epoch: int, epochs: int, start: int) -> float:
    """Weight that falls from 1 to 0 along a cosine, and is 0 in the last of ``epochs``.

    It is 1 in the first ``start`` epochs, and to the end where there are no more than that.

    Args:
        epoch: counted from 0.
    """
    if epoch + 1 <= start:
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * (epoch + 1 - start) / (epochs - start)))


def full_precision(values: Tensor) -> Tensor:
    """``values`` in float32 at least: stage maps under autocast are bfloat16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def inner_products(left: Tensor, right: Tensor) -> Tensor:
    """Inner products (..., N, M) of rows (..., N, D) and (..., M, D), in full precision even under autocast."""
    left, right = full_precision(left), full_precision(right)
    with torch.autocast(left.device.type, enabled=False):
        return left @ right.mT


def gram_matrix(rows: Tensor) -> Tensor:
    """Inner products (..., N, N) of ``rows`` (..., N, D), in full precision even under autocast."""
    return inner_products(rows, rows)


def squared_distances(rows: Tensor) -> Tensor:
    """Squared Euclidean distances (B, B) of ``rows`` (B, D); rounding can make those near 0 negative."""
    products = gram_matrix(rows)
    squares = full_precision(rows).pow(2).sum(dim=1)
    return squares[:, None] + squares[None, :] - 2 * products


def to_smaller_size(student_map: Tensor, teacher_map: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps (B, C, H, W) at the smaller height and the smaller width, the larger one average-pooled."""
    height = min(student_map.shape[2], teacher_map.shape[2])
    width = min(student_map.shape[3], teacher_map.shape[3])
    student, teacher = (
        each if each.shape[2:] == (height, width) else F.adaptive_avg_pool2d(each, (height, width))
        for each in (student_map, teacher_map)
    )
    return student, teacher


def sigmoid_warm_up(epoch: int, epochs: int) -> float:
    """Weight ``exp(-5 * (1 - epoch / epochs)^2)`` over the first ``epochs`` >= 1, counted from 0, and 1 after them.

    Laine & Aila 2017 (arXiv:1610.02242); it starts at 0.007.
    """
    return math.exp(-5 * (1 - min(epoch / epochs, 1.0)) ** 2)
