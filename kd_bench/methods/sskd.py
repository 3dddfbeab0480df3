"""Self-supervision knowledge distillation: a contrastive task on rotated images as the teacher's second language.

Shapes: ``B`` images. Outputs have ``4 * B`` rows, one rotation after the other, 0 degrees first. ``R = 3 * B`` rotated
views, taken image by image: 90, 180 and 270 degrees of the first, then of the next.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Fraction, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision, inner_products, kl_summands
from kd_bench.models.features import FeatureTap, Outputs


def upright(rows: Tensor) -> Tensor:
    """The rows (B, ...) of those views that are not rotated, among those of all views (4 * B, ...)."""
    return rows[: len(rows) // 4]


def rotated(rows: Tensor) -> Tensor:
    """The rows (R, ...) of those views that are rotated, image by image, among those of all views (4 * B, ...)."""
    return rows.reshape(4, -1, *rows.shape[1:])[1:].transpose(0, 1).flatten(0, 1)


def for_rotated(values: Tensor) -> Tensor:
    """The values (B,) of images, repeated for their rotated views (R,)."""
    return values.repeat_interleave(3)


def similarities(embedding: Tensor) -> Tensor:
    """Cosines (R, B) of each rotated view with each image, of embeddings of all views (4 * B, D)."""
    directions = F.normalize(full_precision(embedding), dim=1)
    return inner_products(rotated(directions), upright(directions))


def kept(scores: Tensor, targets: Tensor, share: float) -> Tensor:
    """A mask (R,) of the rows that teach: those the teacher gets right, and ``share`` of the others, lowest rank first.

    A row's rank is the number of scores above that of its target: 0 if the teacher is right. Among equal ranks the
    earlier row is kept (Xu et al. 2020, section 3.3).

    Args:
        scores: the teacher's, (R, K).
        targets: (R,).
    """
    ranks = (scores > scores.gather(1, targets[:, None])).sum(dim=1)
    wrong = (ranks > 0).sum()
    wanted = len(ranks) - wrong + (share * wrong.double()).floor()
    return ranks.argsort(stable=True).argsort() < wanted


def kept_kd_loss(student_logits: Tensor, teacher_logits: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """``temperature ** 2 * KL(p_teacher || p_student)``, mean over the rows that are kept.

    Args:
        student_logits, teacher_logits: (R, K).
        rows: (R,), true for those that are kept.
    """
    divergences = kl_summands(student_logits, teacher_logits, temperature).sum(dim=1)
    return temperature**2 * (divergences * rows).sum() / rows.sum().clamp_min(1)


def rotation_loss(embedding: Tensor) -> Tensor:
    """Cross-entropy of finding the image of each rotated view by the ``similarities`` of (4 * B, D).

    Xu et al. 2020, section 3.1, where the cosines are divided by a temperature; the code leaves them as they are.
    """
    scores = similarities(embedding)
    return cross_entropy(scores, for_rotated(torch.arange(scores.shape[1], device=scores.device)))


class SSKD(Method):
    """``CE + KD`` on the images as they are, KD on rotated views, and KD of their similarities to the images.

    A first stage trains a head on the frozen teacher to find the image that a view was rotated from; the student's head
    then learns the teacher's similarities. Views that the teacher gets wrong teach only in part. The heads are two
    layers as wide as the embedding, and are gone at test time.

    The learning rate stays the same throughout the first stage; the code divides it by 10 after 30 and 45 of 60 epochs.

    Args:
        transformed_weight, transformed_share: the weight of KD on rotated views, the share of wrong ones that teach.
        selfsup_weight, selfsup_share: the same for the similarities.
    """

    paper = "Xu et al. 2020, arXiv:2006.07114"
    family = "contrastive"
    reads = ("logits", "embedding")
    requires = Requirements(rotations=True)

    def __init__(
        self,
        pretrain_epochs: PositiveInt,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        transformed_weight: NonNegative,
        selfsup_weight: NonNegative,
        temperature: Positive,
        transformed_temperature: Positive,
        selfsup_temperature: Positive,
        transformed_share: Fraction,
        selfsup_share: Fraction,
    ) -> None:
        super().__init__()
        self.pretrain_epochs, self.ce_weight, self.kd_weight = pretrain_epochs, ce_weight, kd_weight
        self.transformed_weight, self.selfsup_weight = transformed_weight, selfsup_weight
        self.temperature, self.transformed_temperature = temperature, transformed_temperature
        self.selfsup_temperature = selfsup_temperature
        self.transformed_share, self.selfsup_share = transformed_share, selfsup_share

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.student_head = head(student.embedding_size)
        self.teacher_head = head(teacher.embedding_size)

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"rotation": rotation_loss(self.teacher_head(teacher.embedding))}

    def pretrain_parameters(self, student: FeatureTap) -> Iterator[nn.Parameter]:
        return self.teacher_head.parameters()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_upright, student_rotated = upright(student.logits), rotated(student.logits)
        teacher_upright, teacher_rotated = upright(teacher.logits), rotated(teacher.logits)
        views = kept(teacher_rotated, for_rotated(batch.targets), self.transformed_share)
        transformed = kept_kd_loss(student_rotated, teacher_rotated, views, self.transformed_temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student_upright, batch.targets),
            "kd": self.kd_weight * kd_loss(student_upright, teacher_upright, self.temperature),
            "transformed": self.transformed_weight * transformed,
            "selfsup": self.selfsup_weight * self.selfsup(student.embedding, teacher.embedding),
        }

    def selfsup(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Return KD of the similarities of the embeddings of all views, (4 * B, D) each."""
        student_scores = similarities(self.student_head(student))
        with torch.no_grad():
            teacher_scores = similarities(self.teacher_head(teacher))
        images = for_rotated(torch.arange(student_scores.shape[1], device=student_scores.device))
        rows = kept(teacher_scores, images, self.selfsup_share)
        return kept_kd_loss(student_scores, teacher_scores, rows, self.selfsup_temperature)


def head(size: int) -> nn.Sequential:
    """Two linear layers as wide as the embedding, with a ReLU in between."""
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, size))
