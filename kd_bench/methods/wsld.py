"""Weighted soft labels: a sample's soft label counts by how much worse the student is than the teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


@torch.no_grad()
def soft_label_weights(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """``1 - exp(-CE_student / CE_teacher)`` of each sample at temperature 1: (B, K) to (B,) in [0, 1].

    Zhou et al. 2021, section 4 (weighted soft labels). A constant for the gradient, as in the authors' code, which adds
    1e-7 to the teacher's cross-entropy.
    """
    student = F.cross_entropy(student_logits, targets, reduction="none")
    teacher = F.cross_entropy(teacher_logits, targets, reduction="none")
    return -torch.expm1(-student / (teacher + 1e-7))


def wsld_loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """``T^2`` times the weighted cross-entropy with softened teacher probabilities, mean over the batch.

    Zhou et al. 2021, section 4. A cross-entropy, not a KL divergence: the teacher's entropy is kept.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    teacher = F.softmax(teacher_logits / temperature, dim=1)
    soft = -(teacher * F.log_softmax(student_logits / temperature, dim=1)).sum(dim=1)
    return temperature**2 * (soft_label_weights(student_logits, teacher_logits, targets) * soft).mean()


class WSLD(Method):
    """``ce_weight * CE + soft_weight * T^2 * weighted soft cross-entropy``."""

    paper = "Zhou et al. 2021, arXiv:2102.00650"
    family = "logits"
    reads = ("logits",)

    def __init__(self, ce_weight: NonNegative, soft_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.soft_weight, self.temperature = ce_weight, soft_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        soft = wsld_loss(student.logits, teacher.logits, batch.targets, self.temperature)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets), "soft": self.soft_weight * soft}
