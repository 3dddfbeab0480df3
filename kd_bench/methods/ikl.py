"""Improved Kullback-Leibler loss: KL taken apart into a cross-entropy and a weighted error of logit differences."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, soft_cross_entropy, warm_up
from kd_bench.models.features import FeatureTap, Outputs


def pairwise_errors(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor) -> Tensor:
    """``1/4 * sum_ij w_i * w_j * ((z_t,i - z_t,j) - (z_s,i - z_s,j))^2`` of each sample: (B, K) to (B,).

    Cui et al. 2024, equation of the weighted mean squared error. Computed as a weighted variance of ``z_t - z_s``, in
    O(K): no matrix of class pairs is made.

    Args:
        student_logits, teacher_logits: (B, K).
        weights: (B, K), non-negative, at least one positive in each row; they need not sum to 1 and get no gradient.
    """
    weights = weights.detach()
    difference, sums = teacher_logits - student_logits, weights.sum(dim=1, keepdim=True)
    centered = difference - (weights * difference).sum(dim=1, keepdim=True) / sums
    return (0.5 * sums * weights * centered**2).sum(dim=1)


def ikl_loss(student_logits: Tensor, teacher_logits: Tensor, weights: Tensor) -> Tensor:
    """``pairwise_errors``, mean over the batch.

    Args:
        student_logits, teacher_logits: (B, K), at temperature 1.
        weights: (B, K), rows that sum to 1.
    """
    return pairwise_errors(student_logits, teacher_logits, weights).mean()


def class_sums(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Sum rows (B, K) over the samples of each class: (K, K), a row for each class."""
    classes = probabilities.shape[1]
    return probabilities.new_zeros(classes, classes).index_add_(0, targets, probabilities)


class IKL(Method):
    """``ce_weight * CE + w * (soft_weight * soft + pairwise_weight * ikl_loss)``, ``w`` from 1 / warmup_epochs to 1.

    ``soft`` is the cross-entropy with the teacher's probabilities at ``temperature``, without a factor T^2. The weights
    of a sample in the second term are the teacher's probabilities of this sample at ``weight_temperature`` or, with
    ``global_weights``, their mean over the samples of its class in the epoch before, as they were augmented then, which
    is uniform in the first epoch and for a class that has had no sample. The gradient reaches the student in both
    terms, the teacher in none.

    Args:
        soft_weight, pairwise_weight: the paper's alpha and beta.
        warmup_epochs: the epochs over which both weights rise, from 1 / warmup_epochs in the first; 1 for no warm-up.
    """

    paper = "Cui et al. 2024, arXiv:2305.13948"
    family = "logits"
    reads = ("logits",)
    class_weights: Tensor
    counted: Tensor
    counted_epoch: Tensor

    def __init__(
        self,
        ce_weight: NonNegative,
        soft_weight: NonNegative,
        pairwise_weight: NonNegative,
        temperature: Positive,
        weight_temperature: Positive,
        global_weights: bool,
        warmup_epochs: PositiveInt,
    ) -> None:
        super().__init__()
        self.ce_weight, self.soft_weight, self.pairwise_weight = ce_weight, soft_weight, pairwise_weight
        self.temperature, self.weight_temperature = temperature, weight_temperature
        self.global_weights, self.warmup_epochs = global_weights, warmup_epochs
        self.requires = Requirements(memory=global_weights)

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        if self.global_weights:
            classes = data.num_classes
            self.register_buffer("class_weights", torch.full((classes, classes), 1 / classes))
            self.register_buffer("counted", torch.zeros(classes, classes))
            self.register_buffer("counted_epoch", torch.tensor(0))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        probabilities = F.softmax(teacher.logits / self.weight_temperature, dim=1)
        weights = self._class_weights(probabilities, batch, progress) if self.global_weights else probabilities
        soft = soft_cross_entropy(
            student.logits / self.temperature, F.softmax(teacher.logits / self.temperature, dim=1)
        )
        weight = warm_up(progress.epoch, self.warmup_epochs)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "soft": weight * self.soft_weight * soft,
            "pairwise": weight * self.pairwise_weight * self.pairwise_loss(student.logits, teacher.logits, weights),
        }

    def pairwise_loss(self, student_logits: Tensor, teacher_logits: Tensor, weights: Tensor) -> Tensor:
        """Return the second term without its weight; all arguments are (B, K)."""
        return ikl_loss(student_logits, teacher_logits, weights)

    def _class_weights(self, probabilities: Tensor, batch: Batch, progress: Progress) -> Tensor:
        """Return the row (B, K) of each sample's class, and count the batch for the next epoch."""
        if progress.epoch != self.counted_epoch:
            sums = self.counted.sum(dim=1, keepdim=True)
            means = self.counted / sums.clamp_min(torch.finfo(sums.dtype).tiny)
            self.class_weights.copy_(torch.where(sums > 0, means, self.class_weights))
            self.counted.zero_()
            self.counted_epoch.fill_(progress.epoch)
        if self.training:
            self.counted += class_sums(probabilities, batch.targets)
        return self.class_weights[batch.targets]
