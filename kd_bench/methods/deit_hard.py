"""DeiT's hard distillation: the teacher's decision is the label of a second head, behind a token of its own."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.hard_label_kd import hard_label_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def two_heads(student: Outputs) -> tuple[Tensor, Tensor]:
    """Return the logits (B, K) of the class token's head and of the distillation token's head."""
    assert student.heads is not None  # the requirement
    class_head, distillation_head = student.heads
    return class_head, distillation_head


class DeiTHard(Method):
    """``ce_weight * CE(class head, label) + hard_weight * CE(distillation head, teacher's decision)``.

    Touvron et al. 2021, equation 3. The authors have one weight, alpha: 1 - alpha is the first here, alpha the second.
    They smooth the label by 0.1 and mix images, which the published recipe adds and the loss does not. The mean of both
    heads' logits predicts, as in the authors' code; the paper adds their probabilities.
    """

    paper = "Touvron et al. 2021, arXiv:2012.12877"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True, student_has=("two heads",))

    def __init__(self, ce_weight: NonNegative, hard_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.hard_weight = ce_weight, hard_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        class_head, distillation_head = two_heads(student)
        return {
            "ce": self.ce_weight * cross_entropy(class_head, batch.labels),
            "hard": self.hard_weight * hard_label_loss(distillation_head, teacher.logits),
        }
