"""Cross-view consistency: a weak and a strong view of each image, compared where the teacher is sure."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Fraction, NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_summands
from kd_bench.models.features import Outputs


def consistency_losses(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    temperature: float,
    weak_confidence: float,
    strong_confidence: float,
) -> tuple[Tensor, Tensor]:
    """Return the within-view and the cross-view term, before their weights.

    Zhang et al. 2024, section 3: each is a sum of two ``T^2 * KL``, of equal views (weak and weak, strong and strong)
    and of different ones (strong student and weak teacher, weak student and strong teacher). Samples of which the
    teacher is not sure count as zeros in the mean over the batch. As in the authors' code, both summands of the first
    term ask how sure it is of the weak view, and both of the second how sure it is of the strong one.

    Args:
        student, teacher: logits (B, K) in the weak and in the strong view.
        temperature: > 0; the confidence is the teacher's greatest probability at temperature 1.
        weak_confidence, strong_confidence: least confidence of a sample that counts, in [0, 1].
    """
    sure = [
        (F.softmax(logits, dim=1).amax(dim=1) >= least).to(logits.dtype)
        for logits, least in zip(teacher, (weak_confidence, strong_confidence), strict=True)
    ]

    def distance(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
        return temperature**2 * kl_summands(student_logits, teacher_logits, temperature).sum(dim=1)

    within = sure[0] * (distance(student[0], teacher[0]) + distance(student[1], teacher[1]))
    across = sure[1] * (distance(student[1], teacher[0]) + distance(student[0], teacher[1]))
    return within.mean(), across.mean()


class CRLD(Method):
    """``ce_weight * (CE of both views) + within_weight * within-view + cross_weight * cross-view``.

    Each image is seen in a weak view, made by the recipe's ``steps``, and in a strong one, made by ``strong_steps``:
    RandAugment of two operations at magnitude 10 where the recipe names none, as in the authors' code.

    Args:
        weak_confidence, strong_confidence: the teacher's least probability for its class in the weak and in the strong
            view, for a sample to count in the within-view and in the cross-view term.
    """

    paper = "Zhang et al. 2024, arXiv:2412.16493"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(views=2, strong_views=(1,), soft_targets=True)

    def __init__(
        self,
        ce_weight: NonNegative,
        within_weight: NonNegative,
        cross_weight: NonNegative,
        temperature: Positive,
        weak_confidence: Fraction,
        strong_confidence: Fraction,
    ) -> None:
        super().__init__()
        self.ce_weight, self.within_weight, self.cross_weight = ce_weight, within_weight, cross_weight
        self.temperature = temperature
        self.weak_confidence, self.strong_confidence = weak_confidence, strong_confidence

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        weak, strong = student.logits.chunk(2)
        teacher_weak, teacher_strong = teacher.logits.chunk(2)
        within, across = consistency_losses(
            (weak, strong),
            (teacher_weak, teacher_strong),
            self.temperature,
            self.weak_confidence,
            self.strong_confidence,
        )
        return {
            "ce": self.ce_weight * (cross_entropy(weak, batch.labels) + cross_entropy(strong, batch.labels)),
            "within": self.within_weight * within,
            "cross": self.cross_weight * across,
        }
