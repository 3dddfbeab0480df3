"""SRRL: the student's embedding must look like the teacher's, and the same to the teacher's classifier."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress, teacher_outputs
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, full_precision
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.heads import linear_classifier


def srrl_losses(
    connected: Tensor, teacher_embedding: Tensor, classifier: nn.Module, teacher_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared errors of embeddings, and of what the teacher's classifier makes of them (Yang et al. 2021).

    Here both work on pooled vectors, as in SimKD's code, which published numbers of many pairs come from. The authors'
    own code connects the maps before pooling and compares their spatial means.

    Args:
        connected: the student's embedding in the teacher's width, (B, D).
        teacher_embedding: (B, D).
        teacher_logits: (B, K).
    """
    logits = classifier(connected)
    return (
        F.mse_loss(full_precision(connected), teacher_embedding),
        F.mse_loss(full_precision(logits), teacher_logits),
    )


class SRRL(Method):
    """``CE + kd_weight * KD + srrl_weight * (feature + logit)``; see ``srrl_losses`` for the last two.

    The student's embedding comes into the teacher's width by a linear layer without bias, batch norm and ReLU. At test
    time the student predicts with its own classifier, which learns from the labels and the softened logits alone. The
    paper has no softened logits (``kd_weight=0``).
    """

    paper = "Yang et al. 2021, ICLR"
    family = "features"

    def __init__(
        self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, srrl_weight: NonNegative
    ) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature
        self.srrl_weight = srrl_weight

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap | None, data: DataSpec) -> None:
        assert teacher is not None  # the configuration check guarantees it
        self._classifier = (linear_classifier(teacher, "embedding", data),)  # a tuple hides it: it is borrowed
        width = teacher.embedding_size
        linear = nn.Linear(student.embedding_size, width, bias=False)
        self.connector = nn.Sequential(linear, nn.BatchNorm1d(width), nn.ReLU())

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        teacher = teacher_outputs(teacher)
        connected = self.connector(student.embedding)
        feature, logit = srrl_losses(connected, teacher.embedding, self._classifier[0], teacher.logits)
        kd = kd_loss(student.logits, teacher.logits, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "kd": self.kd_weight * kd,
            "feature": self.srrl_weight * feature,
            "logit": self.srrl_weight * logit,
        }
