"""CS-KD: class-wise self-distillation between two samples of a class."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


class CSKD(Method):
    """``ce_weight * CE + class_weight * T^2 * KL(p_partner || p)``, over the samples, not over their partners.

    A partner is of the same class, and may be the sample itself; its prediction receives no gradient. The authors run
    the partners in a second pass, without gradients but in train mode; here both halves share one pass, so that batch
    norms see them together.
    """

    paper = "Yun et al. 2020, arXiv:2003.13964"
    family = "self-distillation"
    requires = Requirements(teacher="none", sampler="class_pairs")

    def __init__(self, ce_weight: NonNegative, class_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.class_weight, self.temperature = ce_weight, class_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits, partner_logits = student.logits.chunk(2)
        ce = cross_entropy(logits, batch.targets[: len(logits)])
        soft = peer_loss(logits, partner_logits, self.temperature)
        return {"ce": self.ce_weight * ce, "class_wise": self.class_weight * soft}
