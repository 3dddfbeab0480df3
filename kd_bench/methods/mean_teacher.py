"""Mean teacher: consistency with a moving average of the network's own weights."""

from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, OpenFraction, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, sigmoid_warm_up
from kd_bench.models.features import Outputs


def consistency_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean squared difference of probabilities over batch and classes: (B, K) and (B, K).

    Tarvainen & Valpola 2017; the mean over classes is that of the authors' code.
    """
    return F.mse_loss(F.softmax(student_logits, dim=1), F.softmax(teacher_logits, dim=1))


class MeanTeacher(Method):
    """``ce_weight * CE + consistency_weight * consistency`` of the student on one view, the teacher on another.

    Here all images have labels. The consistency warms up as ``exp(-5 * (1 - epoch / warmup_epochs)^2)``. The teacher
    predicts in eval mode, with averaged batch-norm statistics; the authors' is in train mode. The student is
    evaluated; the authors report the teacher. Both networks run on both views, since a batch has one set of images:
    what is not used reaches the student's batch norms alone.

    Args:
        decay: the share of the teacher's weights that stays in a step; until it is reached, they are the mean over all
            steps.
    """

    paper = "Tarvainen & Valpola 2017, arXiv:1703.01780"
    family = "self-distillation"
    requires = Requirements(teacher="moving_average", views=2)

    def __init__(
        self,
        ce_weight: NonNegative,
        consistency_weight: NonNegative,
        warmup_epochs: PositiveInt,
        decay: OpenFraction,
    ) -> None:
        super().__init__()
        self.ce_weight, self.consistency_weight = ce_weight, consistency_weight
        self.warmup_epochs, self.decay = warmup_epochs, decay

    def teacher_decay(self, progress: Progress) -> float:
        return min(self.decay, 1 - 1 / (progress.step + 1))

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        samples = len(batch.targets)
        student_logits, teacher_logits = student.logits[:samples], teacher.logits[samples:]
        weight = self.consistency_weight * sigmoid_warm_up(progress.epoch, self.warmup_epochs)
        return {
            "ce": self.ce_weight * cross_entropy(student_logits, batch.targets),
            "consistency": weight * consistency_loss(student_logits, teacher_logits),
        }
