"""ICKD: channels of the last map must be related to each other as the teacher's are."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, gram_matrix
from kd_bench.models.features import FeatureTap, Outputs


def channel_correlation(stage: Tensor) -> Tensor:
    """Inner products of the channels of a map, each row L2-normalised: (B, C, H, W) to (B, C, C).

    Liu et al. 2021, with the normalisation of the authors' code for CIFAR-100.
    """
    return F.normalize(gram_matrix(stage.flatten(2)), dim=2)


def ickd_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Squared differences of channel correlations, summed, divided by channels and batch.

    The paper divides by the square of the channels; the authors' code for CIFAR-100 is followed.

    Args:
        student_map, teacher_map: (B, C, H, W) with as many channels; sizes may differ.
    """
    difference = channel_correlation(student_map) - channel_correlation(teacher_map)
    return difference.pow(2).sum(dim=2).mean()


class ICKD(Method):
    """``CE + ickd_weight * ickd_loss`` on the last stage.

    The student's map comes to the teacher's channels by a 1x1 convolution without bias and batch norm.
    """

    paper = "Liu et al. 2021, arXiv:2202.03680"
    family = "relations"
    reads = ("logits", "embedding", "stages")

    def __init__(self, ce_weight: NonNegative, ickd_weight: NonNegative) -> None:
        super().__init__()
        self.ce_weight, self.ickd_weight = ce_weight, ickd_weight

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        channels = teacher.stage_shapes[-1][0]
        conv = nn.Conv2d(student.stage_shapes[-1][0], channels, 1, bias=False)
        self.embed = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        loss = ickd_loss(self.embed(student.stages[-1]), teacher.stages[-1])
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "ickd": self.ickd_weight * loss,
        }
