"""ITRD: information-theoretic distillation of the embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, gram_matrix
from kd_bench.models.features import FeatureTap, Outputs


def standardized_columns(embedding: Tensor) -> Tensor:
    """Each column of (B, D) with mean 0 and standard deviation 1 (unbiased); zeros where all values are the same.

    The authors' code has NaN there, for a unit that is dead for a whole batch.
    """
    variance, mean = torch.var_mean(embedding, dim=0)
    varies = variance > 0
    return (embedding - mean) * varies / torch.where(varies, variance, 1).sqrt()


def correlation_loss(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    """``log2`` of the summed ``|1 - correlation| ** (2 alpha)`` over units (Miles et al. 2022).

    Not 0 for the same embeddings: deviations are unbiased but products are divided by B, so a perfect correlation is
    1 - 1/B, and the logarithm has no lower bound.

    Args:
        student, teacher: (B, D).
        alpha: the order of Renyi's entropy, greater than 1.
    """
    correlation = (standardized_columns(student) * standardized_columns(teacher)).mean(dim=0)
    return torch.log2((1 - correlation).pow(2).pow(alpha).sum())


def mutual_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Sum of squares of the student's Gram matrix minus that of the joint one, each divided by its trace.

    These are entropies with alpha = 2 and without logarithm, of cosines over the batch. The joint matrix is the product
    of both networks' matrices, element by element. The teacher's entropy, which has no gradient, is left out.

    Args:
        student, teacher: (B, D), (B, E).
    """
    student_gram, teacher_gram = (gram_matrix(F.normalize(rows, dim=1)) for rows in (student, teacher))
    return _of_trace_one(student_gram).pow(2).sum() - _of_trace_one(student_gram * teacher_gram).pow(2).sum()


def _of_trace_one(matrix: Tensor) -> Tensor:
    return matrix / matrix.trace().clamp_min(torch.finfo(matrix.dtype).tiny)


class ITRD(Method):
    """``CE + correlation_weight * correlation_loss + mutual_weight * mutual_loss`` on embeddings.

    A linear layer brings the student's embedding to the teacher's width: always for the first term, for the second only
    if the widths differ.

    Args:
        alpha: 1.01 for networks of one architecture, 1.5 across architectures.
        mutual_weight: the authors leave the term out (0) for some pairs across architectures.
    """

    paper = "Miles et al. 2022, arXiv:2112.00459"
    family = "relations"
    reads = ("logits", "embedding")

    def __init__(
        self, ce_weight: NonNegative, correlation_weight: NonNegative, mutual_weight: NonNegative, alpha: Positive
    ) -> None:
        super().__init__()
        self.ce_weight, self.correlation_weight = ce_weight, correlation_weight
        self.mutual_weight, self.alpha = mutual_weight, alpha

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.embed = nn.Linear(student.embedding_size, teacher.embedding_size)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        embedded = self.embed(student.embedding).to(teacher.embedding.dtype)
        compared = student.embedding if student.embedding.shape == teacher.embedding.shape else embedded
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "correlation": self.correlation_weight * correlation_loss(embedded, teacher.embedding, self.alpha),
            "mutual": self.mutual_weight * mutual_loss(compared, teacher.embedding),
        }
