"""WKD-F: the Wasserstein distance of two Gaussians, one for the positions of each network's last map."""

from typing import Literal

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.fitnet import Regressor
from kd_bench.methods.losses import cosine_decay, cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs, Shape
from kd_bench.models.pairing import stages_of

BOTTLENECK = 256  # channels


def blocks(length: int, grid: int) -> list[slice]:
    """Cut ``length`` positions into ``grid`` blocks, which overlap where it does not divide them, as adaptive pools."""
    return [slice(i * length // grid, -(-(i + 1) * length // grid)) for i in range(grid)]


def gaussians(stage: Tensor, grid: int, eps: float) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over the positions of each block, both (B, C, grid * grid).

    The deviation is the square root of the unbiased variance plus ``eps``.

    Args:
        stage: (B, C, H, W), of two positions or more in each block.
    """
    stage = full_precision(stage)
    rows, columns = blocks(stage.shape[2], grid), blocks(stage.shape[3], grid)
    parts = [stage[:, :, row, column].flatten(2) for row in rows for column in columns]
    means = torch.stack([part.mean(dim=2) for part in parts], dim=2)
    variances = torch.stack([part.var(dim=2) for part in parts], dim=2)
    return means, (variances + eps).sqrt()


def wkd_feature_losses(student_map: Tensor, teacher_map: Tensor, grid: int, eps: float) -> tuple[Tensor, Tensor]:
    """Squared distances of the means and of the standard deviations of both maps (B, C, H, W) of one shape.

    Lv et al. 2024: their sum is the squared 2-Wasserstein distance of Gaussians with diagonal covariance.
    Both are summed over channels and averaged over batch and blocks.
    """
    pairs = zip(gaussians(student_map, grid, eps), gaussians(teacher_map, grid, eps), strict=True)
    mean, deviation = ((student - teacher).pow(2).sum() / (len(student) * grid**2) for student, teacher in pairs)
    return mean, deviation


def bottleneck(student: Shape, teacher: Shape) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions with nothing in between, then batch norm and ReLU, for maps of one size.

    Raises:
        ConfigError: the maps differ in size.
    """
    if student[1:] != teacher[1:]:
        raise ConfigError(
            "method.projector=bottleneck needs last stages of one size; those of student and teacher are "
            f"{student[1]}x{student[2]} and {teacher[1]}x{teacher[2]}"
        )
    narrow, middle = nn.Conv2d(student[0], BOTTLENECK, 1), nn.Conv2d(BOTTLENECK, BOTTLENECK, 3, padding=1)
    wide = nn.Conv2d(BOTTLENECK, teacher[0], 1)
    return nn.Sequential(narrow, middle, wide, nn.BatchNorm2d(teacher[0]), nn.ReLU())


class WKDF(Method):
    """``CE + feature_weight * decay * (mean_weight * distance of means + distance of standard deviations)``.

    The maps are those of the last stage, the student's through a projector. The decay falls along a cosine to 0 in the
    last epoch. The paper writes the mean's weight as a ratio; in the authors' code, as here, the deviations have
    weight 1.

    Args:
        grid: blocks in each direction, each with Gaussians of its own; 1 takes the whole map.
        projector: ``conv`` is FitNet's regressor, one convolution; ``bottleneck`` is three.
        decay_start_epoch: epochs of full weight, from which on it falls; where there are no more epochs it stays.
        eps: added to the variances.
    """

    paper = "Lv et al. 2024, arXiv:2412.08139"
    family = "features"
    reads = ("stages",)

    def __init__(
        self,
        ce_weight: NonNegative,
        feature_weight: NonNegative,
        mean_weight: NonNegative,
        grid: PositiveInt,
        projector: Literal["conv", "bottleneck"],
        decay_start_epoch: Count,
        eps: Positive,
    ) -> None:
        super().__init__()
        self.ce_weight, self.feature_weight, self.mean_weight = ce_weight, feature_weight, mean_weight
        self.grid, self.kind, self.decay_start_epoch, self.eps = grid, projector, decay_start_epoch, eps

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        _, height, width = teacher.stage_shapes[-1]
        rows, columns = blocks(height, self.grid), blocks(width, self.grid)
        if min(row.stop - row.start for row in rows) * min(column.stop - column.start for column in columns) < 2:
            raise ConfigError(
                f"method.grid={self.grid}: a block of the last stage, {height}x{width}, has a single position, and so "
                f"no standard deviation; {stages_of(student, teacher)}"
            )
        make = Regressor if self.kind == "conv" else bottleneck
        self.projector: nn.Module = make(student.stage_shapes[-1], teacher.stage_shapes[-1])

    def distances(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Return ``wkd_feature_losses`` of the last stages, the student's through the projector."""
        projected = self.projector(student.stages[-1])
        return wkd_feature_losses(projected, teacher.stages[-1], self.grid, self.eps)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        mean, deviation = self.distances(student, teacher)
        weight = self.feature_weight * cosine_decay(progress.epoch, progress.epochs, self.decay_start_epoch)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "wkd_f": weight * (self.mean_weight * mean + deviation),
        }
