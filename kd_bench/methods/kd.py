"""Knowledge distillation on softened logits."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Reads, Requirements
from kd_bench.methods.losses import cross_entropy, kl_divergence, logit_pair
from kd_bench.models.features import Outputs


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor) -> Tensor:
    """``temperature ** 2 * KL(p_teacher || p_student)``, summed over classes, mean over the batch.

    Hinton et al. 2015, section 2: the factor keeps the size of the gradient when the temperature changes. A mean over
    batch and classes, found in several code bases, is K times smaller.

    Args:
        student_logits, teacher_logits: (B, K).
        temperature: > 0.
    """
    return temperature**2 * kl_divergence(student_logits, teacher_logits, temperature)


def peer_loss(logits: Tensor, peer_logits: Tensor, temperature: float) -> Tensor:
    """``kd_loss`` of logits (B, K) with those of a peer (B, K) that is trained too, but receives no gradient here.

    The peer is another network (DML: Zhang et al. 2018) or another sample of the class (CS-KD: Yun et al. 2020).
    """
    return kd_loss(logits, peer_logits.detach(), temperature)


class KD(Method):
    """Vanilla knowledge distillation: ``ce_weight * CE + kd_weight * T^2 * KL``.

    RepDistiller and mdistiller use 0.1, 0.9 and T = 4 on CIFAR-100; beside another method's terms RepDistiller sets
    both weights to 1.

    Args:
        standardize_logits: whether the softened term standardizes the logits of student and teacher (Sun et al. 2024,
            arXiv:2403.01427); the labels see them as they are.
    """

    paper = "Hinton et al. 2015, arXiv:1503.02531"
    family = "logits"
    reads: Reads = ("logits",)

    def __init__(
        self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, standardize_logits: bool = False
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.standardize_logits = standardize_logits
        self.requires = Requirements(soft_targets=True, min_classes=3 if standardize_logits else 2)  # see logit_pair

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_logits, teacher_logits = logit_pair(student.logits, teacher.logits, self.standardize_logits)
        kd = kd_loss(student_logits, teacher_logits, self.temperature)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.labels), "kd": self.kd_weight * kd}
