"""MaskedKD: the teacher sees only the patches that the student attends to, which makes its pass cheaper."""

from collections.abc import Callable

from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive, PositiveFraction
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Requirements
from kd_bench.methods.kd import KD
from kd_bench.models.features import FeatureTap, Outputs
from kd_bench.models.pairing import stages_of


def most_attended(attention: Tensor, count: int) -> Tensor:
    """Positions (B, count) of the patches with the highest attention, the highest first (Son et al. 2024).

    Args:
        attention: (B, heads, N) from the class token to the N patches, which is averaged over the heads.
    """
    return attention.mean(dim=1).topk(count, dim=1).indices


class MaskedKD(KD):
    """``ce_weight * CE + kd_weight * T^2 * KL`` with the logits of a teacher that sees a part of the patches.

    These are the ones that the class token of the student's last block attends to most, mean over its heads; the rest
    is left out after the teacher's position embedding. The student sees all of them. Nothing flows back through the
    choice. ``kd-bench show`` counts the multiply-accumulates of the teacher in a step, and a record has the share of
    the training time that it took.

    Args:
        kept_fraction: of the patches, rounded down, one at least.
    """

    paper = "Son et al. 2024, arXiv:2302.10494"
    family = "logits"
    reads = None  # what the teacher gives depends on the student

    def __init__(
        self, ce_weight: NonNegative, kd_weight: NonNegative, temperature: Positive, kept_fraction: PositiveFraction
    ) -> None:
        super().__init__(ce_weight, kd_weight, temperature)
        self.kept_fraction = kept_fraction
        self.requires = Requirements(student_has=("class attention",), teacher_has=("choice of tokens",))

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        if student.stage_shapes[-1][1:] != teacher.stage_shapes[-1][1:]:
            raise ConfigError(
                f"method maskedkd needs networks that cut an image into the same patches; {stages_of(student, teacher)}"
            )

    def observe(
        self, student: FeatureTap, teacher: Callable[..., Outputs] | None, images: Tensor
    ) -> tuple[Outputs, Outputs | None]:
        seen = student(images)
        if teacher is None:
            return seen, None
        attention = student.class_attention(seen)
        return seen, teacher(images, most_attended(attention, self.kept(attention.shape[2])))

    def kept(self, patches: int) -> int:
        """Return how many of the patches the teacher sees."""
        return max(1, int(self.kept_fraction * patches))
