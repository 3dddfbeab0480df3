"""Transformed teacher matching: the teacher is softened, the student is not."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveFraction
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def ttm_divergences(student_logits: Tensor, teacher_logits: Tensor, exponent: float) -> Tensor:
    """KL(transformed teacher || student) of each sample, (B,).

    Zheng & Yang 2024, section 3: the teacher's probabilities are raised to ``exponent`` and renormalised, which
    is a temperature of ``1 / exponent``; the student keeps temperature 1, and there is no T^2.

    Args:
        student_logits, teacher_logits: (B, K).
        exponent: in (0, 1].
    """
    teacher = F.log_softmax(exponent * teacher_logits, dim=1)
    student = F.log_softmax(student_logits, dim=1)
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=1)


class TTM(Method):
    """``ce_weight * CE + ttm_weight * mean KL``; KD without a temperature on the student.

    Logits are not standardized here: the student's scale is what the method leaves free.
    """

    paper = "Zheng & Yang 2024, arXiv:2402.11148"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(self, ce_weight: NonNegative, ttm_weight: NonNegative, exponent: PositiveFraction) -> None:
        super().__init__()
        self.ce_weight, self.ttm_weight, self.exponent = ce_weight, ttm_weight, exponent

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        ttm = ttm_divergences(student.logits, teacher.logits, self.exponent).mean()
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "ttm": self.ttm_weight * ttm}
