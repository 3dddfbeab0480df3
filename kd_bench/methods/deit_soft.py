"""DeiT's soft distillation: the teacher's probabilities teach a second head, behind a token of its own."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.deit_hard import two_heads
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def deit_soft_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> Tensor:
    """``temperature ** 2 * KL(p_teacher || p_student)``, mean over batch and classes, of logits (B, K).

    Touvron et al. 2021, equation 2. The authors' code divides by K as well, unlike the equation and most others, which
    makes the term K times smaller than KD's.
    """
    return kd_loss(student_logits, teacher_logits, temperature) / student_logits.shape[1]


class DeiTSoft(Method):
    """``ce_weight * CE(class head, label) + kd_weight * T^2 * KL(teacher, distillation head) / K``.

    The authors have one weight, alpha: 1 - alpha is the first here, alpha the second. The mean of both heads' logits
    predicts.
    """

    paper = "Touvron et al. 2021, arXiv:2012.12877"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True, student_has=("two heads",))

    def __init__(self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        class_head, distillation_head = two_heads(student)
        return {
            "ce": self.ce_weight * cross_entropy(class_head, batch.labels),
            "kd": self.kd_weight * deit_soft_loss(distillation_head, teacher.logits, self.temperature),
        }
