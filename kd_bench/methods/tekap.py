"""TeKAP: one teacher becomes several, whose logits are its own with noise."""

import torch
from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def augmented_teachers_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    noise: Tensor,
    teacher_share: float,
    noise_share: float,
    temperature: float,
) -> Tensor:
    """Sum over M augmented teachers of ``kd_loss`` with ``teacher_share * z_t + noise_share * noise``.

    Hossain et al. 2025. A sum, as in the authors' code, not a mean: three teachers weigh three times as much as one.

    Args:
        student_logits, teacher_logits: (B, K).
        noise: (M, B, K), standard normal; its scale does not follow that of the logits.
    """
    augmented = teacher_share * teacher_logits + noise_share * noise
    return torch.stack([kd_loss(student_logits, logits, temperature) for logits in augmented]).sum()


class TeKAP(Method):
    """``ce_weight * CE + kd_weight * (KD + augmented_weight * augmented_teachers_loss)``, with new noise at each step.

    This is the authors' variant on logits. The one on features, contrastive with a second, noisy embedding of the
    teacher, is left out. The authors' code fixes all but ``ce_weight``, ``kd_weight`` and ``temperature``.

    Args:
        teacher_share, noise_share: factors of logits and noise in an augmented teacher.
        augmented_weight: the weight of the augmented teachers beside the teacher itself.
        augmented_teachers: M, the draws of noise in a step.
    """

    paper = "Hossain et al. 2025, ICLR"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        teacher_share: NonNegative,
        noise_share: NonNegative,
        augmented_weight: NonNegative,
        augmented_teachers: PositiveInt,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.teacher_share, self.noise_share = teacher_share, noise_share
        self.augmented_weight, self.augmented_teachers = augmented_weight, augmented_teachers

    def noise(self, logits: Tensor) -> Tensor:
        """Draw the noise of a step for logits (B, K): (M, B, K)."""
        return torch.randn(self.augmented_teachers, *logits.shape, dtype=logits.dtype, device=logits.device)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits, shares = (student.logits, teacher.logits), (self.teacher_share, self.noise_share)
        augmented = augmented_teachers_loss(*logits, self.noise(teacher.logits), *shares, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.labels),
            "kd": self.kd_weight * kd_loss(*logits, self.temperature),
            "augmented": self.kd_weight * self.augmented_weight * augmented,
        }
