"""A comprehensive overhaul of feature distillation."""

import math

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import Count, NonNegative
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, full_precision, to_smaller_size
from kd_bench.models.cifar.network import CifarNetwork
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import stages_of

RARE = 0.001  # a probability of being negative below which a channel's margin is three standard deviations


def margins(weight: Tensor, bias: Tensor) -> Tensor:
    """Mean of each channel where it is negative: scale and shift (C,) of a batch norm to (1, C, 1, 1).

    A channel is taken for normally distributed with mean ``bias`` and standard deviation ``|weight|``, so the margin is
    ``mean - deviation * density(z) / probability(-z)`` with ``z = mean / deviation`` (Heo et al. 2019, equation
    3). Where it is negative with a probability of at most 0.001 the authors' code takes ``-3 * deviation``. As there,
    they are computed in float64 and kept in float32, whatever the network's precision.
    """
    deviation, mean = weight.double().abs().clamp(min=torch.finfo(torch.float64).tiny), bias.double()
    z = mean / deviation
    negative = torch.special.ndtr(-z)
    density = torch.exp(-z.pow(2) / 2) / math.sqrt(2 * math.pi)
    expected = mean - deviation * density / negative.clamp(min=RARE)
    return torch.where(negative > RARE, expected, -3 * deviation).float().view(1, -1, 1, 1)


def ofd_loss(student_map: Tensor, teacher_map: Tensor, margin: Tensor) -> Tensor:
    """Partial L2 distance to the margin ReLU of the teacher, sum over units, mean over the batch (equations 2 and 4).

    A unit has no loss where the teacher is not positive and the student already is below ``max(teacher, margin)``. The
    larger map is average-pooled to the smaller one, as mdistiller does with the teacher's.

    Args:
        student_map: (B, C, H, W), connected; before the ReLU.
        teacher_map: (B, C, H, W) before the ReLU.
        margin: (1, C, 1, 1).
    """
    student, teacher = to_smaller_size(full_precision(student_map), full_precision(teacher_map))
    target = torch.maximum(teacher, margin)
    counted = (student > target) | (teacher > 0)
    return torch.where(counted, student - target, 0).pow(2).sum() / len(student)


class Connector(nn.Sequential):
    """A 1x1 convolution without bias and a batch norm."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")


class OFD(Method):
    """``CE + overhaul_weight * sum over stages of 2^(i - n + 1) * partial distance``.

    The last of n stages counts most. Maps are those before the last ReLU: a teacher that does not give them is refused,
    a student that does not is compared by its stage maps. Networks with different numbers of stages are aligned at the
    last one.

    Args:
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
        teacher_batch_statistics: whether the teacher's batch norms use the statistics of the batch: the authors and
            mdistiller leave it in train mode (there its running statistics move too, which has no effect on the loss).
    """

    paper = "Heo et al. 2019, arXiv:1904.01866"
    family = "features"

    def __init__(
        self, ce_weight: NonNegative, overhaul_weight: NonNegative, skip_stages: Count, teacher_batch_statistics: bool
    ) -> None:
        super().__init__()
        self.ce_weight, self.overhaul_weight, self.skip_stages = ce_weight, overhaul_weight, skip_stages
        self.requires = Requirements(batch_statistics=teacher_batch_statistics)

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = self._pairs(student, teacher)
        # They have their trained values only once training starts; a tuple keeps them out of the method.
        self._batch_norms = tuple(last_batch_norms(teacher, [j for _, j in self.pairs]))
        self.connectors = nn.ModuleList(
            Connector(student.stage_shapes[i][0], teacher.stage_shapes[j][0]) for i, j in self.pairs
        )

    def _pairs(self, student: FeatureTap, teacher: FeatureTap) -> list[tuple[int, int]]:
        student_stages, teacher_stages = len(student.stage_shapes), len(teacher.stage_shapes)
        shared = min(student_stages, teacher_stages)
        aligned = [(student_stages - n, teacher_stages - n) for n in range(shared, 0, -1)]
        pairs = (student.stage_pairs or aligned)[self.skip_stages :]
        if not pairs:
            raise ConfigError(f"method.skip_stages={self.skip_stages} leaves no stage; {stages_of(student, teacher)}")
        return pairs

    def stage_losses(self, student: Outputs, teacher: Outputs) -> list[Tensor]:
        """Return the loss of each pair of stages, times the weight of the stage."""
        student_maps, teacher_maps = student.pre_activation or student.stages, teacher.pre_activation
        assert teacher_maps is not None  # build_adapters refuses a teacher without them
        last = len(self.pairs) - 1
        losses = []
        parts = zip(self.connectors, self._batch_norms, self.pairs, strict=True)
        for position, (connector, batch_norm, (i, j)) in enumerate(parts):
            margin = margins(batch_norm.weight.detach(), batch_norm.bias.detach())
            loss = ofd_loss(connector(student_maps[i]), teacher_maps[j], margin)
            losses.append(2.0 ** (position - last) * loss)
        return losses

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        overhaul = torch.stack(self.stage_losses(student, teacher)).sum()
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "overhaul": self.overhaul_weight * overhaul}


def last_batch_norms(network: FeatureTap, stages: list[int]) -> list[nn.BatchNorm2d]:
    """Return the batch norm before the last ReLU of each of ``stages``.

    Raises:
        ConfigError: the network does not give maps before that ReLU, or has no batch norm there.
    """
    body = network.network
    names = body.last_batch_norms() if isinstance(body, CifarNetwork) and network.has_pre_activations else []
    found = [body.get_submodule(names[stage] or "") for stage in stages] if names else []
    norms = [norm for norm in found if isinstance(norm, nn.BatchNorm2d)]
    if len(norms) < len(stages):
        raise ConfigError(
            f"method=ofd takes margins from the batch norm before the last ReLU of each of the stages {stages}, which "
            f"{network.name} does not give; CIFAR ResNets, Wide ResNets, VGGs and MobileNetV2 do"
        )
    return norms
