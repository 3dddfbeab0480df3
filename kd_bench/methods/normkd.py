"""Normalized logits: each sample of each network has a temperature of its own, the spread of its logits."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def sample_temperatures(logits: Tensor, temperature_norm: float) -> Tensor:
    """``temperature_norm`` times the unbiased standard deviation of each row: (B, K) to (B, 1).

    Chi et al. 2023. Logits that are all alike, which the authors' code divides by zero, have the smallest positive
    temperature.
    """
    deviation = logits.std(dim=1, keepdim=True).clamp_min(torch.finfo(logits.dtype).eps)
    return temperature_norm * deviation


def normkd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature_norm: float) -> Tensor:
    """``tau_t^2 * KL(softmax(z_t / tau_t) || softmax(z_s / tau_s))``, mean over the batch.

    Chi et al. 2023: the temperatures tau are those of ``sample_temperatures``, for each network its own. The student's
    temperature has a gradient too.

    Args:
        student_logits, teacher_logits: (B, K).
    """
    student_temperatures = sample_temperatures(student_logits, temperature_norm)
    teacher_temperatures = sample_temperatures(teacher_logits, temperature_norm)
    student = F.log_softmax(student_logits / student_temperatures, dim=1)
    teacher = F.log_softmax(teacher_logits / teacher_temperatures, dim=1)
    divergences = F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1, keepdim=True)
    return (teacher_temperatures**2 * divergences).mean()


class NormKD(Method):
    """``ce_weight * CE + kd_weight * normkd_loss``.

    With two classes normalized logits are always the same two numbers and have no gradient. The authors' combination
    with DKD is left out.

    Args:
        temperature_norm: the paper's T_norm, the spread of logits after the division is its inverse.
    """

    paper = "Chi et al. 2023, arXiv:2308.00520"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True, min_classes=3)

    def __init__(self, ce_weight: NonNegative, kd_weight: NonNegative, temperature_norm: Positive) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature_norm = ce_weight, kd_weight, temperature_norm

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        kd = normkd_loss(student.logits, teacher.logits, self.temperature_norm)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "kd": self.kd_weight * kd}
