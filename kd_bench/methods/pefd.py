"""PEFD: the direction of the embedding, seen through the mean of several projectors."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision
from kd_bench.models.features import FeatureTap, Outputs


def pefd_loss(projected: Tensor, teacher_embedding: Tensor) -> Tensor:
    """``1 - cosine`` of both embeddings (B, D), mean over the batch (Chen et al. 2022).

    The authors' code has no guard against a vector of zeros; here the product of both norms is 1e-8 at least.
    """
    return (1 - F.cosine_similarity(projected, teacher_embedding, dim=1)).mean()


class PEFD(KD):
    """``CE + kd_weight * KD + direction_weight * (1 - cosine)``, averaged over the batch.

    The cosine is that of the teacher's embedding and the mean of the rectified projections of the student's. Each
    projector is a linear layer with a ReLU behind it; they differ by their initialisation alone.

    Args:
        projectors: how many there are.
    """

    paper = "Chen et al. 2022, arXiv:2210.15274"
    family = "features"
    reads = ("logits", "embedding")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        direction_weight: NonNegative,
        projectors: PositiveInt,
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.direction_weight, self.count = direction_weight, projectors

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.projectors = nn.ModuleList(
            nn.Linear(student.embedding_size, teacher.embedding_size) for _ in range(self.count)
        )

    def projected(self, embedding: Tensor) -> Tensor:
        """Return the mean of the rectified projections of embeddings (B, D)."""
        projections = [F.relu(projector(embedding)) for projector in self.projectors]
        return full_precision(torch.stack(projections).mean(dim=0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        direction = pefd_loss(self.projected(student.embedding), teacher.embedding)
        return {
            **super().forward(student, teacher, batch, progress),
            "direction": self.direction_weight * direction,
        }
