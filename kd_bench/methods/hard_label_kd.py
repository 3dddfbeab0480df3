"""Hard-label distillation: the teacher's decision is a second label."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def hard_label_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy with the teacher's most probable class, mean over the batch (Touvron et al. 2021, equation 3).

    Args:
        student_logits, teacher_logits: (B, K).
    """
    return cross_entropy(student_logits, teacher_logits.argmax(dim=1))


class HardLabelKD(Method):
    """``ce_weight * CE(label) + hard_weight * CE(teacher's decision)``, without DeiT's distillation token.

    DeiT's best variant gives the second term an extra token with a classifier of its own, and both classifiers predict
    together at test time. Here both terms train the student's one classifier, as in the paper's comparison of hard with
    soft distillation, and any network can be the student.
    """

    paper = "Touvron et al. 2021, arXiv:2012.12877"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(self, ce_weight: NonNegative, hard_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.hard_weight = ce_weight, hard_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        hard = hard_label_loss(student.logits, teacher.logits)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "hard": self.hard_weight * hard}
