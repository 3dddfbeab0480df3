"""One-for-all: stages of any architecture are compared with any teacher as logits."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.byot import Exit
from kd_bench.methods.losses import cross_entropy, full_precision, soft_cross_entropy
from kd_bench.models.features import FeatureTap, Outputs


def ofa_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, modulation: float, temperature: float
) -> Tensor:
    """``- sum over classes of ((p_teacher + onehot)^modulation - onehot) * log p_student``, mean over the batch.

    Hao et al. 2023, adaptive target enhancement. With ``modulation`` 1 it is the cross-entropy with the teacher; a
    larger one adds to the target class by the teacher's confidence. It is not zero at its minimum; there is no T^2.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
        modulation: the paper's gamma, >= 1; ``eps`` in the authors' code.
    """
    label = F.one_hot(targets, student_logits.shape[1])
    weights = (F.softmax(teacher_logits / temperature, dim=1) + label) ** modulation - label
    return soft_cross_entropy(student_logits / temperature, weights)


def spread(stages: int, skip: int, exits: int) -> list[int]:
    """Indices of ``exits`` stages, fewer if there are fewer, evenly from behind the first ``skip`` to the last."""
    count = min(exits, stages - skip)
    return [skip - 1 - (-step * (stages - skip) // count) for step in range(1, count + 1)]


class OFA(Method):
    """``ce_weight * CE + kd_weight * L(logits) + exit_weight * sum over exits of L(exit's logits)``, L the OFA loss.

    An exit turns a stage of the student into logits; it is thrown away after training. The exits are those of BYOT
    (stride-2 convolutions down to the deepest map, pooling, a linear classifier) for all kinds of networks, token maps
    included. The authors have separable convolutions for CNNs, and patch merging and attention for transformers.

    Args:
        modulation: exponent of the target enhancement, see ``ofa_loss``; the paper tunes it for each pair.
        skip_stages: stages without an exit at the shallow end; 1 leaves out the stem.
        exits: their number, spread evenly over the other stages up to the last; fewer where there are fewer stages.
    """

    paper = "Hao et al. 2023, arXiv:2310.19444"
    family = "logits"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        exit_weight: NonNegative,
        modulation: Positive,
        temperature: Positive,
        skip_stages: Count,
        exits: PositiveInt,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.exit_weight = ce_weight, kd_weight, exit_weight
        self.modulation, self.temperature = modulation, temperature
        self.skip_stages, self.number_of_exits = skip_stages, exits

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        shapes = student.stage_shapes
        if self.skip_stages >= len(shapes):
            raise ConfigError(
                f"method.skip_stages={self.skip_stages} leaves no stage for an exit; {student.name}: {shapes}"
            )
        self.exit_stages = spread(len(shapes), self.skip_stages, self.number_of_exits)
        width = max(student.embedding_size, teacher.embedding_size)
        self.exits = nn.ModuleList(Exit(shapes[i], shapes[-1], width, data.num_classes) for i in self.exit_stages)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        exits = [
            self._loss(full_precision(exit_(student.stages[i])[0]), teacher.logits, batch.targets)
            for i, exit_ in zip(self.exit_stages, self.exits, strict=True)
        ]
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "kd": self.kd_weight * self._loss(student.logits, teacher.logits, batch.targets),
            "exits": self.exit_weight * torch.stack(exits).sum(),
        }

    def _loss(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
        return ofa_loss(student_logits, teacher_logits, targets, self.modulation, self.temperature)
