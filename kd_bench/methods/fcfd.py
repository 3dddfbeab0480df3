"""FCFD: features that the later stages of both networks take for their own."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision, warm_up
from kd_bench.models.features import FeatureTap, Outputs, Shape
from kd_bench.models.heads import rectified_stages
from kd_bench.models.pairing import compared_stages, stages_of

SLOPE = 0.1  # of the leaky ReLU


def fcfd_feature_loss(compared: list[list[Tensor]], teacher_maps: list[Tensor]) -> Tensor:
    """Mean squared errors of all maps in the teacher's space, summed over maps and stages (Liu et al. 2023).

    Maps of the last stage are compared once more, rectified and averaged over positions.

    Args:
        compared: for each stage, shallow to deep, the maps (B, C, H, W) that are compared with the teacher's.
        teacher_maps: for each stage the teacher's map of that shape.
    """
    losses = [
        F.mse_loss(full_precision(one), full_precision(teacher_map))
        for maps, teacher_map in zip(compared, teacher_maps, strict=True)
        for one in maps
    ]
    target = F.relu(full_precision(teacher_maps[-1])).mean(dim=(2, 3))
    losses += [F.mse_loss(F.relu(full_precision(one)).mean(dim=(2, 3)), target) for one in compared[-1]]
    return torch.stack(losses).sum()


def bridge(source: Shape, target: Shape, rectified: bool) -> nn.Sequential:
    """A convolution to the shape of the other network's stage, and batch norm.

    The convolution is 3x3, of stride 2 where the source is twice as large; a transposed 4x4 where it is half as large.

    Args:
        rectified: whether the target's maps have passed a ReLU; a leaky ReLU follows then.

    Raises:
        ConfigError: the sizes are neither equal nor in a ratio of two.
    """
    (inputs, height, width), (outputs, target_height, target_width) = source, target
    if (height, width) == (target_height, target_width):
        conv: nn.Module = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    elif ((height + 1) // 2, (width + 1) // 2) == (target_height, target_width):
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
    elif (2 * height, 2 * width) == (target_height, target_width):
        conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
    else:
        raise ConfigError(
            f"method fcfd needs paired stages of one size or of twice the size; there are {height}x{width} and "
            f"{target_height}x{target_width}"
        )
    if isinstance(conv, nn.Conv2d):
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), *([nn.LeakyReLU(SLOPE)] if rectified else []))


class FCFD(Method):
    """``CE + feature_weight * warm-up * features + kd_weight * KD + mixed_kd_weight * sum over mixed paths of KD``.

    Bridges carry the student's maps to the teacher's stages and back. A mixed path begins in one network, crosses
    behind a compared stage that is not the last, and goes on in the other to its logits; the paths of a step are drawn
    anew. In the teacher, whose weights are frozen, it leaves maps that are compared with the teacher's own beside the
    bridged ones. Batch norms of the student in a mixed path use the statistics of the batch and do not move the running
    ones: in the authors' code each path has running ones of its own, which nothing reads. Maps are those of the stages,
    rectified or not as each network has them.

    Args:
        mixed_paths: how many in each step, all different.
        warmup_epochs: over which the weight of the features rises linearly.
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the authors' code does.
        teacher_batch_statistics: whether the teacher's batch norms use the statistics of the batch: the authors leave
            it in train mode.
    """

    paper = "Liu et al. 2023, arXiv:2304.11832"
    family = "features"

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        feature_weight: NonNegative,
        mixed_kd_weight: NonNegative,
        mixed_paths: PositiveInt,
        warmup_epochs: PositiveInt,
        skip_stages: Count,
        teacher_batch_statistics: bool,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.feature_weight, self.mixed_kd_weight = feature_weight, mixed_kd_weight
        self.mixed_paths, self.warmup_epochs, self.skip_stages = mixed_paths, warmup_epochs, skip_stages
        self.requires = Requirements(
            batch_statistics=teacher_batch_statistics, student_has=("entry",), teacher_has=("entry",)
        )

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages, at_least=2)
        self.crossings = [(to_teacher, k) for to_teacher in (True, False) for k in range(len(self.pairs) - 1)]
        if self.mixed_paths > len(self.crossings):
            raise ConfigError(
                f"method.mixed_paths={self.mixed_paths}: there are {len(self.crossings)} in both directions; "
                f"{stages_of(student, teacher)}"
            )
        self._networks = student, teacher  # a tuple hides them: they are borrowed
        shapes = [(student.stage_shapes[i], teacher.stage_shapes[j]) for i, j in self.pairs]
        in_student, in_teacher = rectified_stages(student, data), rectified_stages(teacher, data)
        self.to_teacher = nn.ModuleList(
            bridge(source, target, in_teacher[j]) for (source, target), (_, j) in zip(shapes, self.pairs, strict=True)
        )
        self.to_student = nn.ModuleList(
            bridge(source, target, in_student[i])
            for (target, source), (i, _) in zip(shapes[:-1], self.pairs[:-1], strict=True)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        compared = [[bridged(student.stages[i])] for bridged, (i, _) in zip(self.to_teacher, self.pairs, strict=True)]
        drawn = torch.randperm(len(self.crossings))[: self.mixed_paths].tolist()
        mixed = [self._mixed(self.crossings[one], compared, teacher) for one in drawn]
        teacher_maps = [teacher.stages[j] for _, j in self.pairs]
        ramp = warm_up(progress.epoch, self.warmup_epochs)
        kd = [kd_loss(full_precision(logits), teacher.logits, self.temperature) for logits in (student.logits, *mixed)]
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "kd": self.kd_weight * kd[0],
            "mixed_kd": self.mixed_kd_weight * torch.stack(kd[1:]).sum(),
            "features": self.feature_weight * ramp * fcfd_feature_loss(compared, teacher_maps),
        }

    def _mixed(self, crossing: tuple[bool, int], compared: list[list[Tensor]], teacher: Outputs) -> Tensor:
        """Return the logits of a mixed path, and add the maps that it leaves in the teacher to those compared."""
        (to_teacher, position), (student_tap, teacher_tap) = crossing, self._networks
        i, j = self.pairs[position]
        if not to_teacher:
            return student_tap.resume(i, self.to_student[position](teacher.stages[j])).logits
        resumed = teacher_tap.resume(j, compared[position][0])
        for later in range(position + 1, len(self.pairs)):
            compared[later].append(resumed.stages[self.pairs[later][1] - j - 1])
        return resumed.logits
