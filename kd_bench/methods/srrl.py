"""SRRL: the student's embedding must look like the teacher's, and the same to the teacher's classifier."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.heads import linear_classifier


def srrl_losses(
    connected: Tensor, teacher_embedding: Tensor, classifier: nn.Module, teacher_logits: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared errors of the embeddings, and of the logits that the teacher's classifier gives (Yang et al. 2021).

    Here both work on pooled vectors, as in SimKD's code, which gave the published numbers of many pairs. The authors'
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


class SRRL(KD):
    """``CE + kd_weight * KD + srrl_weight * (feature + logit)``; see ``srrl_losses`` for the last two.

    The student's embedding comes into the teacher's width by a linear layer without bias, batch norm and ReLU. At test
    time the student predicts with its own classifier, which learns from the labels and the softened logits alone. The
    paper has no softened logits (``kd_weight=0``).
    """

    paper = "Yang et al. 2021, ICLR"
    family = "features"
    reads = ("logits", "embedding")

    def __init__(
        self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, srrl_weight: NonNegative
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.srrl_weight = srrl_weight

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self._classifier = (linear_classifier(teacher, "embedding", data),)  # a tuple hides it: it is borrowed
        width = teacher.embedding_size
        linear = nn.Linear(student.embedding_size, width, bias=False)
        self.connector = nn.Sequential(linear, nn.BatchNorm1d(width), nn.ReLU())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        connected = self.connector(student.embedding)
        feature, logit = srrl_losses(connected, teacher.embedding, self._classifier[0], teacher.logits)
        return {
            **super().forward(student, teacher, batch, progress),
            "feature": self.srrl_weight * feature,
            "logit": self.srrl_weight * logit,
        }
