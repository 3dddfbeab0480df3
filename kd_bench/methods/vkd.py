"""VkD: an orthogonal projection of the embedding, so that the student and not the projection does the learning."""

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Progress
from kd_bench.methods.kd import KD
from kd_bench.methods.losses import full_precision
from kd_bench.models.features import FeatureTap, Outputs


def vkd_loss(projected: Tensor, teacher_embedding: Tensor) -> Tensor:
    """Smooth L1 distance to the teacher's embedding, brought to mean 0 and variance 1 for each sample.

    Miles et al. 2024. The normalisation is the one for classification, as in the authors' code: a layer norm without
    weights. For generation the paper whitens the teacher's embedding instead.

    Args:
        projected, teacher_embedding: (B, D).
    """
    return F.smooth_l1_loss(projected, F.layer_norm(teacher_embedding, teacher_embedding.shape[1:]))


class VkD(KD):
    """``CE + kd_weight * KD + vkd_weight * vkd_loss(projection of the student's embedding, teacher's embedding)``.

    The projection is a matrix with orthonormal columns (or rows, where the student is wider) at every step: it keeps
    the inner products of the student's embeddings. In the authors' experiments KD goes to a distillation token and
    the embedding is the mean over a ViT's tokens; here both are what the network itself classifies.
    """

    paper = "Miles et al. 2024, arXiv:2403.06213"
    family = "features"
    reads = ("logits", "embedding")

    def __init__(
        self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, vkd_weight: NonNegative
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.vkd_weight = vkd_weight

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        # Not torch's default for matrices that are not square: weight decay makes that one collapse to zeros. The
        # Cayley map of a skew-symmetric matrix is as orthogonal as its exponential, for a twentieth of the time.
        linear = nn.Linear(student.embedding_size, teacher.embedding_size, bias=False)
        self.projection = orthogonal(linear, orthogonal_map="cayley")

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        projected = full_precision(self.projection(student.embedding))
        return {
            **super().forward(student, teacher, batch, progress),
            "vkd": self.vkd_weight * vkd_loss(projected, teacher.embedding),
        }
