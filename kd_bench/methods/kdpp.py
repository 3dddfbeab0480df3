"""KD++: softened logits, and embeddings that are long and point to the teacher's class means."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress, TrainingSet
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs

RELEASED_DECIMALS = 4  # of embeddings and means in the file that the released script writes


def norm_direction_loss(student: Tensor, teacher: Tensor, centers: Tensor) -> Tensor:
    """``1 - <student, direction of center> / max(length of student, of teacher)``, mean over the batch.

    Wang et al. 2023: a student shorter than the teacher grows, one that is longer only turns.

    Args:
        student, teacher: embeddings (B, D).
        centers: (B, D), for each sample the teacher's mean embedding of its class.
    """
    lengths = [torch.linalg.vector_norm(embedding, dim=1) for embedding in (student, teacher)]
    longest = torch.maximum(*lengths).clamp_min(torch.finfo(student.dtype).eps)
    return (1 - (student * F.normalize(centers, dim=1)).sum(dim=1) / longest).mean()


def class_means(training_set: TrainingSet, as_released: bool = False) -> Tensor:
    """Mean embedding of each class (K, D) over the training samples; zeros for a class that has none.

    Args:
        as_released: over one pass of augmented images, each value and each mean rounded to four decimals.
    """
    passes = training_set.augmented_outputs if as_released else training_set.teacher_outputs
    assert passes is not None  # a run has both
    decimals = RELEASED_DECIMALS if as_released else None
    sums: Tensor | None = None
    counts = torch.bincount(training_set.targets, minlength=training_set.num_classes)
    for batch, outputs in passes():
        if sums is None:
            sums = outputs.embedding.new_zeros(training_set.num_classes, outputs.embedding.shape[1])
        sums.index_add_(0, batch.targets.to(sums.device), _rounded(outputs.embedding, decimals))
    assert sums is not None  # there are samples
    return _rounded(sums / counts.clamp_min(1).to(sums)[:, None], decimals)


def _rounded(values: Tensor, decimals: int | None) -> Tensor:
    return values if decimals is None else values.round(decimals=decimals)


class KDPlusPlus(Method):
    """``CE + kd_weight * KD + norm_direction_weight * norm_direction_loss``.

    The weight of KD rises from 0 in the first epoch to its value after ``warmup_epochs``. Class means are the
    teacher's, taken once before the training. Where widths differ, batch norm, dropout of one half and a linear layer
    bring the student's embedding to the teacher's width, for this term only.

    Args:
        augmented_means: class means come from one pass over augmented training images, rounded to four decimals, as the
            released script's. By default they are exact ones of the images as they are: they depend on no draw.
    """

    paper = "Wang et al. 2023, arXiv:2305.17007"
    family = "features"
    reads = ("logits", "embedding")
    means: Tensor

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        warmup_epochs: Count,
        norm_direction_weight: NonNegative,
        augmented_means: bool = False,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.warmup_epochs, self.norm_direction_weight = warmup_epochs, norm_direction_weight
        self.augmented_means = augmented_means

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        inputs, outputs = student.embedding_size, teacher.embedding_size
        self.connector: nn.Module = nn.Identity()
        if inputs != outputs:
            self.connector = nn.Sequential(nn.BatchNorm1d(inputs), nn.Dropout(0.5), nn.Linear(inputs, outputs))
        self.register_buffer("means", torch.zeros(data.num_classes, outputs))

    def prepare(self, training_set: TrainingSet) -> None:
        self.means.copy_(class_means(training_set, self.augmented_means))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        connected = full_precision(self.connector(student.embedding))
        loss = norm_direction_loss(connected, teacher.embedding, self.means[batch.targets])
        kd_weight = self.kd_weight * min(progress.epoch / max(self.warmup_epochs, 1), 1.0)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "kd": kd_weight * kd_loss(student.logits, teacher.logits, self.temperature),
            "norm_direction": self.norm_direction_weight * loss,
        }
