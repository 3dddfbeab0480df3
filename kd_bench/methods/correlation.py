"""Correlation congruence, in the form of the published tables."""

from torch import Tensor, nn

from kd_bench.config.ranges import NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs


def correlation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``sum_d |s - t|_d(i) * |s - t|_d(i + 1)``, mean over the B - 1 pairs of neighbours in the batch.

    This is the code behind the CC rows of RepDistiller's tables. It shares with the paper (Peng et al. 2019, section 3:
    the distance of the networks' B x B kernel matrices) only the idea of looking at pairs of samples. It depends on
    the order of the batch, and is 0 as soon as every second sample agrees.

    Args:
        student, teacher: projected embeddings (B, D), B >= 2.
    """
    difference = full_precision(student - teacher).abs()
    return (difference[:-1] * difference[1:]).sum(dim=1).mean()


class Correlation(Method):
    """``CE + correlation_weight * the correlation of differences`` of linearly projected embeddings.

    Both projections are trained, so that the term alone has a trivial minimum: projections to a constant.
    """

    paper = "Peng et al. 2019, arXiv:1904.01802"
    family = "relations"
    reads = ("logits", "embedding")

    def __init__(self, ce_weight: NonNegative, correlation_weight: NonNegative, projection_size: PositiveInt) -> None:
        super().__init__()
        self.ce_weight, self.correlation_weight = ce_weight, correlation_weight
        self.projection_size = projection_size

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.student_projection = nn.Linear(student.embedding_size, self.projection_size)
        self.teacher_projection = nn.Linear(teacher.embedding_size, self.projection_size)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        student_projected = self.student_projection(student.embedding)
        loss = correlation_loss(student_projected, self.teacher_projection(teacher.embedding))
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "correlation": self.correlation_weight * loss}
