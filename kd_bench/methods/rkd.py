"""Relational knowledge distillation: distances and angles between the samples of a batch.

Shapes: ``B`` batch, ``D`` embedding; student and teacher may differ in ``D``.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, squared_distances
from kd_bench.models.features import Outputs

SMALLEST_SQUARE = 1e-12  # of a distance between two samples, as in the authors' code


def separations(embedding: Tensor) -> Tensor:
    """Squared distances (B, B) of (B, D), 0 for a sample with itself or with one that rounding cannot tell from it.

    The mean is subtracted first: that changes no distance, but keeps digits that large common parts would cost.
    """
    centred = embedding - embedding.mean(dim=0)
    squares, norms = squared_distances(centred), centred.detach().pow(2).sum(dim=1)
    noise = 4 * torch.finfo(norms.dtype).eps * (norms[:, None] + norms[None, :])
    return squares.masked_fill((squares.detach() <= noise) | diagonal(squares), 0)


def diagonal(square: Tensor) -> Tensor:
    """A mask (B, B) that is true on the diagonal of ``square`` (B, B)."""
    return torch.eye(len(square), dtype=torch.bool, device=square.device)


def distances(embedding: Tensor) -> Tensor:
    """Euclidean distances (B, B) of (B, D), divided by the mean of those that are positive.

    The mean belongs to the graph: the student's own scale has no gradient. Samples that coincide are 1e-6 apart.
    """
    squares = separations(embedding)
    plain = squares.clamp_min(SMALLEST_SQUARE).sqrt().masked_fill(diagonal(squares), 0)
    pairs = len(plain) * (len(plain) - 1)
    return plain * (pairs / plain.sum())


def angles(embedding: Tensor) -> Tensor:
    """Cosines (B, B, B) of the angles at sample i between samples j and k, of (B, D); 0 where a side has no length.

    They come from the B x B distances by the law of cosines: no B x B x D differences are held.
    """
    squares = separations(embedding)
    apart = squares > 0
    inverse = squares.masked_fill(~apart, 1).rsqrt().masked_fill(~apart, 0)
    products = (squares[:, :, None] + squares[:, None, :] - squares[None]) / 2
    return products * inverse[:, :, None] * inverse[:, None, :]


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 (threshold 1) of the normalised distances, mean over all B^2 pairs, zeros of the diagonal included.

    Park et al. 2019, section 3.2.1, where it is a sum over pairs of different samples.
    """
    return F.smooth_l1_loss(distances(student), distances(teacher))


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Smooth L1 (threshold 1) of the cosines, mean over all B^3 triplets, degenerate ones included.

    Park et al. 2019, section 3.2.2, where it is a sum over triplets of different samples.
    """
    return F.smooth_l1_loss(angles(student), angles(teacher))


class RKD(Method):
    """``CE + distance_weight * distance term + angle_weight * angle term`` on the embeddings.

    RepDistiller and mdistiller use 25 and 50; the paper and the authors' code 1 and 2.
    """

    paper = "Park et al. 2019, arXiv:1904.05068"
    family = "relations"
    reads = ("logits", "embedding")

    def __init__(self, ce_weight: NonNegative, distance_weight: NonNegative, angle_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.distance_weight, self.angle_weight = ce_weight, distance_weight, angle_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "distance": self.distance_weight * rkd_distance_loss(student.embedding, teacher.embedding),
            "angle": self.angle_weight * rkd_angle_loss(student.embedding, teacher.embedding),
        }
