"""Deep mutual learning: two networks, each trained from scratch, learn from each other."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements, teacher_outputs
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def mutual_loss(own_logits: Tensor, peer_logits: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(p_peer || p_own)`` of logits (B, K), for the first network alone: the peer receives no gradient.

    Zhang et al. 2018, where T is 1.
    """
    return kd_loss(own_logits, peer_logits.detach(), temperature)


class DML(Method):
    """``ce_weight * CE + mutual_weight * mutual loss``, for the student and, as ``peer_*``, for its peer.

    The peer is a fresh network of the teacher's kind, trained along by the same optimizer and schedule. The paper
    updates the networks in turns, each from the other's new prediction; here, as in unofficial code, both learn from
    one pass. Only the student is evaluated.
    """

    paper = "Zhang et al. 2018, arXiv:1706.00384"
    family = "online"
    requires = Requirements(teacher="trained")

    def __init__(self, ce_weight: NonNegative, mutual_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.mutual_weight, self.temperature = ce_weight, mutual_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs | None, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        own, peer = student.logits, teacher_outputs(teacher).logits
        return {
            "ce": self.ce_weight * cross_entropy(own, batch.targets),
            "mutual": self.mutual_weight * mutual_loss(own, peer, self.temperature),
            "peer_ce": self.ce_weight * cross_entropy(peer, batch.targets),
            "peer_mutual": self.mutual_weight * mutual_loss(peer, own, self.temperature),
        }
