"""Normalized knowledge distillation: the target's part and a normalized part of the other classes."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, soft_cross_entropy, without_target
from kd_bench.models.features import Outputs


def soft_target_loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """``- p_teacher[target] * log p_student[target]`` at temperature 1, mean over the batch.

    Yang et al. 2023, first part of the NKD loss: the cross-entropy with the label, weighted by the teacher's
    confidence.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    student = F.log_softmax(student_logits, dim=1).gather(1, targets[:, None])
    teacher = F.softmax(teacher_logits, dim=1).gather(1, targets[:, None])
    return -(teacher * student).mean()


def normalized_others_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """``T^2`` times the cross-entropy between the distributions over the K - 1 other classes, mean over the batch.

    Yang et al. 2023, second part of the NKD loss. A cross-entropy: it keeps the teacher's entropy, unlike DKD's term.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    student, teacher = without_target(student_logits, targets), without_target(teacher_logits, targets)
    return temperature**2 * soft_cross_entropy(student / temperature, F.softmax(teacher / temperature, dim=1))


class NKD(Method):
    """``ce_weight * CE + target_weight * soft target + others_weight * normalized others``.

    Args:
        target_weight: 1 in the paper.
        others_weight: the paper's gamma.
    """

    paper = "Yang et al. 2023, arXiv:2303.13005"
    family = "logits"
    reads = ("logits",)

    def __init__(
        self, ce_weight: NonNegative, target_weight: NonNegative, others_weight: NonNegative, temperature: Positive
    ) -> None:
        super().__init__()
        self.ce_weight, self.target_weight = ce_weight, target_weight
        self.others_weight, self.temperature = others_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = student.logits, teacher.logits
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "soft_target": self.target_weight * soft_target_loss(*logits, batch.targets),
            "others": self.others_weight * normalized_others_loss(*logits, batch.targets, self.temperature),
        }
