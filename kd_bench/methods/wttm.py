"""Weighted transformed teacher matching: samples with a flat teacher count more."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveFraction
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.ttm import ttm_divergences
from kd_bench.models.features import Outputs


def power_sums(teacher_logits: Tensor, exponent: float) -> Tensor:
    """Sum over classes of the probabilities to the power ``exponent``: (B, K) to (B,), from 1 to K^(1 - exponent)."""
    return (exponent * F.log_softmax(teacher_logits, dim=1)).exp().sum(dim=1)


def wttm_loss(student_logits: Tensor, teacher_logits: Tensor, exponent: float) -> Tensor:
    """Mean over the batch of TTM's divergence times the teacher's power sum (Zheng & Yang 2024, section 4).

    Args:
        student_logits, teacher_logits: (B, K).
        exponent: in (0, 1].
    """
    divergences = ttm_divergences(student_logits, teacher_logits, exponent)
    return (power_sums(teacher_logits, exponent) * divergences).mean()


class WTTM(Method):
    """``ce_weight * CE + wttm_weight * mean weighted KL``."""

    paper = "Zheng & Yang 2024, arXiv:2402.11148"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(self, ce_weight: NonNegative, wttm_weight: NonNegative, exponent: PositiveFraction) -> None:
        super().__init__()
        self.ce_weight, self.wttm_weight, self.exponent = ce_weight, wttm_weight, exponent

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        wttm = wttm_loss(student.logits, teacher.logits, self.exponent)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "wttm": self.wttm_weight * wttm}
