"""Tf-KD by self-training: the teacher is the student's own network, trained before."""

from torch import Tensor

from kd_bench.config.ranges import Fraction, NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_summands
from kd_bench.models.features import Outputs


def tfkd_self_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float, multiplier: float) -> Tensor:
    """``multiplier * T^2 * KL(p_teacher || p_student)``, the KL a mean over batch AND classes.

    Yuan et al. 2020, equation 9. The authors' code averages over the K classes too, which makes the term K times
    smaller than the paper's; its ``multiplier`` makes up for that.

    Args:
        student_logits, teacher_logits: (B, K).
    """
    return multiplier * temperature**2 * kl_summands(student_logits, teacher_logits, temperature).mean()


class TfKDSelf(Method):
    """``(1 - distillation_weight) * CE + distillation_weight * multiplier * T^2 * KL``."""

    paper = "Yuan et al. 2020, arXiv:1909.11723"
    family = "self-distillation"
    reads = ("logits",)
    requires = Requirements(teacher="own")

    def __init__(self, distillation_weight: Fraction, temperature: Positive, multiplier: NonNegative) -> None:
        super().__init__()
        self.distillation_weight, self.temperature, self.multiplier = distillation_weight, temperature, multiplier

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        soft = tfkd_self_loss(student.logits, teacher.logits, self.temperature, self.multiplier)
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": (1 - self.distillation_weight) * ce, "kd": self.distillation_weight * soft}
