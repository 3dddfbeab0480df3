"""Neuron selectivity transfer."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, inner_products, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages


def nst_loss(student_stage: Tensor, teacher_stage: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of the channels' selectivity patterns, mean over the batch.

    A pattern is the map of a channel, flattened and L2-normalised; the kernel is ``(x . y)^2``, the polynomial one of
    Huang & Wang 2017 with c = 0 and d = 2, averaged over pairs of channels. The larger map is average-pooled to the
    smaller one.

    With patterns as rows of ``S`` and ``T`` the sum of a kernel over all pairs is ``||S T^t||^2 = <S^t S, T^t T>``. So
    for maps with few positions the loss is ``||S^t S / C_s - T^t T / C_t||^2``, where nothing exceeds (B, HW, HW).

    Args:
        student_stage, teacher_stage: (B, C, H, W), channels and sizes may differ.
    """
    student, teacher = (
        F.normalize(full_precision(stage).flatten(2), dim=2) for stage in to_smaller_size(student_stage, teacher_stage)
    )
    s, t, positions = student.shape[1], teacher.shape[1], student.shape[2]
    if positions * (s + t) < s**2 + s * t + t**2:  # the multiplications of either way, over HW
        return (_second_moment(student) - _second_moment(teacher)).pow(2).sum(dim=(1, 2)).mean()
    return _mean_kernel(student, student) + _mean_kernel(teacher, teacher) - 2 * _mean_kernel(student, teacher)


def _second_moment(patterns: Tensor) -> Tensor:
    """Return the mean outer product (B, HW, HW) of the ``patterns`` (B, C, HW) with themselves."""
    return inner_products(patterns.mT, patterns.mT) / patterns.shape[1]


def _mean_kernel(left: Tensor, right: Tensor) -> Tensor:
    return inner_products(left, right).pow(2).mean()


class NST(Method):
    """``CE + nst_weight * sum over stages of the squared discrepancy``.

    RepDistiller and mdistiller weigh it by 50. The discrepancy is complete: it includes the term of the teacher alone,
    which has no gradient.

    Args:
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
    """

    paper = "Huang & Wang 2017, arXiv:1707.01219"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(self, ce_weight: NonNegative, nst_weight: NonNegative, skip_stages: Count) -> None:
        super().__init__()
        self.ce_weight, self.nst_weight, self.skip_stages = ce_weight, nst_weight, skip_stages

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        losses = [nst_loss(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "nst": self.nst_weight * torch.stack(losses).sum()}
