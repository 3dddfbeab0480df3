"""SemCKD: each student stage learns from all teacher stages, by an attention that is learned along."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, teacher_outputs
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision, inner_products, to_smaller_size
from kd_bench.methods.simkd import conv_bn_relu
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import stages_of


def attention(queries: Tensor, keys: Tensor, scale: float) -> Tensor:
    """Softmax over teacher stages of the products of queries and keys (Chen et al. 2021).

    Args:
        queries, keys: of S student and T teacher stages, (B, S, E) and (B, T, E).
        scale: > 0, divides the products; 1 in the authors' code.

    Returns:
        (B, S, T), rows sum to 1.
    """
    return F.softmax(inner_products(queries, keys) / scale, dim=2)


def semckd_loss(distances: Tensor, weights: Tensor) -> Tensor:
    """Sum of distances times attention over teacher stages, mean over batch and student stages.

    Args:
        distances: (B, S, T), of each sample mean squared differences of a student and a teacher map.
        weights: (B, S, T).
    """
    return (distances * weights).sum(dim=2).mean()


class Direction(nn.Module):
    """Query or key of a stage: rows (B, N) of the batch's similarities to unit vectors (B, E)."""

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


class SemCKD(Method):
    """``CE + kd_weight * KD + semckd_weight * semckd_loss`` over all pairs of a student and a teacher stage.

    A stage asks (student) or answers (teacher) by a row of its similarity matrix over the batch, so the width of that
    row is part of the adapters' shapes. Of each pair the larger map is average-pooled to the other's size, the
    student's before its regressor. Gradients flow through the attention too.

    Args:
        batch_size: the largest batch there can be. Rows of a smaller batch, as the last of an epoch is, are filled up
            with zeros; the authors' code skips such a batch.
        attention_scale: see ``attention``.
        skip_stages: stages left out at the shallow end of both networks; 1 leaves out the stem.
    """

    paper = "Chen et al. 2021, arXiv:2012.03236"
    family = "features"

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
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.semckd_weight, self.attention_scale = semckd_weight, attention_scale
        self.skip_stages, self.batch_size = skip_stages, batch_size

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap | None, data: DataSpec) -> None:
        assert teacher is not None  # the configuration check guarantees it
        own, other = ([shape[0] for shape in tap.stage_shapes[self.skip_stages :]] for tap in (student, teacher))
        if not own or not other:
            raise ConfigError(f"method.skip_stages={self.skip_stages} leaves no stage; {stages_of(student, teacher)}")
        width = max(self.batch_size // 4, 1)
        self.queries = nn.ModuleList(Direction(self.batch_size, width) for _ in own)
        self.keys = nn.ModuleList(Direction(self.batch_size, width) for _ in other)
        self.regressors = nn.ModuleList(
            nn.ModuleList(regressor(inputs, outputs) for outputs in other) for inputs in own
        )

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        teacher = teacher_outputs(teacher)
        own, other = student.stages[self.skip_stages :], teacher.stages[self.skip_stages :]
        loss = semckd_loss(self.distances(own, other), self.attention(own, other))
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "kd": self.kd_weight * kd_loss(student.logits, teacher.logits, self.temperature),
            "semckd": self.semckd_weight * loss,
        }

    def attention(self, own: list[Tensor], other: list[Tensor]) -> Tensor:
        """(B, S, T) of S student and T teacher maps."""
        queries = [query(self._similarities(stage)) for query, stage in zip(self.queries, own, strict=True)]
        keys = [key(self._similarities(stage)) for key, stage in zip(self.keys, other, strict=True)]
        return attention(torch.stack(queries, dim=1), torch.stack(keys, dim=1), self.attention_scale)

    def _similarities(self, stage: Tensor) -> Tensor:
        """Inner products of the samples' maps, (B, batch_size)."""
        if len(stage) > self.batch_size:
            raise ConfigError(f"method.batch_size={self.batch_size}: a batch has {len(stage)} samples")
        rows = stage.flatten(1)
        return F.pad(inner_products(rows, rows), (0, self.batch_size - len(stage)))

    def distances(self, own: list[Tensor], other: list[Tensor]) -> Tensor:
        """Mean squared differences of each pair of maps and each sample, (B, S, T)."""
        rows = [
            torch.stack([self._distance(i, j, stage, target) for j, target in enumerate(other)], dim=1)
            for i, stage in enumerate(own)
        ]
        return torch.stack(rows, dim=1)

    def _distance(self, i: int, j: int, stage: Tensor, target: Tensor) -> Tensor:
        pooled, wanted = to_smaller_size(stage, target)
        regressors = self.regressors[i]
        assert isinstance(regressors, nn.ModuleList)
        return (full_precision(regressors[j](pooled)) - full_precision(wanted)).pow(2).mean(dim=(1, 2, 3))
