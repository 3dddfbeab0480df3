"""SRD: a linear projection, batch norm on both sides, and the logarithm of a high power of what is left."""

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs

Form = Literal["difference", "correlation"]
NORM_EPS: dict[Form, float] = {"difference": 1e-4, "correlation": 1e-12}  # torch refuses the 0 of the authors' DeiT
LOG_EPS = 1e-5


def normalized(embedding: Tensor, eps: float) -> Tensor:
    """Each dimension of (B, D), B >= 2, with mean 0 and variance 1 over the batch: a batch norm without weights."""
    return F.batch_norm(full_precision(embedding), None, None, training=True, eps=eps)


def difference_loss(projected: Tensor, teacher_embedding: Tensor, power: float) -> Tensor:
    """``log sum |difference|^power`` over batch and dimensions of both normalized embeddings (B, D).

    Miles & Mikolajczyk 2024, as released for CNNs: a sum, not a mean, and nothing added to it, so that it falls without
    bound as the embeddings agree.
    """
    eps = NORM_EPS["difference"]
    return (normalized(projected, eps) - normalized(teacher_embedding, eps)).abs().pow(power).sum().log()


def correlation_loss(projected: Tensor, teacher_embedding: Tensor, power: float) -> Tensor:
    """``log (1e-5 + sum |correlation - 1|^power)`` over the dimensions of both embeddings (B, D), as for DeiT."""
    eps = NORM_EPS["correlation"]
    correlations = (normalized(projected, eps) * normalized(teacher_embedding, eps)).mean(dim=0)
    return ((correlations - 1).abs().pow(power).sum() + LOG_EPS).log()


LOSSES = {"difference": difference_loss, "correlation": correlation_loss}


class SRD(Method):
    """``CE + kd_weight * KD + feature_weight * loss of the form`` on embeddings, the student's through a linear layer.

    The paper has one loss; its two code bases differ. ``difference`` is the released loss for CNNs, ``correlation``
    that for DeiT. The teacher of a student with a distillation token teaches that token's head, the labels the other.

    Args:
        form: which of the two.
        power: to which differences are raised; 4 in the paper and in both code bases.
    """

    paper = "Miles & Mikolajczyk 2024, arXiv:2303.11098"
    family = "features"
    reads = ("logits", "embedding")

    def __init__(
        self,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        feature_weight: NonNegative,
        form: Form,
        power: Positive,
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.feature_weight, self.form, self.power = feature_weight, form, power

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.projection = nn.Linear(student.embedding_size, teacher.embedding_size)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        labelled, taught = student.heads or (student.logits, student.logits)
        loss = LOSSES[self.form](self.projection(student.embedding), teacher.embedding, self.power)
        return {
            "ce": self.ce_weight * cross_entropy(labelled, batch.targets),
            "kd": self.kd_weight * kd_loss(taught, teacher.logits, self.temperature),
            "srd": self.feature_weight * loss,
        }
