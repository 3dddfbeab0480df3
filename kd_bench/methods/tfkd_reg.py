"""Tf-KD by a virtual teacher: distillation as a regulariser, with no network as teacher."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Fraction, NonNegative, OpenFraction, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def tfkd_reg_loss(
    logits: Tensor, targets: Tensor, temperature: float, multiplier: float, correct_probability: float
) -> Tensor:
    """``multiplier * KL(u || p)`` with a hand-made teacher ``u``, the KL a mean over batch AND classes.

    Yuan et al. 2020, equations 10 and 11, as the authors' code has them: the virtual teacher's probabilities
    (``correct_probability`` on the label, the rest spread evenly) go through a softmax at ``temperature`` as if they
    were logits, so ``u`` is almost uniform; the student is not softened; there is no T^2.

    Args:
        logits: (B, K).
        targets: (B,) class indices.
    """
    classes = logits.shape[1]
    virtual = torch.full_like(logits, (1 - correct_probability) / (classes - 1))
    virtual.scatter_(1, targets[:, None], correct_probability)
    teacher = F.log_softmax(virtual / temperature, dim=1)
    return multiplier * F.kl_div(F.log_softmax(logits, dim=1), teacher, reduction="none", log_target=True).mean()


class TfKDReg(Method):
    """``(1 - distillation_weight) * CE + distillation_weight * multiplier * KL(u || p)``."""

    paper = "Yuan et al. 2020, arXiv:1909.11723"
    family = "self-distillation"
    requires = Requirements(teacher="none")

    def __init__(
        self,
        distillation_weight: Fraction,
        temperature: Positive,
        multiplier: NonNegative,
        correct_probability: OpenFraction,
    ) -> None:
        super().__init__()
        self.distillation_weight, self.temperature = distillation_weight, temperature
        self.multiplier, self.correct_probability = multiplier, correct_probability

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        soft = tfkd_reg_loss(student.logits, batch.targets, self.temperature, self.multiplier, self.correct_probability)
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": (1 - self.distillation_weight) * ce, "kd": self.distillation_weight * soft}
