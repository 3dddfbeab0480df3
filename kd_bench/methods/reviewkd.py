"""Knowledge review."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, warm_up
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages

WIDEST = 512  # channels in which levels are fused
POOLED_SIZES = (4, 2, 1)


def hierarchical_context_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of the maps and of their average pools to 4x4, 2x2 and 1x1, weighted 1, 1/2, 1/4, 1/8.

    Chen et al. 2021, section 3.3. Pools not smaller than the map are left out, and the next one takes their weight; the
    sum is divided by the sum of the weights.

    Args:
        student_map, teacher_map: (B, C, H, W) of one shape.
    """
    student, teacher = full_precision(student_map), full_precision(teacher_map)
    sizes = [size for size in POOLED_SIZES if size < student.shape[2]]
    losses = [F.mse_loss(student, teacher)]
    losses += [F.mse_loss(F.adaptive_avg_pool2d(student, n), F.adaptive_avg_pool2d(teacher, n)) for n in sizes]
    weights = [0.5**i for i in range(len(losses))]
    return torch.stack([weight * loss for weight, loss in zip(weights, losses, strict=True)]).sum() / sum(weights)


class Fusion(nn.Module):
    """Attention-based fusion (section 3.3) of a level of the student with the fusion of the deeper ones.

    Both are brought to ``middle`` channels and the level's size, weighed by two attention maps, and added.

    Args:
        inputs, outputs: channels of the student's and of the teacher's level.
        deepest: whether nothing is deeper, so that the level is only transformed.
    """

    def __init__(self, inputs: int, middle: int, outputs: int, deepest: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, middle, 1, bias=False), nn.BatchNorm2d(middle)
        self.conv2, self.bn2 = nn.Conv2d(middle, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)
        self.gates = None if deepest else nn.Conv2d(2 * middle, 2, 1)
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, level: Tensor, deeper: Tensor | None, size: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the map to compare with the teacher's level, and the one that the next fusion takes.

        Args:
            size: height and width of the teacher's level.
        """
        fused = self.bn1(self.conv1(level))
        if self.gates is not None and deeper is not None:
            deeper = _resized(deeper, fused.shape[2:])
            gates = self.gates(torch.cat([fused, deeper], dim=1)).sigmoid()
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        fused = _resized(fused, size)
        return self.bn2(self.conv2(fused)), fused


def _resized(values: Tensor, size: Sequence[int]) -> Tensor:
    return values if values.shape[2:] == tuple(size) else F.interpolate(values, tuple(size), mode="nearest")


class ReviewKD(Method):
    """``CE + review_weight * warm_up * sum over levels of the hierarchical context loss``.

    The levels are the stages and, deepest, the embedding as a 1x1 map. The teacher's are those before the last ReLU
    where the network gives them, otherwise its stage maps. The warm-up counts epochs from 1, as mdistiller does; the
    authors' code counts from 0, so that its first epoch has no loss. Where the stages differ from those of the networks
    in the tables, levels are paired automatically and each fusion works at the size of the student's level.

    Args:
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
    """

    paper = "Chen et al. 2021, arXiv:2104.09044"
    family = "features"

    def __init__(
        self, ce_weight: NonNegative, review_weight: NonNegative, warmup_epochs: PositiveInt, skip_stages: Count
    ) -> None:
        super().__init__()
        self.ce_weight, self.review_weight = ce_weight, review_weight
        self.warmup_epochs, self.skip_stages = warmup_epochs, skip_stages

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)[::-1]
        stages = [(student.stage_shapes[i][0], teacher.stage_shapes[j][0]) for i, j in self.pairs]
        channels = [(student.embedding_size, teacher.embedding_size), *stages]
        middle = min(WIDEST, student.embedding_size)
        self.fusions = nn.ModuleList(
            Fusion(inputs, middle, outputs, deepest=not level) for level, (inputs, outputs) in enumerate(channels)
        )

    def review(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return the sum of the losses of all levels, from the deepest to the shallowest."""
        teacher_maps = teacher.pre_activation or teacher.stages
        student_levels = [student.embedding[:, :, None, None], *(student.stages[i] for i, _ in self.pairs)]
        teacher_levels = [teacher.embedding[:, :, None, None], *(teacher_maps[j] for _, j in self.pairs)]
        losses: list[Tensor] = []
        deeper: Tensor | None = None
        for fusion, level, target in zip(self.fusions, student_levels, teacher_levels, strict=True):
            compared, deeper = fusion(level, deeper, target.shape[2:])
            losses.append(hierarchical_context_loss(compared, target))
        return torch.stack(losses).sum()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        weight = self.review_weight * warm_up(progress.epoch, self.warmup_epochs)
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "review": weight * self.review(student, teacher)}
