"""DIST: correlations of predictions instead of their exact match."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs

EPSILON = 1e-8  # added to the product of the norms, as in the authors' code


def correlation_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the Pearson correlation of the rows of two (N, M) matrices, mean over the rows.

    Huang et al. 2022, section 4 (Pearson distance). A row without variation has correlation 0 with everything.
    """
    student = student - student.mean(dim=1, keepdim=True)
    teacher = teacher - teacher.mean(dim=1, keepdim=True)
    norms: Tensor = torch.linalg.vector_norm(student, dim=1) * torch.linalg.vector_norm(teacher, dim=1)
    return 1 - ((student * teacher).sum(dim=1) / (norms + EPSILON)).mean()


def dist_losses(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """``T^2`` times the correlation distance of softened probabilities: by sample, and by class over the batch.

    Huang et al. 2022, section 4 (inter-class and intra-class relation). The factor T^2 is the code's. The second one
    depends on the batch size.

    Args:
        student_logits, teacher_logits: (B, K).
    """
    student, teacher = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    inter_class = correlation_distance(student, teacher)
    intra_class = correlation_distance(student.T, teacher.T)
    return temperature**2 * inter_class, temperature**2 * intra_class


class DIST(Method):
    """``ce_weight * CE + inter_weight * inter-class + intra_weight * intra-class``.

    Both weights are 2 in the authors' code: 1 (the paper's beta and gamma) times an outer weight of 2.
    """

    paper = "Huang et al. 2022, arXiv:2205.10536"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(
        self, ce_weight: NonNegative, inter_weight: NonNegative, intra_weight: NonNegative, temperature: Positive
    ) -> None:
        super().__init__()
        self.ce_weight, self.temperature = ce_weight, temperature
        self.inter_weight, self.intra_weight = inter_weight, intra_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        inter_class, intra_class = dist_losses(student.logits, teacher.logits, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.labels),
            "inter_class": self.inter_weight * inter_class,
            "intra_class": self.intra_weight * intra_class,
        }
