"""Refined logit distillation: the teacher's confidence and its ranking, without what contradicts the label."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_divergence, logit_pair, two_way, warm_up
from kd_bench.models.features import Outputs

MASKED = -1e9  # as the authors' code: unlike minus infinity it leaves a softmax over masked classes alone defined


def sample_confidence_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """``T^2 * KL`` of two-way distributions, mean over the batch (SCD).

    Sun et al. 2024, section 3: for the student the label against all other classes, for the teacher its most likely
    class, whichever that is, against all others. The student learns how sure to be, but not of a wrong class.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    student = two_way(student_logits, targets, temperature)
    teacher = two_way(teacher_logits, teacher_logits.argmax(dim=1), temperature)
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def masked_correlation_loss(
    student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float
) -> Tensor:
    """``T^2 * KL`` over the classes that the teacher ranks below the label, mean over the batch (MCD).

    Sun et al. 2024, section 3. The label itself is always left out. A sample whose label the teacher ranks last has
    no class left and counts as zero.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    masked = teacher_logits >= teacher_logits.gather(1, targets[:, None])
    student, teacher = (logits.masked_fill(masked, MASKED) for logits in (student_logits, teacher_logits))
    return temperature**2 * kl_divergence(student, teacher, temperature)


class RLD(Method):
    """``ce_weight * CE + w * (confidence_weight * SCD + correlation_weight * MCD)``, ``w`` from 1 / warmup_epochs to 1.

    Args:
        confidence_weight, correlation_weight: the paper's alpha and beta.
        temperature: that of MCD.
        confidence_temperature: that of SCD. The authors' code takes 1 by default, and their commands for CIFAR-100 set
            it to ``temperature``.
        warmup_epochs: the epochs over which both weights rise, from 1 / warmup_epochs in the first; 1 for no warm-up.
        standardize_logits: as in KD, in both terms.
    """

    paper = "Sun et al. 2024, arXiv:2408.07703"
    family = "logits"
    reads = ("logits",)

    def __init__(
        self,
        ce_weight: NonNegative,
        confidence_weight: NonNegative,
        correlation_weight: NonNegative,
        temperature: Positive,
        confidence_temperature: Positive,
        warmup_epochs: PositiveInt,
        standardize_logits: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.warmup_epochs, self.standardize_logits = ce_weight, warmup_epochs, standardize_logits
        self.confidence_weight, self.correlation_weight = confidence_weight, correlation_weight
        self.temperature, self.confidence_temperature = temperature, confidence_temperature
        self.requires = Requirements(min_classes=3 if standardize_logits else 2)  # see logit_pair

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits = logit_pair(student.logits, teacher.logits, self.standardize_logits)
        weight = warm_up(progress.epoch, self.warmup_epochs)
        confidence = sample_confidence_loss(*logits, batch.targets, self.confidence_temperature)
        correlation = masked_correlation_loss(*logits, batch.targets, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "confidence": weight * self.confidence_weight * confidence,
            "correlation": weight * self.correlation_weight * correlation,
        }
