"""Curriculum temperature: a learned temperature that makes the student's task harder."""

import math

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, logit_pair
from kd_bench.models.features import Outputs


def adversarial_temperature(parameter: Tensor, start: float, span: float, gradient_scale: float) -> Tensor:
    """``start + span * sigmoid(parameter)``, whose gradient reaches ``parameter`` times ``gradient_scale``.

    Li et al. 2023, adversarial temperature learning. A negative scale reverses the gradient: a step that lowers the
    loss by the student raises it by the temperature. The sign is in the scale, as in the authors' code.
    """
    reversed_parameter = parameter.detach() + gradient_scale * (parameter - parameter.detach())
    return start + span * torch.sigmoid(reversed_parameter)


def reversal(epoch: int, epochs: int) -> float:
    """The gradient's scale: half a cosine from 0 towards -1, where it stays from epoch ``epochs`` on, counted from 1.

    Li et al. 2023, curriculum. ``epoch`` is counted from 0, and the first one is already 1 / ``epochs`` of the way.
    """
    return (math.cos(math.pi * min(epoch + 1, epochs) / epochs) - 1) / 2


class CTKD(Method):
    """``ce_weight * CE + kd_weight * T^2 * KL`` with one learned T for all samples (the paper's global variant).

    The factor T^2 is part of what T maximises. The paper's temperature per instance is left out.

    Args:
        temperature_start, temperature_range: T lies between ``start`` and ``start + range``; the parameter in the
            sigmoid begins at 1, so that T begins at 15.6 with the defaults.
        reversal_epochs: the epochs over which the gradient's reversal grows to its full size.
        standardize_logits: as in KD.
    """

    paper = "Li et al. 2023, arXiv:2211.16231"
    family = "logits"
    reads = ("logits",)

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature_start: Positive,
        temperature_range: Positive,
        reversal_epochs: PositiveInt,
        standardize_logits: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.reversal_epochs = ce_weight, kd_weight, reversal_epochs
        self.temperature_start, self.temperature_range = temperature_start, temperature_range
        self.standardize_logits = standardize_logits
        self.requires = Requirements(soft_targets=True, min_classes=3 if standardize_logits else 2)  # see logit_pair
        self.temperature_parameter = nn.Parameter(torch.ones(()))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        scale = reversal(progress.epoch, self.reversal_epochs)
        temperature = adversarial_temperature(
            self.temperature_parameter, self.temperature_start, self.temperature_range, scale
        )
        student_logits, teacher_logits = logit_pair(student.logits, teacher.logits, self.standardize_logits)
        kd = kd_loss(student_logits, teacher_logits, temperature)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "kd": self.kd_weight * kd}
