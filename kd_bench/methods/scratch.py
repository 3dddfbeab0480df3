"""The baseline of every table: the student alone, on labels."""

from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


class Scratch(Method):
    """Cross-entropy with the labels. Teachers are trained with it too."""

    paper = "no distillation"
    family = "baseline"
    requires = Requirements(soft_targets=True, teacher="none")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"ce": cross_entropy(student.logits, batch.labels)}
