"""CS-KD: class-wise self-distillation between two samples of a class."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def class_wise_loss(logits: Tensor, partner_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(p_partner || p)`` of logits (B, K) of samples and of fixed partners of the same classes.

    Yun et al. 2020: the partner's prediction receives no gradient.
    """
    return kd_loss(logits, partner_logits.detach(), temperature)


class CSKD(Method):
    """``ce_weight * CE + class_weight * class-wise loss``, both over the samples, not over their partners.

    Partners may be the sample itself. The authors run the partners in a second pass, without gradients but in train
    mode; here both halves share one pass, so that batch norms see them together.
    """

    paper = "Yun et al. 2020, arXiv:2003.13964"
    family = "self-distillation"
    requires = Requirements(teacher="none", sampler="class_pairs")

    def __init__(self, ce_weight: NonNegative, class_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.class_weight, self.temperature = ce_weight, class_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        own, partner = student.logits.chunk(2)
        ce = cross_entropy(own, batch.targets[: len(own)])
        soft = class_wise_loss(own, partner, self.temperature)
        return {"ce": self.ce_weight * ce, "class_wise": self.class_weight * soft}
