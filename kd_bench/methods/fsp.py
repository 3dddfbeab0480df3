"""FSP: the flow of the solution procedure between neighbouring stages."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, inner_products, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs, paired_stages
from kd_bench.models.pairing import stages_of


def flow_matrix(shallow: Tensor, deep: Tensor) -> Tensor:
    """Products of channels, mean over positions: (B, C, H, W) and (B, D, H, W) to (B, C, D).

    Yim et al. 2017, equation 1. The larger map is average-pooled to the smaller one (the paper: max-pooled).
    """
    shallow, deep = (stage.flatten(2) for stage in to_smaller_size(shallow, deep))
    return inner_products(shallow, deep) / shallow.shape[2]


def fsp_losses(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[Tensor]:
    """Mean squared difference of the flow matrices, for each two neighbouring stages (equation 2 sums it over entries).

    Args:
        student, teacher: stages (B, C, H, W), as many and with the same channels; sizes may differ.
    """
    return [
        F.mse_loss(flow_matrix(*student_stages), flow_matrix(*teacher_stages))
        for student_stages, teacher_stages in zip(pairwise(student), pairwise(teacher), strict=True)
    ]


class FSP(Method):
    """Stage 1 trains all of the student but its classifier on the flow matrices; stage 2 on the labels alone.

    As RepDistiller: the stem is a stage too, and stage 1 has no weight. The paper has three matrices of its own ResNets
    and a longer first stage.

    Args:
        pretrain_epochs: length of stage 1; stage 2 lasts the recipe's epochs.
    """

    paper = "Yim et al. 2017, CVPR"
    family = "relations"
    reads = ("logits", "embedding", "stages")

    def __init__(self, ce_weight: NonNegative, pretrain_epochs: PositiveInt) -> None:
        super().__init__()
        self.ce_weight, self.pretrain_epochs = ce_weight, pretrain_epochs

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = paired_stages(student, teacher)
        equal = all(student.stage_shapes[i][0] == teacher.stage_shapes[j][0] for i, j in self.pairs)
        if len(self.pairs) < 2 or not equal:
            raise ConfigError(
                "method=fsp compares channels one by one, so it needs at least two pairs of stages, each of as many "
                f"channels; paired: {self.pairs}; {stages_of(student, teacher)}"
            )

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_stages = [student.stages[i] for i, _ in self.pairs]
        teacher_stages = [teacher.stages[j] for _, j in self.pairs]
        return {"fsp": torch.stack(fsp_losses(student_stages, teacher_stages)).sum()}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets)}
