"""Scale decoupled distillation: softened logits of the whole image and of its regions."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, kl_summands
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.heads import linear_classifier

Scales = Annotated[list[Literal[1, 2, 4]], Field(min_length=1)]
FINEST = 4  # regions in height and in width


def region_logits(stage: Tensor, classifier: nn.Module, scales: list[Literal[1, 2, 4]]) -> Tensor:
    """Logits of each region: the classifier of the region's mean, of a last map (B, D, H, W) to (B, R, K).

    Wei et al. 2024, section 3. The R regions are those of each scale in turn, ``scale * scale`` parts row by row. As in
    the authors' code the map is brought to 4x4 first, also if no scale is 4, which only matters where its size does not
    divide by 4.
    """
    finest = F.adaptive_avg_pool2d(full_precision(stage), FINEST)
    regions = torch.cat([F.adaptive_avg_pool2d(finest, scale).flatten(2) for scale in scales], dim=2)
    logits: Tensor = classifier(regions.mT)
    return full_precision(logits)


def region_weights(teacher_regions: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """Weight (B, R) of each region: 2 where the teacher is right on one of region and whole map, else 1.

    Wei et al. 2024, section 3 (complementary regions). Where it is wrong on both, in whatever way, the weight is 1.

    Args:
        teacher_regions: (B, R, K).
        teacher_logits: (B, K).
        targets: (B,) class indices.
    """
    right = teacher_regions.argmax(dim=2) == targets[:, None]
    whole = teacher_logits.argmax(dim=1) == targets
    return 1 + (right != whole[:, None]).long()


def sdd_kd_loss(student_regions: Tensor, teacher_regions: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """``T^2`` times the weighted KL(teacher || student) of each region, mean over samples and regions.

    Wei et al. 2024, section 3. The sum is divided by the number of regions, not by the sum of weights, so that the
    share of the whole map is one of R.

    Args:
        student_regions, teacher_regions: (B, R, K).
        weights: (B, R).
    """
    student, teacher = student_regions.flatten(0, 1), teacher_regions.flatten(0, 1)
    divergences = kl_summands(student, teacher, temperature).sum(dim=1)
    return temperature**2 * (weights.flatten() * divergences).mean()


class SDDKD(Method):
    """``ce_weight * CE + kd_weight * sdd_kd_loss``, the authors' variant on KD.

    Regions exist where logits are a linear layer of the pooled input of the head, which is the last stage or what a
    further layer makes of it, such as MobileNetV2's last convolution; other networks, such as ViTs that classify a
    class token, are refused. The student's classifier learns from all regions.

    Args:
        scales: of the regions; 1 is the whole map.
    """

    paper = "Wei et al. 2024, arXiv:2403.13512"
    family = "logits"

    def __init__(self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, scales: Scales) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature, self.scales = ce_weight, kd_weight, temperature, scales

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        # A tuple hides them: neither the student's classifier nor the teacher's belongs to the method.
        self._classifiers = tuple(
            linear_classifier(tap, "pooled input of the head", data) for tap in (student, teacher)
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_regions, teacher_regions = self.regions(student, teacher)
        weights = region_weights(teacher_regions, teacher.logits, batch.targets)
        kd = sdd_kd_loss(student_regions, teacher_regions, weights, self.temperature)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets), "kd": self.kd_weight * kd}

    def regions(self, student: Outputs, teacher: Outputs) -> tuple[Tensor, Tensor]:
        """Return the logits of the regions of both networks, (B, R, K)."""
        assert student.final is not None  # build_adapters has seen both
        assert teacher.final is not None
        student_classifier, teacher_classifier = self._classifiers
        return (
            region_logits(student.final, student_classifier, self.scales),
            region_logits(teacher.final, teacher_classifier, self.scales),
        )
