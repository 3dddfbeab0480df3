"""Pure functions that two or more methods share.

Shapes: ``B`` batch, ``K`` classes. Nothing here carries an outer weight.
"""

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


def kl_divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of distributions softened by ``temperature``, summed over classes, mean over the batch.

    Args:
        student_logits, teacher_logits: (B, K).
        temperature: > 0; there is no factor ``temperature ** 2`` here.
    """
    student = F.log_softmax(student_logits / temperature, dim=1)
    teacher = F.log_softmax(teacher_logits / temperature, dim=1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def standardized(logits: Tensor) -> Tensor:
    """Each row of ``logits`` (B, K) with mean 0 and standard deviation 1, before any temperature.

    Sun et al. 2024 (arXiv:2403.01427), algorithm 1. The standard deviation is the unbiased one, with 1e-7 added, as in
    the authors' code, which keeps the temperature and the factor T^2 of the method as they are.
    """
    return (logits - logits.mean(dim=1, keepdim=True)) / (logits.std(dim=1, keepdim=True) + 1e-7)
