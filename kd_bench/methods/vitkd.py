"""ViTKD: mimic the shallow layers of a ViT, generate its deepest one."""

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import NonNegative, OpenFraction, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.mgd import alignment, generation_loss, generator
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import stages_of


def mimicking_loss(student_stages: list[Tensor], teacher_stages: list[Tensor]) -> Tensor:
    """Squared differences, summed over the maps of a sample, mean over the batch (Yang et al. 2022).

    Args:
        student_stages, teacher_stages: lists of (B, C, H, W), aligned.
    """
    pairs = zip(student_stages, teacher_stages, strict=True)
    return torch.stack([generation_loss(*maps) for maps in pairs]).sum()


def random_mask(batch: int, height: int, width: int, masked: int, device: torch.device) -> Tensor:
    """A mask (B, 1, H, W), true at ``masked`` positions of each sample, which are drawn from torch's generator."""
    order = torch.rand(batch, height * width, device=device).argsort(dim=1)
    return (order < masked).view(batch, 1, height, width)


class ViTKD(Method):
    """``CE + mimicking_weight * mimicking + generation_weight * generation / masked_fraction``.

    Mimicking compares the first stages, generation the last one: there random positions of the student's map become a
    learned token, two convolutions fill them in, and they alone are compared with the teacher's. Linear layers align
    channels where the networks differ. Class tokens take no part. As in the authors' networks, the last stage is taken
    after the final norm of either network, the first ones as their blocks give them.

    Made for two ViTs of as many tokens. The formula needs no more than maps of one size, stage by stage: CNN pairs that
    have them are accepted, though nothing is published on them, and others are refused.

    Args:
        shallow_stages: how many stages are mimicked.
        masked_fraction: the fraction of the positions of the last stage that is masked.
    """

    paper = "Yang et al. 2022, arXiv:2209.02432"
    family = "features"

    def __init__(
        self,
        ce_weight: NonNegative,
        mimicking_weight: NonNegative,
        generation_weight: NonNegative,
        shallow_stages: PositiveInt,
        masked_fraction: OpenFraction,
    ) -> None:
        super().__init__()
        self.ce_weight, self.mimicking_weight, self.generation_weight = ce_weight, mimicking_weight, generation_weight
        self.shallow_stages, self.masked_fraction = shallow_stages, masked_fraction

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        student_shapes, teacher_shapes = (
            [*tap.stage_shapes[: self.shallow_stages], tap.stage_shapes[-1]] for tap in (student, teacher)
        )
        if [shape[1:] for shape in student_shapes] != [shape[1:] for shape in teacher_shapes]:
            raise ConfigError(
                f"method vitkd needs maps of one size in the first {self.shallow_stages} stages and in the last one, "
                f"which two ViTs with as many tokens have; {stages_of(student, teacher)}"
            )
        channels, height, width = teacher_shapes[-1]
        self.masked = height * width - int(height * width * (1 - self.masked_fraction))
        if self.masked == height * width:
            raise ConfigError(
                f"method.masked_fraction={self.masked_fraction} masks all {self.masked} positions of the last stage; "
                f"{stages_of(student, teacher)}"
            )
        self.align = nn.ModuleList(
            alignment(inputs[0], outputs[0]) for inputs, outputs in zip(student_shapes, teacher_shapes, strict=True)
        )
        self.token = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.generator = generator(channels)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        maps = [*student.stages[: self.shallow_stages], student.normalized_last_stage()]
        aligned = [align(stage) for align, stage in zip(self.align, maps, strict=True)]
        mimicking = mimicking_loss(aligned[:-1], teacher.stages[: self.shallow_stages])
        generation = self.generation(aligned[-1], teacher.normalized_last_stage()) / self.masked_fraction
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "mimicking": self.mimicking_weight * mimicking,
            "generation": self.generation_weight * generation,
        }

    def generation(self, aligned: Tensor, teacher_map: Tensor) -> Tensor:
        """Return ``generation_loss`` at random positions, which are masked in the student's aligned map."""
        mask = random_mask(len(aligned), aligned.shape[2], aligned.shape[3], self.masked, aligned.device)
        generated = self.generator(torch.where(mask, self.token.to(aligned.dtype), aligned))
        return generation_loss(generated * mask, teacher_map * mask)
