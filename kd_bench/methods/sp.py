"""Similarity-preserving distillation."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, gram_matrix
from kd_bench.models.features import Outputs


def similarities(stage: Tensor) -> Tensor:
    """Inner products (B, B) of the flattened maps (B, C, H, W), each row L2-normalised."""
    rows = stage.flatten(1)
    return F.normalize(gram_matrix(rows), dim=1)


def sp_loss(student_stage: Tensor, teacher_stage: Tensor) -> Tensor:
    """``||G_teacher - G_student||_F^2 / B^2`` with the ``similarities`` G (Tung & Mori 2019, section 3.1).

    Args:
        student_stage, teacher_stage: (B, C, H, W), channels and sizes may differ.
    """
    return F.mse_loss(similarities(student_stage), similarities(teacher_stage))


class SP(Method):
    """``CE + sp_weight * the distance of the similarities`` on the last stage, before pooling."""

    paper = "Tung & Mori 2019, arXiv:1907.09682"
    family = "relations"
    reads = ("logits", "embedding", "stages")
    requires = Requirements(soft_targets=True)

    def __init__(self, ce_weight: NonNegative, sp_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.sp_weight = ce_weight, sp_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        loss = sp_loss(student.stages[-1], teacher.stages[-1])
        ce = cross_entropy(student.logits, batch.labels)
        return {"ce": self.ce_weight * ce, "sp": self.sp_weight * loss}
