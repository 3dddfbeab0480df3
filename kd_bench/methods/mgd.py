"""MGD: the student's masked map must suffice to generate the teacher's."""

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import NonNegative, OpenFraction
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs


def generation_loss(generated: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared differences, summed over a sample's map, mean over the batch (Yang et al. 2022).

    Args:
        generated, teacher_map: (B, C, H, W).
    """
    return (full_precision(generated) - full_precision(teacher_map)).pow(2).sum(dim=(1, 2, 3)).mean()


def without_random_channels(stage: Tensor, fraction: float) -> Tensor:
    """``stage`` (B, C, H, W) with each channel of each sample set to 0 with probability ``fraction``.

    They are drawn from torch's generator. Kept channels stay as they are, unlike in a dropout.
    """
    kept = torch.rand(stage.shape[:2], device=stage.device) >= fraction
    return stage * kept[:, :, None, None]


def alignment(inputs: int, outputs: int) -> nn.Module:
    """A 1x1 convolution from the student's channels to the teacher's, where they differ."""
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)


def generator(channels: int) -> nn.Sequential:
    """Two 3x3 convolutions with a ReLU in between."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1)
    )


class MGD(Method):
    """``CE + mgd_weight * generation_loss(generator(masked student map), teacher map)`` on the last stage.

    For classification channels are masked; positions are for dense tasks. A 1x1 convolution aligns channels where the
    networks differ. The authors' code refuses maps of different size: here the larger is average-pooled.

    Args:
        masked_fraction: the probability that one of the student's aligned channels is masked.
    """

    paper = "Yang et al. 2022, arXiv:2205.01529"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(self, ce_weight: NonNegative, mgd_weight: NonNegative, masked_fraction: OpenFraction) -> None:
        super().__init__()
        self.ce_weight, self.mgd_weight, self.masked_fraction = ce_weight, mgd_weight, masked_fraction

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        channels = teacher.stage_shapes[-1][0]
        self.align = alignment(student.stage_shapes[-1][0], channels)
        self.generator = generator(channels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_map, teacher_map = to_smaller_size(student.stages[-1], teacher.stages[-1])
        generated = self.generator(without_random_channels(self.align(student_map), self.masked_fraction))
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "mgd": self.mgd_weight * generation_loss(generated, teacher_map),
        }
