"""Generalized Kullback-Leibler loss: IKL whose weights are smoothed by a power and normalised over the batch."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.methods.ikl import IKL, pairwise_errors


def gkl_loss(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor, weight_exponent: float) -> Tensor:
    """Sum of ``pairwise_errors`` over the batch, divided by the sum of all ``w_i * w_j`` of the batch.

    Cui et al. 2025: ``w`` are ``weights`` to the power of ``weight_exponent``, not renormalised in a sample, so that a
    sample with larger weights counts more. An exponent of 0 makes all pairs of classes equal.

    Args:
        student_logits, teacher_logits: (B, K), at temperature 1.
        weights: (B, K), rows that sum to 1.
    """
    smoothed = weights.detach() ** weight_exponent
    errors = pairwise_errors(student_logits, teacher_logits, smoothed)
    return errors.sum() / (smoothed.sum(dim=1) ** 2).sum()


class GKL(IKL):
    """``ce_weight * CE + w * (soft_weight * soft + pairwise_weight * gkl_loss)``, all as in IKL but the last term.

    Args:
        weight_exponent: the paper's gamma.
    """

    paper = "Cui et al. 2025, arXiv:2503.08038"

    def __init__(
        self,
        ce_weight: NonNegative,
        soft_weight: NonNegative,
        pairwise_weight: NonNegative,
        temperature: Positive,
        weight_temperature: Positive,
        weight_exponent: NonNegative,
        global_weights: bool,
        warmup_epochs: PositiveInt,
    ) -> None:
        super().__init__(
            ce_weight, soft_weight, pairwise_weight, temperature, weight_temperature, global_weights, warmup_epochs
        )
        self.weight_exponent = weight_exponent

    def pairwise_loss(self, student_logits: Tensor, teacher_logits: Tensor, weights: Tensor) -> Tensor:
        return gkl_loss(student_logits, teacher_logits, weights, self.weight_exponent)
