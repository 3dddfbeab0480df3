"""Variational information distillation."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages

LEAST_VARIANCE = 1e-5  # in the published code


def vid_loss(mean: Tensor, teacher_stage: Tensor, log_scale: Tensor, least_variance: float = LEAST_VARIANCE) -> Tensor:
    """Negative log-likelihood of the teacher's map under a Gaussian, but for a constant; mean over all elements.

    ``((teacher - mean)^2 / variance + log variance) / 2`` with ``variance = log(1 + exp(log_scale)) + least_variance``,
    one for each channel (Ahn et al. 2019, section 2). It can be negative.

    Args:
        mean, teacher_stage: (B, C, H, W).
        log_scale: (C,).
    """
    variance = (F.softplus(log_scale) + least_variance).view(1, -1, 1, 1)
    squared = (full_precision(teacher_stage) - full_precision(mean)).pow(2)
    return 0.5 * (squared / variance + variance.log()).mean()


class Gaussian(nn.Module):
    """A student stage's estimate of the teacher's: a mean by three 1x1 convolutions, a variance for each channel."""

    def __init__(
        self, student_channels: int, teacher_channels: int, initial_variance: float, least_variance: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(student_channels, teacher_channels, 1, bias=False)
        self.conv2 = nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False)
        self.conv3 = nn.Conv2d(teacher_channels, teacher_channels, 1, bias=False)
        start = math.log(math.expm1(initial_variance - least_variance))
        self.log_scale = nn.Parameter(torch.full((teacher_channels,), start))

    def forward(self, student_stage: Tensor) -> Tensor:
        """Return the mean: (B, C_student, H, W) to (B, C_teacher, H, W)."""
        mean: Tensor = self.conv3(F.relu(self.conv2(F.relu(self.conv1(student_stage)))))
        return mean


class VID(Method):
    """``CE + vid_weight * sum over stages of the negative log-likelihood``.

    RepDistiller trains the variances, as the paper does; in mdistiller they never reach the optimizer.

    Args:
        initial_variance: of each channel; greater than ``least_variance``.
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
        least_variance: the floor of the variances, which keeps the division by them finite.
    """

    paper = "Ahn et al. 2019, arXiv:1904.05835"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        vid_weight: NonNegative,
        initial_variance: Positive,
        skip_stages: Count,
        least_variance: Positive = LEAST_VARIANCE,
    ) -> None:
        super().__init__()
        if initial_variance <= least_variance:
            raise ConfigError(
                f"method.initial_variance={initial_variance} should be greater than "
                f"method.least_variance={least_variance}"
            )
        self.ce_weight, self.vid_weight = ce_weight, vid_weight
        self.initial_variance, self.skip_stages, self.least_variance = initial_variance, skip_stages, least_variance

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)
        self.gaussians = nn.ModuleList(
            Gaussian(student.stage_shapes[i][0], teacher.stage_shapes[j][0], self.initial_variance, self.least_variance)
            for i, j in self.pairs
        )

    def stage_losses(self, student: Outputs, teacher: Outputs) -> list[Tensor]:
        """Return ``vid_loss`` of each pair of stages."""
        losses = []
        for gaussian, (i, j) in zip(self.gaussians, self.pairs, strict=True):
            assert isinstance(gaussian, Gaussian)
            student_map, teacher_map = to_smaller_size(student.stages[i], teacher.stages[j])
            losses.append(vid_loss(gaussian(student_map), teacher_map, gaussian.log_scale, self.least_variance))
        return losses

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        vid = torch.stack(self.stage_losses(student, teacher)).sum()
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "vid": self.vid_weight * vid}
