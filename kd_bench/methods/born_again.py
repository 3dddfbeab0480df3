"""Born-Again networks: each generation learns from the one before, which is the same network."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, soft_cross_entropy
from kd_bench.models.features import Outputs


def born_again_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Cross-entropy of the student (B, K) with the previous generation's probabilities (B, K), at temperature 1.

    Furlanello et al. 2018, section 3 (BAN); the teacher's entropy is not subtracted.
    """
    return soft_cross_entropy(student_logits, F.softmax(teacher_logits, dim=1))


class BornAgain(Method):
    """``soft_weight * H(p_previous, p) + ce_weight * CE``; the paper's BAN has no label term, its BAN+L weighs it 1.

    One run is one generation. ``chain=born_again chain.generations=3`` runs three, each from the record of the one
    before; generation 0 is the network trained from scratch.
    """

    paper = "Furlanello et al. 2018, arXiv:1805.04770"
    family = "self-distillation"
    reads = ("logits",)
    requires = Requirements(soft_targets=True, teacher="own")

    def __init__(self, soft_weight: NonNegative, ce_weight: NonNegative) -> None:
        super().__init__()
        self.soft_weight, self.ce_weight = soft_weight, ce_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        soft = born_again_loss(student.logits, teacher.logits)
        ce = cross_entropy(student.logits, batch.labels)
        return {"ce": self.ce_weight * ce, "soft": self.soft_weight * soft}
