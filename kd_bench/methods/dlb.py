"""DLB: self-distillation from the last mini-batch, half of which comes again."""

import torch
from torch import Tensor

from kd_bench.config.ranges import NonNegative, Positive
from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, kl_summands
from kd_bench.models.features import Outputs


def last_batch_loss(logits: Tensor, last_logits: Tensor, same: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(p_last || p)`` of those samples that are the ``same``, summed over classes, mean over the batch.

    Shen et al. 2022, DLB.

    Args:
        logits: (B, K).
        last_logits: (B, K), those of the same samples one step before, without gradient.
        same: (B,) booleans; the other samples count as 0.
    """
    divergences = kl_summands(logits, last_logits, temperature).sum(dim=1)
    return temperature**2 * (divergences * same).mean()


class DLB(Method):
    """``ce_weight * CE + last_weight * last-batch loss``: the labels for the whole batch, the rest for its first half.

    The first half is the second half of the batch before, augmented anew; its targets are what was predicted then.
    The first batch of an epoch has no such targets, since each epoch has an order of its own, so nothing needs saving
    between epochs. The authors pass the two halves through the network one after the other; here they share one pass,
    so that batch norms see them together.
    """

    paper = "Shen et al. 2022, arXiv:2203.16172"
    family = "self-distillation"
    requires = Requirements(teacher="none", sampler="repeated_halves")

    def __init__(self, ce_weight: NonNegative, last_weight: NonNegative, temperature: Positive) -> None:
        super().__init__()
        self.ce_weight, self.last_weight, self.temperature = ce_weight, last_weight, temperature
        self._last: tuple[int, Tensor, Tensor] | None = None  # epoch, index and logits of a second half

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        repeated, new = student.logits.chunk(2)
        index, new_index = batch.index.chunk(2)
        last_index, last_logits = self._last_half(repeated, progress.epoch)
        self._last = progress.epoch, new_index, new.detach()
        soft = last_batch_loss(repeated, last_logits, index == last_index, self.temperature)
        return {
            "ce": self.ce_weight * cross_entropy(student.logits, batch.targets),
            "last_batch": self.last_weight * soft,
        }

    def _last_half(self, logits: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """Return index and logits of the last batch's second half, index -1 if this ``epoch`` had none of that size."""
        if self._last is None or self._last[0] != epoch or self._last[2].shape != logits.shape:
            return torch.full((len(logits),), -1, device=logits.device), logits.detach()
        return self._last[1:]
