"""IRG: the instance relationship graph of a batch, and how it changes from stage to stage."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision, squared_distances
from kd_bench.models.features import FeatureTap, Outputs, paired_stages
from kd_bench.models.pairing import stages_of

EPSILON = 1e-12


def edges(features: Tensor) -> Tensor:
    """Squared distances of the samples of a batch, divided by the largest one: (B, ...) to (B, B)."""
    distances = squared_distances(features.flatten(1)).clamp_min(EPSILON)
    distances = distances * (1 - torch.eye(len(distances), dtype=distances.dtype, device=distances.device))
    return distances / (distances.max() + EPSILON)


def graph_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared differences of edges and, if the shapes are the same, of vertices (Liu et al. 2019).

    Args:
        student, teacher: embeddings (B, D) and (B, E).
    """
    loss = F.mse_loss(edges(student), edges(teacher))
    return loss + F.mse_loss(student, teacher) if student.shape == teacher.shape else loss


def transformation_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Squared difference of how far edges and vertices move from a shallow stage to a deep one (Liu et al. 2019).

    As in the authors' code the distance moved is one number for the whole batch: a mean square. Vertices count if both
    networks keep the shape of their maps from the shallow stage to the deep one.

    Args:
        student, teacher: maps of a shallow and a deep stage, (B, ...) each.
    """
    moved = [F.mse_loss(edges(shallow), edges(deep)) for shallow, deep in (student, teacher)]
    loss = (moved[0] - moved[1]).pow(2)
    if all(shallow.shape == deep.shape for shallow, deep in (student, teacher)):
        moved = [F.mse_loss(full_precision(shallow), full_precision(deep)) for shallow, deep in (student, teacher)]
        loss = loss + (moved[0] - moved[1]).pow(2)
    return loss


class IRG(KD):
    """``CE + kd_weight * KD + irg_weight * (graph_loss of embeddings + transformation_losses)``.

    This follows SemCKD's code, which gave the published numbers without the transformations that the paper has.

    Args:
        transformations: the stages between which they are taken, each as [shallow, deep], positions among the paired
            stages, the stem being 0.
    """

    paper = "Liu et al. 2019, CVPR"
    family = "relations"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        irg_weight: NonNegative,
        transformations: list[tuple[Count, Count]],
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.irg_weight, self.transformations = irg_weight, transformations

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = paired_stages(student, teacher)
        if any(stage >= len(self.pairs) for both in self.transformations for stage in both):
            raise ConfigError(
                f"method.transformations={self.transformations}: allowed stages: 0 to {len(self.pairs) - 1}; "
                f"{stages_of(student, teacher)}"
            )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        maps = [(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        graph = graph_loss(student.embedding, teacher.embedding)
        moves = [
            transformation_loss(*zip(maps[shallow], maps[deep], strict=True)) for shallow, deep in self.transformations
        ]
        return {
            **super().forward(student, teacher, batch, progress),
            "irg": self.irg_weight * sum(moves, start=graph),
        }
