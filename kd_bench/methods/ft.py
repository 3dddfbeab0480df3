"""Factor transfer."""

from collections.abc import Iterator

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveFraction, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.at import attention
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy, full_precision, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs

SLOPE = 0.1  # of the leaky ReLUs


def factor_loss(student_factor: Tensor, teacher_factor: Tensor, power: int, exponent: int = 1) -> Tensor:
    """Mean distance of the factors' normalised attention maps: the absolute difference, or its power ``exponent``.

    The paper (Kim et al. 2018, section 3.2) compares the whole factors, L2-normalised; RepDistiller takes the mean of
    ``factor ** power`` over channels first. The larger map is average-pooled to the smaller one.

    Args:
        student_factor, teacher_factor: (B, C, H, W), sizes may differ.
        exponent: the paper's p. Above 1 RepDistiller takes the power of the difference itself, without its absolute
            value: an odd one gives a loss below 0 where the student's map is the smaller one.
    """
    student, teacher = to_smaller_size(full_precision(student_factor), full_precision(teacher_factor))
    difference = attention(student, power) - attention(teacher, power)
    return difference.abs().mean() if exponent == 1 else difference.pow(exponent).mean()


def encoder(inputs: int, factors: int, batch_norm: bool) -> nn.Sequential:
    """Three 3x3 convolutions to ``factors`` channels, each with a leaky ReLU and, if asked, batch norm before it."""
    layers: list[nn.Module] = []
    for narrow, wide in ((inputs, inputs), (inputs, factors), (factors, factors)):
        norm = [nn.BatchNorm2d(wide)] if batch_norm else []
        layers += [nn.Conv2d(narrow, wide, 3, padding=1), *norm, nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class Paraphraser(nn.Module):
    """An autoencoder of the teacher's map, whose encoder gives the factors."""

    def __init__(self, channels: int, factors: int) -> None:
        super().__init__()
        self.encoder = encoder(channels, factors, batch_norm=False)
        layers: list[nn.Module] = []
        for narrow, wide in ((factors, factors), (factors, channels), (channels, channels)):
            layers += [nn.ConvTranspose2d(narrow, wide, 3, padding=1), nn.LeakyReLU(SLOPE)]
        self.decoder = nn.Sequential(*layers)

    def forward(self, teacher_map: Tensor) -> Tensor:
        """Return the map as it is restored from its factors, (B, C, H, W)."""
        restored: Tensor = self.decoder(self.encoder(teacher_map))
        return restored


class FT(Method):
    """Stage 1 trains a paraphraser of the teacher's last map; stage 2 is ``CE + factor_weight * factor loss``.

    As RepDistiller: in stage 2 a translator of the student's last map learns to give the factors of the paraphraser,
    which stays as it is. RepDistiller trains the paraphraser at learning rate 0.01 where the student is a (wide)
    ResNet, here it is the recipe's.

    Args:
        factor_rate: channels of the factors over those of the teacher's map.
        power: of the factors in their attention maps.
        pretrain_epochs: length of stage 1, which leaves the student's weights alone; stage 2 lasts the recipe's epochs.
        exponent: of the distance of the factors: 1, the absolute difference, or 2, its square.
    """

    paper = "Kim et al. 2018, arXiv:1802.04977"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(
        self,
        ce_weight: NonNegative,
        factor_weight: NonNegative,
        factor_rate: PositiveFraction,
        power: PositiveInt,
        pretrain_epochs: PositiveInt,
        exponent: PositiveInt = 1,
    ) -> None:
        super().__init__()
        self.ce_weight, self.factor_weight = ce_weight, factor_weight
        self.factor_rate, self.power, self.pretrain_epochs = factor_rate, power, pretrain_epochs
        self.exponent = exponent

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        channels = teacher.stage_shapes[-1][0]
        factors = max(int(self.factor_rate * channels), 1)
        self.paraphraser = Paraphraser(channels, factors)
        self.translator = encoder(student.stage_shapes[-1][0], factors, batch_norm=True)

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        teacher_map = teacher.stages[-1]
        restored = self.paraphraser(teacher_map)
        return {"reconstruction": F.mse_loss(full_precision(restored), full_precision(teacher_map))}

    def pretrain_parameters(self, student: FeatureTap) -> Iterator[nn.Parameter]:
        return self.paraphraser.parameters()

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        factors = self.paraphraser.encoder(teacher.stages[-1]).detach()
        translated = self.translator(student.stages[-1])
        ce = cross_entropy(student.logits, batch.targets)
        return {
            "ce": self.ce_weight * ce,
            "factor": self.factor_weight * factor_loss(translated, factors, self.power, self.exponent),
        }
