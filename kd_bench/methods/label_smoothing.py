"""Label smoothing, the teacher-free baseline that distillation must beat."""

import torch
from torch import Tensor

from kd_bench.config.ranges import Fraction
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import soft_cross_entropy
from kd_bench.models.features import Outputs


def label_smoothing_loss(logits: Tensor, targets: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy with ``1 - smoothing`` on the label and ``smoothing / (K - 1)`` on every other class.

    As the code of Tf-KD (Yuan et al. 2020) defines it. torch's own ``label_smoothing`` spreads ``smoothing / K`` over
    all classes, the label included, which is another value.

    Args:
        logits: (B, K).
        targets: (B,) class indices.
        smoothing: in [0, 1].
    """
    classes = logits.shape[1]
    soft = torch.full_like(logits, smoothing / (classes - 1))
    soft.scatter_(1, targets[:, None], 1 - smoothing)
    return soft_cross_entropy(logits, soft)


class LabelSmoothing(Method):
    """Smoothed labels instead of a teacher."""

    paper = "Szegedy et al. 2016, arXiv:1512.00567"
    family = "baseline"
    requires = Requirements(teacher="none")

    def __init__(self, smoothing: Fraction) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"ce": label_smoothing_loss(student.logits, batch.targets, self.smoothing)}
