"""Function matching: the student learns what the teacher says of strongly mixed images, and nothing else."""

from torch import Tensor

from kd_bench.config.ranges import Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.kd import kd_loss
from kd_bench.models.features import Outputs


class FunctionMatching(Method):
    """``kd_loss`` alone, at temperature 1: no labels.

    Beyer et al. 2022: distillation matches functions, so both networks see the very same crop, which is mixed with
    another image of the batch, and training is much longer than usual. The loss is here; the recipe
    ``function_matching`` supplies the aggressive crops and the mixing. With another recipe the method is KD without
    labels on that recipe's images. Labels are not read, so images may be mixed in any way.

    The authors' code clips the teacher's probabilities at 1e-8 inside the logarithm of their entropy, which changes the
    value by at most 4e-9 a class and the gradient not at all.
    """

    paper = "Beyer et al. 2022, arXiv:2106.05237"
    family = "logits"
    reads = ("logits",)
    requires = Requirements(soft_targets=True)

    def __init__(self, temperature: Positive) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"kd": kd_loss(student.logits, teacher.logits, self.temperature)}
