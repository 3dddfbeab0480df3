"""FitNet hints, trained in one stage beside the labels as the published tables did."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, NonNegative
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.losses import cross_entropy
from kd_bench.models.features import FeatureTap, Outputs, paired_stages
from kd_bench.models.pairing import stages_of


def hint_loss(student_map: Tensor, teacher_map: Tensor) -> Tensor:
    """Mean squared error of two maps (B, C, H, W) over all elements (Romero et al. 2015, equation 3).

    The paper's squared norm is a sum with a factor 1/2; the mean is what RepDistiller and mdistiller compute.
    """
    return F.mse_loss(student_map, teacher_map)


class Regressor(nn.Module):
    """Student map to the shape of the teacher's: one convolution, batch norm and ReLU, as in RepDistiller.

    The convolution follows from the heights: 3x3 of stride 2 where the student's map is twice as large, a transposed
    4x4 of stride 2 where it is half as large, otherwise a valid one of kernel ``1 + H_student - H_teacher`` (1x1 where
    they are equal). The ReLU cannot match negative values, which Wide ResNet stages have.

    Raises:
        ConfigError: the student's map is smaller than the teacher's and not half of it.
    """

    def __init__(self, student: tuple[int, int, int], teacher: tuple[int, int, int]) -> None:
        super().__init__()
        (inputs, height, width), (outputs, target_height, target_width) = student, teacher
        if height == 2 * target_height and (width + 1) // 2 == target_width:
            self.conv: nn.Module = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        elif (2 * height, 2 * width) == (target_height, target_width):
            self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        elif height >= target_height and width >= target_width:
            self.conv = nn.Conv2d(inputs, outputs, (1 + height - target_height, 1 + width - target_width))
        else:
            raise ConfigError(
                f"a hint needs a student map at least half as large as the teacher's: student {height}x{width}, "
                f"teacher {target_height}x{target_width}"
            )
        self.bn = nn.BatchNorm2d(outputs)

    def forward(self, student_map: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(student_map)))


def hint_pair(stage: int, student: FeatureTap, teacher: FeatureTap) -> tuple[int, int]:
    """Return pair number ``stage`` of the stages of student and teacher, which a hint compares.

    Raises:
        ConfigError: there is no such pair; the message lists the shapes there are.
    """
    pairs = paired_stages(student, teacher)
    if stage >= len(pairs):
        among = f"is a position in stage_pairs={[*map(list, pairs)]}, " if student.stage_pairs else ""
        allowed = f"{among}allowed 0 to {len(pairs) - 1}"
        raise ConfigError(f"method.hint_stage={stage}: {allowed}; {stages_of(student, teacher)}")
    return pairs[stage]


class FitNet(Method):
    """``CE + hint_weight * MSE(regressor(student stage), teacher stage)`` in one stage.

    The paper trains the hint first and distils afterwards: see ``fitnet_two_stage``.

    Args:
        hint_stage: index into the pairs of stages, the stems being 0. RepDistiller's tables use 2, SimKD's code 1.
    """

    paper = "Romero et al. 2015, arXiv:1412.6550"
    family = "features"
    reads = ("logits", "embedding", "stages")

    def __init__(self, ce_weight: NonNegative, hint_weight: NonNegative, hint_stage: Count) -> None:
        super().__init__()
        self.ce_weight, self.hint_weight, self.hint_stage = ce_weight, hint_weight, hint_stage

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        self.pair = hint_pair(self.hint_stage, student, teacher)
        self.regressor = Regressor(student.stage_shapes[self.pair[0]], teacher.stage_shapes[self.pair[1]])

    def hint(self, student: Outputs, teacher: Outputs) -> Tensor:
        """Return ``hint_loss`` of the hint stages, the student's through the regressor."""
        guided = self.regressor(student.stages[self.pair[0]])
        return hint_loss(guided, teacher.stages[self.pair[1]])

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        ce = cross_entropy(student.logits, batch.targets)
        return {"ce": self.ce_weight * ce, "hint": self.hint_weight * self.hint(student, teacher)}
