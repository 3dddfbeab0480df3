"""Decoupled knowledge distillation: target class and other classes, each with a weight of its own."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_divergence, logit_pair, two_way, warm_up, without_target
from kd_bench.models.features import Outputs


def target_class_loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL`` of the two-way distributions (target, all others), mean over the batch.

    Zhao et al. 2022, section 3.1 (TCKD). Computed from logarithms throughout: the authors' code takes the logarithm of
    a sum of probabilities, which is minus infinity where the other classes are improbable.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    student, teacher = (two_way(logits, targets, temperature) for logits in (student_logits, teacher_logits))
    return temperature**2 * F.kl_div(student, teacher, reduction="batchmean", log_target=True)


def other_classes_loss(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL`` of the distributions over the K - 1 classes that are not the target, mean over the batch.

    Zhao et al. 2022, section 3.1 (NCKD). The authors' code keeps the target and subtracts 1000 from its softened logit,
    which is the same unless logits differ by about as much.

    Args:
        student_logits, teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    student, teacher = without_target(student_logits, targets), without_target(teacher_logits, targets)
    return temperature**2 * kl_divergence(student, teacher, temperature)


class DKD(Method):
    """``ce_weight * CE + w * (target_weight * TCKD + others_weight * NCKD)``, ``w`` from 1 / warmup_epochs to 1.

    At least three classes are needed: with two there is only one other class, about which there is nothing to learn.

    Args:
        target_weight, others_weight: the paper's alpha and beta. Beta depends on the pair in mdistiller: 2 for
            resnet56 -> resnet20 and resnet110 -> resnet32; 6 for wrn_40_2 -> wrn_16_2 or wrn_40_1 and for vgg13 ->
            vgg8 or mobilenetv2; 8 for the others.
        warmup_epochs: the epochs over which both weights rise, from 1 / warmup_epochs in the first; 1 for no warm-up.
        standardize_logits: as in KD; Sun et al. 2024 (arXiv:2403.01427) multiply alpha and beta by their weight.
    """

    paper = "Zhao et al. 2022, arXiv:2203.08679"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(min_classes=3)

    def __init__(
        self,
        ce_weight: NonNegative,
        target_weight: NonNegative,
        others_weight: NonNegative,
        temperature: Positive,
        warmup_epochs: PositiveInt,
        standardize_logits: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.target_weight, self.others_weight = ce_weight, target_weight, others_weight
        self.temperature, self.warmup_epochs, self.standardize_logits = temperature, warmup_epochs, standardize_logits

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_logits, teacher_logits = logit_pair(student.logits, teacher.logits, self.standardize_logits)
        weight = warm_up(progress.epoch, self.warmup_epochs)
        target_class = target_class_loss(student_logits, teacher_logits, batch.targets, self.temperature)
        other_classes = other_classes_loss(student_logits, teacher_logits, batch.targets, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "target_class": weight * self.target_weight * target_class,
            "other_classes": weight * self.others_weight * other_classes,
        }
