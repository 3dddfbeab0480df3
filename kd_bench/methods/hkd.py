"""HKD: the flow of information, as similarities over the batch at each stage."""

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision, gram_matrix, squared_distances
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import compared_stages

EPSILON = 1e-6  # as in the authors' code; a sample is 1e-3 away from itself


def cosine_kernel(rows: Tensor) -> Tensor:
    """Cosines of ``rows`` (B, D), moved to [0, 1], each row of the result with sum 1: (B, B)."""
    lengths = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    directions = rows / (lengths + EPSILON)
    return F.normalize((gram_matrix(directions) + 1) / 2, p=1, dim=1)


def student_t_kernel(rows: Tensor) -> Tensor:
    """``1 / (1 + distance)`` of ``rows`` (B, D), each row of the result with sum 1: (B, B)."""
    distances = (squared_distances(rows).clamp_min(0) + EPSILON).sqrt()
    return F.normalize(1 / (1 + distances), p=1, dim=1)


def jeffreys(student: Tensor, teacher: Tensor) -> Tensor:
    """Symmetric KL divergence of rows of probabilities (B, B), mean over all elements."""
    tiny = torch.finfo(student.dtype).tiny
    return ((student - teacher) * (student.clamp_min(tiny).log() - teacher.clamp_min(tiny).log())).mean()


def hkd_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Sum of the Jeffreys divergences of the similarities of a batch under two kernels (Passalis et al. 2020).

    The hybrid of a cosine and a Student-t kernel is the authors' too. The divergence is divided by B^2, not by B.

    Args:
        student_map, teacher_map: (B, ...), of any size.
    """
    student, teacher = (full_precision(each).flatten(1) for each in (student_map, teacher_map))
    return sum(
        (jeffreys(kernel(student), kernel(teacher)) for kernel in (cosine_kernel, student_t_kernel)),
        start=student.new_zeros(()),
    )


class HKD(KD):
    """``CE + kd_weight * KD + hkd_weight * (first_weight * first stage + sum of the others)``, see ``hkd_loss``.

    This follows SemCKD's code, which gave the published numbers. There the weight is meant to fall from stage to stage,
    but reaches the first stage only. The paper lets it fall over the epochs, and has an auxiliary teacher of the
    student's architecture between the two: give that one as the teacher.

    Args:
        first_weight: the weight of the shallowest stage compared.
        skip_stages: paired stages left out at the shallow end; 1 leaves out the stem.
    """

    paper = "Passalis et al. 2020, arXiv:2005.00727"
    family = "relations"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        hkd_weight: NonNegative,
        first_weight: NonNegative,
        skip_stages: Count,
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.hkd_weight, self.first_weight, self.skip_stages = hkd_weight, first_weight, skip_stages

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pairs = compared_stages(student, teacher, self.skip_stages)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        first, *deeper = [hkd_loss(student.stages[i], teacher.stages[j]) for i, j in self.pairs]
        return {
            **super().forward(student, teacher, batch, progress),
            "hkd": self.hkd_weight * sum(deeper, start=self.first_weight * first),
        }
