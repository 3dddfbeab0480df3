"""Probabilistic knowledge transfer: the distribution of similarities within a batch."""

from torch import Tensor

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, gram_matrix
from kd_bench.models.features import Outputs

SMALLEST = 1e-7  # added to norms and probabilities, as in the authors' code


def neighbour_probabilities(embedding: Tensor) -> Tensor:
    """Cosine similarities of (B, D) shifted to [0, 1], each row divided by its sum: (B, B).

    Passalis & Tefas 2018, section 3. The paper leaves the sample itself out of the sum; it is kept here, as in the
    authors' code.
    """
    directions = embedding / (embedding.norm(dim=1, keepdim=True) + SMALLEST)
    shifted = (gram_matrix(directions) + 1) / 2
    return shifted / shifted.sum(dim=1, keepdim=True)


def pkt_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``q_t * log((q_t + eps) / (q_s + eps))`` of the ``neighbour_probabilities`` q, mean over all B^2 entries.

    The paper's divergence is a sum; the mean, as in the authors' code, is why the weight is 30000.

    Args:
        student, teacher: (B, D), ``D`` may differ.
    """
    student, teacher = neighbour_probabilities(student), neighbour_probabilities(teacher)
    return (teacher * ((teacher + SMALLEST) / (student + SMALLEST)).log()).mean()


class PKT(Method):
    """``CE + pkt_weight * the divergence of the neighbour probabilities`` on the embeddings."""

    paper = "Passalis & Tefas 2018, arXiv:1803.10837"
    family = "relations"
    reads = ("logits", "embedding")

    def __init__(self, ce_weight: NonNegative, pkt_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.pkt_weight = ce_weight, pkt_weight

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        loss = pkt_loss(student.embedding, teacher.embedding)
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "pkt": self.pkt_weight * loss}
