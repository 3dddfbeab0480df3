"""Logit regression: the student's logits are fitted to the teacher's by least squares."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def logit_regression_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Half the squared Euclidean distance of the logits (B, K), mean over the batch (Ba & Caruana 2014, equation 1).

    The logits are taken as they are, so that a shift of all of a sample's logits counts, which softmax would not see.
    """
    return (student_logits - teacher_logits).pow(2).sum(dim=1).mean() / 2


class LogitRegression(Method):
    """``ce_weight * CE + regression_weight * half squared distance``; the paper's mimic model sees no labels.

    The targets are the teacher's logits themselves; normalising each over the training set is left out.
    """

    paper = "Ba & Caruana 2014, arXiv:1312.6184"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(self, ce_weight: NonNegative, regression_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.regression_weight = ce_weight, regression_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        regression = logit_regression_loss(student.logits, teacher.logits)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.labels),
            "regression": self.regression_weight * regression,
        }
