"""Deep mutual learning: two networks, each trained from scratch, learn from each other."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


class DML(Method):
    """``ce_weight * CE + mutual_weight * peer_loss``, for the student and, as ``peer_*``, for its peer.

    The peer is a fresh network of the teacher's kind, trained along by the same optimizer and schedule. In the paper T
    is 1, and the networks are updated in turns, each from the other's new prediction; here, as in unofficial code, both
    learn from one pass. Only the student is evaluated.
    """

    paper = "Zhang et al. 2018, arXiv:1706.00384"
    family = "online"
    requires = Requirements(soft_targets=True, teacher="trained")

    def __init__(self, ce_weight: NonNegative, mutual_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.mutual_weight, self.temperature = ce_weight, mutual_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.labels),
            "mutual": self.mutual_weight * peer_loss(student.logits, teacher.logits, self.temperature),
            "peer_ce": self.ce_weight * cross_entropy(teacher.logits, batch.labels),
            "peer_mutual": self.mutual_weight * peer_loss(teacher.logits, student.logits, self.temperature),
        }
