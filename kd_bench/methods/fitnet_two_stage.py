"""FitNet as published: hints first, then distillation of the logits."""

from torch import Tensor

from kd_bench.config.ranges import Count, NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.methods.fitnet import FitNet
from kd_bench.methods.losses import cross_entropy, kl_divergence
from kd_bench.models.features import Outputs


def annealed(start: float, end: float, progress: Progress) -> float:
    """Linear from ``start`` in the first epoch to ``end`` in the last (Romero et al. 2015, section 3.2)."""
    return start + (end - start) * progress.epoch / max(progress.epochs - 1, 1)


class FitNetTwoStage(FitNet):
    """Stage 1 trains the student up to the hint stage; stage 2 adds softened teacher targets to the labels.

    Stage 1 minimises half the squared hint distance (equation 3). Stage 2 minimises ``CE + weight * H(p_t, p_s)`` at
    ``temperature`` (equation 2), the weight falling linearly from ``kd_weight`` to ``kd_weight_end``. Differences: the
    hint distance is a mean over elements, so that its step size does not grow with the map; the regressor has the
    batch norm of the one-stage code; the soft term is the KL divergence, which has the same gradient as ``H``.

    Args:
        hint_stage: index into the pairs of stages, the stems being 0.
        pretrain_epochs: length of stage 1; stage 2 lasts the recipe's epochs.
    """

    def __init__(
        self,
        hint_stage: Count,
        pretrain_epochs: PositiveInt,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        kd_weight_end: NonNegative,
        temperature: Positive,
    ) -> None:
        super().__init__(ce_weight=ce_weight, hint_weight=0.5, hint_stage=hint_stage)
        self.pretrain_epochs = pretrain_epochs
        self.kd_weight, self.kd_weight_end, self.temperature = kd_weight, kd_weight_end, temperature

    def pretrain_terms(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        return {"hint": self.hint_weight * self.hint(student, teacher)}

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        kd = kl_divergence(student.logits, teacher.logits, self.temperature)
        weight = annealed(self.kd_weight, self.kd_weight_end, progress)
        return {"ce": self.ce_weight * cross_entropy(student.logits, batch.targets), "kd": weight * kd}
