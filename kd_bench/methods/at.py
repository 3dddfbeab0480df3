"""Attention transfer."""

from types import MappingProxyType

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages


def attention(stage: Tensor, power: int) -> Tensor:
    """Channel mean of ``stage ** power``, flattened over space and L2-normalised per sample: (B, C, H, W) to (B, H*W).

    No absolute value is taken, as in the authors' code: an odd power keeps the sign.
    """
    return F.normalize(stage.pow(power).mean(dim=1).flatten(1), dim=1)


def at_loss(student_stage: Tensor, teacher_stage: Tensor, power: int) -> Tensor:
    """Mean squared difference of two attention maps over batch and positions (Zagoruyko & Komodakis 2017, equation 2).

    The paper takes the norm of the difference; the mean over positions, as in the authors' code, is why the weight is
    as large as 1000. The larger map is average-pooled to the smaller one before the power is taken.

    Args:
        student_stage, teacher_stage: (B, C, H, W), channels and sizes may differ.
        power: exponent p >= 1; 2 in all published results.
    """
    student, teacher = to_smaller_size(student_stage, teacher_stage)
    return (attention(student, power) - attention(teacher, power)).pow(2).mean()


class AT(Method):
    """``CE + at_weight * sum over stages of the attention distance``.

    Args:
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
    """

    paper = "Zagoruyko & Komodakis 2017, arXiv:1612.03928"
    family = "features"
    reads = ("logits", "embedding", "stages")
    requires = Requirements(soft_targets=True)
    tuned_on_32x32 = MappingProxyType({"at_weight": 1000.0})  # the mean over fewer positions is larger

    def __init__(self, ce_weight: NonNegative, at_weight: NonNegative, power: PositiveInt, skip_stages: Count) -> None:
        super().__init__()
        self.ce_weight, self.at_weight, self.power, self.skip_stages = ce_weight, at_weight, power, skip_stages

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        losses = [at_loss(student.stages[i], teacher.stages[j], self.power) for i, j in self.pairs]
        ce = cross_entropy(student.logits, batch.labels)
        return {"ce": self.ce_weight * ce, "at": self.at_weight * sum(losses[1:], start=losses[0])}
