"""Multi-level logit distillation: predictions of samples, of classes and of the batch, at several temperatures."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, gram_matrix, logit_pair
from kd_bench.models.features import Outputs

Temperatures = Annotated[list[Positive], Field(min_length=1)]


def gram_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of squared differences of the N x N products of the rows of two (N, M) matrices, divided by N.

    Jin et al. 2023: of probabilities (B, K) the batch level, of their transpose (K, B) the class level.
    """
    return (gram_matrix(student) - gram_matrix(teacher)).pow(2).sum() / len(student)


def level_losses(student_logits: Tensor, teacher_logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Class-level and batch-level loss of logits (B, K) at one temperature, without T^2."""
    student, teacher = (F.softmax(logits / temperature, dim=1) for logits in (student_logits, teacher_logits))
    return gram_distance(student.T, teacher.T), gram_distance(student, teacher)


def unsure_shares(teacher_logits: Tensor) -> tuple[Tensor, Tensor]:
    """Shares of samples and of classes that the authors' masks keep, about one half each.

    A sample is kept when the teacher's largest probability is at most the batch's median, a class when its summed
    probability is at most the median of the classes. The authors' code multiplies the masks with losses that are means
    already, so that only the shares that they keep matter.
    """
    probabilities = F.softmax(teacher_logits, dim=1)
    shares = []
    for confidence in (probabilities.max(dim=1).values, probabilities.sum(dim=0)):
        kept = confidence <= confidence.quantile(0.5)
        shares.append(kept.to(confidence.dtype).mean())
    return shares[0], shares[1]


class MLLD(Method):
    """Two views: ``ce_weight * (CE of both) + kd_weight * (instance + class + batch level)``.

    With m and c the shares of unsure samples and classes: the instance level is ``m * KD(first view) + KD(second
    view)``, the class level ``c * gram distance`` of the classes, the batch level ``m * gram distance`` of the samples,
    each summed over all temperatures. As in the authors' code, unlike the paper: m and c are factors where the paper
    leaves samples and classes out; the two upper levels see the first view alone; at ``weak_temperatures`` the first
    view stands in for the second. Unlike both, the second view is one more draw of the recipe's augmentation, where the
    authors add RandAugment and cutout.

    Args:
        temperatures: those at which each view has its own instance-level term.
        weak_temperatures: those at which the first view stands in for the second; as part of ``temperatures`` they
            would be compared on both views, as in the paper.
        standardize_logits: as in KD, at the instance level.
    """

    paper = "Jin et al. 2023, CVPR"
    family = "logits"
    reads = ("logits",)

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperatures: Temperatures,
        weak_temperatures: list[Positive],
        standardize_logits: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight = ce_weight, kd_weight
        self.temperatures, self.weak_temperatures = temperatures, weak_temperatures
        self.standardize_logits = standardize_logits
        self.requires = Requirements(views=2, min_classes=3 if standardize_logits else 2)  # see logit_pair

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        views = list(zip(student.logits.chunk(2), teacher.logits.chunk(2), strict=True))
        samples, classes = unsure_shares(views[0][1])
        every = [*self.temperatures, *self.weak_temperatures]
        levels = [level_losses(*views[0], temperature) for temperature in every]
        first, second = self._instance_losses(views)
        ce = cross_entropy(views[0][0], batch.targets) + cross_entropy(views[1][0], batch.targets)
        return {
            "ce": self.ce_weight * ce,
            "instance": self.kd_weight * (samples * first + second),
            "class": self.kd_weight * classes * torch.stack([level for level, _ in levels]).sum(),
            "batch": self.kd_weight * samples * torch.stack([level for _, level in levels]).sum(),
        }

    def _instance_losses(self, views: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Return the sum over all temperatures for the first view, and for what the code takes for the second.

        Args:
            views: logits of student and teacher (B, K) in each of the two views.
        """
        first, second = (logit_pair(*view, self.standardize_logits) for view in views)
        weak = [kd_loss(*first, temperature) for temperature in self.weak_temperatures]
        both = [[kd_loss(*view, temperature) for temperature in self.temperatures] for view in (first, second)]
        return torch.stack(both[0] + weak).sum(), torch.stack(both[1] + weak).sum()
