"""Scale decoupled distillation with DKD: target class and other classes of the whole image and of its regions."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_summands, two_way, warm_up, without_target
from kd_bench.methods.sdd_kd import SDDKD, Scales, region_weights
from kd_bench.models.features import Outputs


def sdd_dkd_losses(
    student_regions: Tensor, teacher_regions: Tensor, weights: Tensor, targets: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    """DKD's loss of the target class and that of the other classes, of each region, weighted, mean over all of them.

    Wei et al. 2024, section 3, with both terms of Zhao et al. 2022, each times ``T^2``. The sums are divided by the
    number of samples and regions.

    Args:
        student_regions, teacher_regions: (B, R, K).
        weights: (B, R).
        targets: (B,) class indices.
    """
    labels = targets[:, None].expand(weights.shape).flatten()
    student, teacher = student_regions.flatten(0, 1), teacher_regions.flatten(0, 1)
    student_pairs, teacher_pairs = (two_way(logits, labels, temperature) for logits in (student, teacher))
    target_class = F.kl_div(student_pairs, teacher_pairs, reduction="none", log_target=True)
    other_classes = kl_summands(without_target(student, labels), without_target(teacher, labels), temperature)
    target_class_loss, other_classes_loss = (
        temperature**2 * (weights.flatten() * summands.sum(dim=1)).mean() for summands in (target_class, other_classes)
    )
    return target_class_loss, other_classes_loss


class SDDDKD(SDDKD):
    """``CE + w * (target_weight * target class + others_weight * other classes)``, ``w`` from 1 / warmup_epochs to 1.

    The authors' variant on DKD; regions are those of SDD-KD. The authors' code replaces a loss that is not finite by
    zero; here the run ends with that message.

    Args:
        target_weight, others_weight: DKD's alpha and beta.
        warmup_epochs: the epochs over which both weights rise, from 1 / warmup_epochs in the first; 1 for no warm-up.
        scales: of the regions; 1 is the whole map.
    """

    requires = Requirements(min_classes=3)

    def __init__(
        self,
        ce_weight: NonNegative,
        target_weight: NonNegative,
        others_weight: NonNegative,
        temperature: Positive,
        warmup_epochs: PositiveInt,
        scales: Scales,
    ) -> None:
        super().__init__(ce_weight, 1.0, temperature, scales)
        self.target_weight, self.others_weight, self.warmup_epochs = target_weight, others_weight, warmup_epochs

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        regions = self.regions(student, teacher)
        weights = region_weights(regions[1], teacher.logits, batch.targets)
        target_class, other_classes = sdd_dkd_losses(*regions, weights, batch.targets, self.temperature)
        weight = warm_up(progress.epoch, self.warmup_epochs)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "target_class": weight * self.target_weight * target_class,
            "other_classes": weight * self.others_weight * other_classes,
        }
