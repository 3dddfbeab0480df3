"""Activation boundaries."""

import torch
from torch import Tensor, nn

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.fitnet import Regressor
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages, stages_of


def ab_loss(student_map: Tensor, teacher_map: Tensor, margin: float) -> Tensor:
    """Squared distance of each unit from its side of the boundary, sum over units, mean over the batch.

    Where the teacher is active (> 0) the student should reach ``margin``, elsewhere ``-margin``; units beyond it have
    no loss (Heo et al. 2019, the alternative loss with a margin). Only the sign of the teacher's map counts.

    Args:
        student_map: (B, C, H, W) before the ReLU.
        teacher_map: (B, C, H, W).
    """
    student = full_precision(student_map)
    missing = torch.where(teacher_map > 0, margin - student, margin + student)
    return missing.clamp(min=0).pow(2).sum() / len(student)


class Connector(Regressor):
    """The regressor of hints without its ReLU."""

    def forward(self, student_map: Tensor) -> Tensor:
        connected: Tensor = self.bn(self.conv(student_map))
        return connected


class AB(Method):
    """Stage 1 trains the student up to its last stage on the boundaries; stage 2 trains all of it on the labels alone.

    Stage 1 is ``boundary_weight * sum over stages of 2^(i - n + 1) * loss``, the last of n stages counting most, on
    maps before the last ReLU. A student that does not give these is compared by its stage maps; for a teacher, stage
    maps are as good, since a ReLU keeps what is positive.

    Args:
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
        pretrain_epochs: length of stage 1; stage 2 lasts the recipe's epochs.
    """

    paper = "Heo et al. 2019, arXiv:1811.03233"
    family = "features"

    def __init__(
        self,
        ce_weight: NonNegative,
        boundary_weight: NonNegative,
        margin: Positive,
        skip_stages: Count,
        pretrain_epochs: PositiveInt,
    ) -> None:
        super().__init__()
        self.ce_weight, self.boundary_weight, self.margin = ce_weight, boundary_weight, margin
        self.skip_stages, self.pretrain_epochs = skip_stages, pretrain_epochs

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)
        try:
            self.connectors = nn.ModuleList(
                self._connector(student.stage_shapes[i], teacher.stage_shapes[j], student.has_pre_activations)
                for i, j in self.pairs
            )
        except ConfigError as error:
            raise ConfigError(f"{error}; {stages_of(student, teacher)}") from error

    @staticmethod
    def _connector(student: tuple[int, int, int], teacher: tuple[int, int, int], signed: bool) -> nn.Module:
        return nn.Identity() if signed and student == teacher else Connector(student, teacher)

    def stage_losses(self, student: Outputs, teacher: Outputs) -> list[Tensor]:
        """Return the weighted loss of each pair of stages."""
        student_maps = student.pre_activation or student.stages
        teacher_maps = teacher.pre_activation or teacher.stages
        weights = [self.boundary_weight * 2.0 ** (i - len(self.pairs) + 1) for i in range(len(self.pairs))]
        return [
            weight * ab_loss(connector(student_maps[i]), teacher_maps[j], self.margin)
            for weight, connector, (i, j) in zip(weights, self.connectors, self.pairs, strict=True)
        ]

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"boundary": torch.stack(self.stage_losses(student, teacher)).sum()}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets)}
