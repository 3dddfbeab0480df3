"""PS-KD: targets soften progressively towards what the network itself predicted one epoch before."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Fraction
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements, TrainingSet, check_memory
from kd_bench.methods.losses import soft_cross_entropy
from kd_bench.models.features import Outputs


def mixed_targets(targets: Tensor, past: Tensor, share: float) -> Tensor:
    """``(1 - share) * one_hot(targets) + share * past``: class indices (B,) and probabilities (B, K) to (B, K).

    Kim et al. 2021.
    """
    return (1 - share) * F.one_hot(targets, past.shape[1]).to(past.dtype) + share * past


class PSKD(Method):
    """Cross-entropy with targets of which a growing share is the network's prediction of the epoch before.

    The share is ``past_weight * (epoch + 1) / epochs``, the epoch counted from 0. Predictions are those of the training
    pass, of images as they were augmented then, at temperature 1; before the first epoch they are the labels. A sample
    that an epoch left out keeps its older prediction.

    Args:
        past_weight: share of the past prediction in the last epoch.
    """

    paper = "Kim et al. 2021, arXiv:2006.12000"
    family = "self-distillation"
    requires = Requirements(teacher="none", memory=True)
    past: Tensor

    def __init__(self, past_weight: Fraction) -> None:
        super().__init__()
        self.past_weight = past_weight

    def prepare(self, training_set: TrainingSet) -> None:
        samples, classes = len(training_set.targets), training_set.num_classes
        check_memory("pskd", samples, classes)
        self.register_buffer("past", F.one_hot(training_set.targets, classes).float())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        share = self.past_weight * (progress.epoch + 1) / progress.epochs
        targets = mixed_targets(batch.targets, self.past[batch.index], share)
        if self.training:
            self.past[batch.index] = F.softmax(student.logits.detach(), dim=1)
        return {"soft": soft_cross_entropy(student.logits, targets)}
