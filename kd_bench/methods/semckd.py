"""SemCKD: each student stage learns from all teacher stages, by an attention that is learned along."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision, gram_matrix, inner_products, to_smaller_size
from kd_bench.methods.simkd import conv_bn_relu
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import stages_of


def attention(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Softmax over teacher stages of the products of queries and keys (Chen et al. 2021).

    Args:
        queries, keys: those of S student and T teacher stages, (B, S, E) and (B, T, E).
        scale: > 0, divides the products; 1 in the authors' code.

    Returns:
        (B, S, T), rows sum to 1.
    """
    return F.softmax(inner_products(queries, keys) / scale, dim=2)


def semckd_loss(distances: Tensor, weights: Tensor) -> Tensor:
    """Sum of distances times attention over teacher stages, mean over batch and student stages.

    Args:
        distances: (B, S, T), for each sample the mean squared difference of a student and a teacher map.
        weights: (B, S, T).
    """
    return (distances * weights).sum(dim=2).mean()


class Direction(nn.Module):
    """Query or key of a stage: from rows (B, N) of the batch's similarities to unit vectors (B, E)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(inputs, 2 * outputs), nn.ReLU(), nn.Linear(2 * outputs, outputs))

    def forward(self, similarities: Tensor) -> Tensor:
        return F.normalize(full_precision(self.layers(similarities)), dim=1)


def regressor(inputs: int, outputs: int) -> nn.Sequential:
    """Student map to the teacher's channels: 1x1, 3x3 and 1x1 convolutions, twice as wide in the middle."""
    return nn.Sequential(
        *conv_bn_relu(inputs, 2 * outputs, 1),
        *conv_bn_relu(2 * outputs, 2 * outputs, 3),
        nn.Conv2d(2 * outputs, outputs, 1, bias=False),
    )


class SemCKD(KD):
    """``CE + kd_weight * KD + semckd_weight * semckd_loss`` over all pairs of a student and a teacher stage.

    A stage asks (student) or answers (teacher) by a row of its similarity matrix over the batch, so the width of that
    row is part of the adapters' shapes. In each pair the larger map is average-pooled to the size of the smaller one,
    the student's before its regressor. Gradients flow through the attention too.

    Args:
        batch_size: the largest batch there can be. Rows of a smaller batch, such as the last of an epoch, are filled
            up with zeros; the authors' code skips such a batch.
        attention_scale: see ``attention``.
        skip_stages: stages left out at the shallow end of both networks; 1 leaves out the stem.
    """

    paper = "Chen et al. 2021, arXiv:2012.03236"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        semckd_weight: NonNegative,
        attention_scale: Positive,
        skip_stages: Count,
        batch_size: PositiveInt,
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.semckd_weight, self.attention_scale = semckd_weight, attention_scale
        self.skip_stages, self.batch_size = skip_stages, batch_size

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        student_channels, teacher_channels = (
            [shape[0] for shape in tap.stage_shapes[self.skip_stages :]] for tap in (student, teacher)
        )
        if not student_channels or not teacher_channels:
            raise ConfigError(f"method.skip_stages={self.skip_stages} leaves no stage; {stages_of(student, teacher)}")
        width = max(self.batch_size // 4, 1)
        self.queries = nn.ModuleList(Direction(self.batch_size, width) for _ in student_channels)
        self.keys = nn.ModuleList(Direction(self.batch_size, width) for _ in teacher_channels)
        self.regressors = nn.ModuleList(
            nn.ModuleList(regressor(inputs, outputs) for outputs in teacher_channels) for inputs in student_channels
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        maps = student.stages[self.skip_stages :], teacher.stages[self.skip_stages :]
        loss = semckd_loss(self.distances(*maps), self.attention(*maps))
        return {
            **super().forward(student, teacher, batch, progress),
            "semckd": self.semckd_weight * loss,
        }

    def attention(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
        """Return the attention (B, S, T) of S student maps to T teacher maps."""
        queries = [query(self._similarities(each)) for query, each in zip(self.queries, student_maps, strict=True)]
        keys = [key(self._similarities(each)) for key, each in zip(self.keys, teacher_maps, strict=True)]
        return attention(torch.stack(queries, dim=1), torch.stack(keys, dim=1), self.attention_scale)

    def _similarities(self, stage: Tensor) -> Tensor:
        """Return the inner products of the samples' maps, (B, batch_size)."""
        if len(stage) > self.batch_size:
            raise ConfigError(f"method.batch_size={self.batch_size}: a batch has {len(stage)} samples")
        return F.pad(gram_matrix(stage.flatten(1)), (0, self.batch_size - len(stage)))

    def distances(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
        """Return the mean squared differences (B, S, T) of each sample and each pair of maps."""
        rows = [
            torch.stack([self._distance(i, j, student_map, target) for j, target in enumerate(teacher_maps)], dim=1)
            for i, student_map in enumerate(student_maps)
        ]
        return torch.stack(rows, dim=1)

    def _distance(self, i: int, j: int, student_map: Tensor, teacher_map: Tensor) -> Tensor:
        student_map, teacher_map = to_smaller_size(student_map, teacher_map)
        regressors = self.regressors[i]
        assert isinstance(regressors, nn.ModuleList)
        difference = full_precision(regressors[j](student_map)) - full_precision(teacher_map)
        return difference.pow(2).mean(dim=(1, 2, 3))
