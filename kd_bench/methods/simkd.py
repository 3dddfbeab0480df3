"""SimKD: the student's last map learns to replace the teacher's, in front of the teacher's own classifier."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import full_precision, to_smaller_size
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.heads import behind_last_stage, linear_classifier


def simkd_loss(projected: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of the projected student map and the teacher's, before pooling (Chen et al. 2022).

    Args:
        projected, teacher_map: (B, C, H, W). The larger map is average-pooled to the other's size.
    """
    student, teacher = to_smaller_size(projected, teacher_map)
    return F.mse_loss(full_precision(student), full_precision(teacher))


def conv_bn_relu(inputs: int, outputs: int, kernel: int, stride: int = 1) -> list[nn.Module]:
    """A convolution without bias that keeps the size but for its stride, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def projector(inputs: int, outputs: int, factor: int) -> nn.Sequential:
    """1x1, 3x3 and 1x1 convolutions, each with batch norm and ReLU, ``outputs // factor`` wide in the middle."""
    width = max(outputs // factor, 1)
    return nn.Sequential(
        *conv_bn_relu(inputs, width, 1), *conv_bn_relu(width, width, 3), *conv_bn_relu(width, outputs, 1)
    )


class SimKD(Method):
    """``simkd_weight * MSE(projector(last student map), last teacher map)`` and nothing else: no labels.

    At test time the student predicts through the projector, global pooling and the teacher's classifier, which count as
    its own. A student map that is larger than the teacher's is average-pooled before the projector. Whatever the
    student has behind its last stage, above all its classifier, learns nothing: it requires no gradient.

    Args:
        factor: how many times narrower than the teacher's map the projector is in its middle.
    """

    paper = "Chen et al. 2022, arXiv:2203.14001"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(self, simkd_weight: NonNegative, factor: PositiveInt) -> None:
        super().__init__()
        self.simkd_weight, self.factor = simkd_weight, factor

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self._classifier = (linear_classifier(teacher, "pooled last stage", data),)  # a tuple hides it: it is borrowed
        channels, height, width = teacher.stage_shapes[-1]
        student_channels, student_height, student_width = student.stage_shapes[-1]
        self.size = min(height, student_height), min(width, student_width)
        self.projector = projector(student_channels, channels, self.factor)
        for parameter in behind_last_stage(student, data):
            parameter.requires_grad_(False)

    def projected(self, student: Outputs) -> Tensor:
        """Return the student's last map in the teacher's channels, at the smaller of both sizes."""
        projected: Tensor = self.projector(F.adaptive_avg_pool2d(student.stages[-1], self.size))
        return projected

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        loss = simkd_loss(self.projected(student), teacher.stages[-1])
        return {"simkd": self.simkd_weight * loss}

    def predict(self, student: Outputs) -> Tensor:
        (classifier,) = self._classifier
        return full_precision(classifier(self.projected(student).mean(dim=(2, 3))))

    def test_time_modules(self) -> list[nn.Module]:
        return [self.projector, *self._classifier]
