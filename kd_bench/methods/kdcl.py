"""KDCL: networks trained together learn from an ensemble of their logits, each on its own view of an image."""

import torch
from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import Outputs


def min_logits(student_logits: Tensor, peer_logits: Tensor, targets: Tensor) -> Tensor:
    """The smaller of two networks' logits (B, K) for each class, relative to that of the label; without gradient.

    Guo et al. 2020, KDCL-MinLogit: where the logit of the label is moved to 0, small logits of the other classes mean a
    confident and right prediction.
    """
    detached = student_logits.detach(), peer_logits.detach()
    student, peer = (logits - logits.gather(1, targets[:, None]) for logits in detached)
    return torch.minimum(student, peer)


class KDCL(Method):
    """``ce_weight * CE + kd_weight * T^2 * KL(ensemble || p)``, for the student and, as ``peer_*``, for its peer.

    The ensemble is the paper's MinLogit; its Naive (for each sample the network with the lower cross-entropy), Linear
    and General are left out. The peer is a fresh network of the teacher's kind, trained along by the same optimizer.
    The student learns on the first view of an image, the peer on the second. Both networks run on both views, since a
    batch has one set of images: what is not used reaches their batch norms alone. Only the student is evaluated.
    """

    paper = "Guo et al. 2020, CVPR"
    family = "online"
    requires = Requirements(teacher="trained", views=2)

    def __init__(self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.kd_weight, self.temperature = ce_weight, kd_weight, temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        targets = batch.targets
        student_logits, peer_logits = student.logits[: len(targets)], teacher.logits[len(targets) :]
        ensemble = min_logits(student_logits, peer_logits, targets)
        return {
            "ce": self.ce_weight * cross_entropy(student_logits, targets),
            "kd": self.kd_weight * kd_loss(student_logits, ensemble, self.temperature),
            "peer_ce": self.ce_weight * cross_entropy(peer_logits, targets),
            "peer_kd": self.kd_weight * kd_loss(peer_logits, ensemble, self.temperature),
        }
