"""Knowledge distillation by singular value decomposition."""

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, inner_products
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages, stages_of

Layout = Literal["channels", "width"]
MORE = 3  # how many more vectors the student has, among which those closest to the teacher's are found


def as_matrix(stage: Tensor, layout: Layout) -> Tensor:
    """(B, C, H, W) to (B, N, P): a row for each position (P channels), or for each channel and height (P the width)."""
    return stage.flatten(2).mT if layout == "channels" else stage.flatten(1, 2)


def right_singular_vectors(matrix: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The ``count`` largest singular values (B, count) and their right vectors (B, P, count) of ``matrix`` (B, N, P).

    There are at most min(N, P). Directions that the matrix does not have get zeros for a vector. The vectors'
    derivative is that of perturbation theory, ``dv_i = sum over j of v_j (v_j . dG v_i) / (s_i^2 - s_j^2)`` with
    ``G = matrix^t matrix``, without the pairs of equal values, for which there is none. The values have no gradient.
    """
    matrix = full_precision(matrix)
    scale = matrix.detach().abs().amax(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(matrix.dtype).tiny)
    matrix = matrix / scale  # whose square is neither too large nor too small
    with torch.autocast(matrix.device.type, enabled=False):
        squares, vectors = _decomposed(matrix.detach())
        negligible = 100 * torch.finfo(matrix.dtype).eps * squares[:, :1]
        existing = squares > negligible
        squares, vectors = squares * existing, vectors * existing[:, None]
        leading = vectors[..., :count]
        turned = matrix.mT @ (matrix @ leading)
        change = turned - turned.detach()  # zero, with the derivative of G v_i
        inside = vectors.mT @ change
        gaps = squares[:, None, :count] - squares[:, :, None]
        within = inside * _inverse(gaps, negligible[:, None])
        outside = (change - vectors @ inside) * _inverse(squares[:, None, :count], negligible[:, None])
        return squares[:, :count].sqrt() * scale[:, 0], leading + vectors @ within + outside


def _decomposed(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return all squared singular values, the largest first, and right vectors, by way of the smaller Gram matrix."""
    tall = matrix.shape[1] >= matrix.shape[2]
    squares, vectors = torch.linalg.eigh(matrix.mT @ matrix if tall else matrix @ matrix.mT)
    squares, vectors = squares.flip(-1).clamp(min=0), vectors.flip(-1)
    return squares, vectors if tall else F.normalize(matrix.mT @ vectors, dim=1)


def _inverse(values: Tensor, negligible: Tensor) -> Tensor:
    kept = values.abs() > negligible
    return torch.where(kept, 1 / torch.where(kept, values, 1), 0)


def teacher_vectors(stage: Tensor, count: int, layout: Layout) -> tuple[Tensor, Tensor]:
    """The teacher's leading right singular vectors (B, P, count) and their values, L2-normalised (B, 1, count).

    A singular vector may be turned around. The published code takes what its linear algebra gives; here each has a sum
    that is not negative, so that the relations of different samples can be compared.
    """
    values, vectors = right_singular_vectors(as_matrix(stage, layout), count)
    upright = torch.where(vectors.sum(dim=1, keepdim=True) < 0, -vectors, vectors)
    return upright, F.normalize(values, dim=1)[:, None]


def aligned_vectors(stage: Tensor, teacher: Tensor, layout: Layout) -> Tensor:
    """The student's closest vector, by absolute cosine, to each of ``teacher`` (B, P, count), turned to its side."""
    _, vectors = right_singular_vectors(as_matrix(stage, layout), teacher.shape[2] + MORE)
    cosines = inner_products(vectors.detach().mT, teacher.mT)
    closest = cosines.abs().argmax(dim=1, keepdim=True)
    chosen = vectors.gather(2, closest.expand(-1, vectors.shape[1], -1))
    return chosen * cosines.gather(1, closest).sign()


def kdsvd_loss(student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor]) -> Tensor:
    """Squared differences of relations between neighbouring stages, summed, mean over the batch.

    A relation is ``exp(-(a - b)^2 / 8)``, between each entry of a vector and each entry of the same vector of the next
    stage (Lee et al. 2018, section 3).

    Args:
        student, teacher: vectors (B, P, count) and (B, Q, count) of two stages, times their normalised values.
    """
    return (_relation(*student) - _relation(*teacher)).pow(2).sum() / len(student[0])


def _relation(shallow: Tensor, deep: Tensor) -> Tensor:
    return torch.exp(-(shallow[:, :, None] - deep[:, None]).pow(2) / 8)


class KDSVD(Method):
    """``CE + svd_weight * sum over neighbouring stages of the loss of their singular vectors``.

    Args:
        vectors: how many are taken from each stage; a single one always has the normalised value 1.
        layout: what is factorised. ``channels``, as RepDistiller: [positions, channels], vectors of C entries;
            ``width``, as mdistiller: [channels * height, width], vectors of W entries. Student and teacher need vectors
            of the same length.
        skip_stages: paired stages left out from the shallow end; 1 leaves out the stem, as the published code does.
    """

    paper = "Lee et al. 2018, arXiv:1807.06819"
    family = "relations"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self, ce_weight: NonNegative, svd_weight: NonNegative, vectors: PositiveInt, layout: Layout, skip_stages: Count
    ) -> None:
        super().__init__()
        self.ce_weight, self.svd_weight = ce_weight, svd_weight
        self.vectors, self.layout, self.skip_stages = vectors, layout, skip_stages

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages, at_least=2)
        entries = 0 if self.layout == "channels" else 2
        if any(student.stage_shapes[i][entries] != teacher.stage_shapes[j][entries] for i, j in self.pairs):
            raise ConfigError(
                f"method.layout={self.layout} needs stages with the same {self.layout} in student and teacher; "
                f"compared: {self.pairs}; {stages_of(student, teacher)}"
            )

    def stage_losses(self, student: Outputs, teacher: Outputs) -> list[Tensor]:
        """Return the loss of each two neighbouring pairs of stages."""
        student_rows, teacher_rows = [], []
        for i, j in self.pairs:
            vectors, values = teacher_vectors(teacher.stages[j], self.vectors, self.layout)
            student_rows.append(aligned_vectors(student.stages[i], vectors, self.layout) * values)
            teacher_rows.append(vectors * values)
        return list(map(kdsvd_loss, pairwise(student_rows), pairwise(teacher_rows)))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        svd = torch.stack(self.stage_losses(student, teacher)).sum()
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "svd": self.svd_weight * svd}
