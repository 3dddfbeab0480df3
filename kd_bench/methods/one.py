"""ONE: branches on shared stages, and their gated ensemble as the teacher of all of them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative, Positive, PositiveInt
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.byot import Exit
from kd_bench.methods.losses import cross_entropy, full_precision, sigmoid_warm_up
from kd_bench.models.features import FeatureTap, Outputs


def gated_logits(logits: list[Tensor], gates: Tensor) -> Tensor:
    """The sum of ``gates[:, i] * logits[i]``: M logits (B, K) and their weights (B, M) to (B, K) (Lan et al. 2018)."""
    return (gates.T[:, :, None] * torch.stack(logits)).sum(dim=0)


def ensemble_loss(logits: Tensor, ensemble: Tensor, temperature: float, probability_eps: float) -> Tensor:
    """``T^2 * sum over classes of q * (log q - log p)``, mean over the batch; ``q``: the ensemble, without gradient.

    Lan et al. 2018: a KL divergence but for ``probability_eps``, which the authors' code adds to each of the ensemble's
    softened probabilities and the paper does not have; they then sum to a little more than 1.

    Args:
        logits, ensemble: (B, K).
    """
    probabilities = F.softmax(ensemble.detach() / temperature, dim=1) + probability_eps
    branch = F.log_softmax(logits / temperature, dim=1)
    return temperature**2 * F.kl_div(branch, probabilities, reduction="batchmean")


class ONE(Method):
    """``ce_weight * (sum of CE over branches + CE of the ensemble) + kd_weight * sum of T^2 * KL(ensemble || branch)``.

    The network's own last stage and classifier are one branch; the others are adapters on the last stage but one. The
    gate weighs them by a linear layer with batch norm, ReLU and softmax on that stage, pooled; it learns by the
    ensemble's cross-entropy alone. The paper's branches are copies of the network's last stage with weights of their
    own; here they are generic convolutions, cheaper and weaker than most last stages. The divergence warms up as
    ``exp(-5 * (1 - epoch / warmup_epochs)^2)``, as in the authors' code; the paper does not mention it.

    Args:
        kd_weight: of the sum of the divergences, T^2 included.
        probability_eps: is added to the ensemble's softened probabilities: 1e-7 in the authors' code, 0 in the paper.
        branches: their number, without the network's own.
        ensemble: at test time the gated ensemble predicts (the paper's ONE-E), whose cost is then counted; otherwise
            the network's own branch does, and the others are thrown away.
    """

    paper = "Lan et al. 2018, arXiv:1806.04606"
    family = "online"
    requires = Requirements(teacher="none")

    def __init__(
        self,
        branches: PositiveInt,
        ce_weight: NonNegative,
        kd_weight: NonNegative,
        temperature: Positive,
        warmup_epochs: PositiveInt,
        ensemble: bool,
        probability_eps: NonNegative = 1e-7,
    ) -> None:
        super().__init__()
        self.number, self.ce_weight, self.kd_weight, self.temperature = branches, ce_weight, kd_weight, temperature
        self.warmup_epochs, self.ensemble, self.probability_eps = warmup_epochs, ensemble, probability_eps

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        shapes = student.stage_shapes
        if len(shapes) < 2:
            raise ConfigError(f"method=one needs a stage before the last one; stages of {student.name}: {shapes}")
        self.branches = nn.ModuleList(
            Exit(shapes[-2], shapes[-1], student.embedding_size, data.num_classes) for _ in range(self.number)
        )
        every = 1 + self.number
        self.gate = nn.Sequential(nn.Linear(shapes[-2][0], every), nn.BatchNorm1d(every), nn.ReLU())

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits, ensemble = self._branches(student)
        losses = [cross_entropy(each, batch.targets) for each in logits]
        divergences = [ensemble_loss(each, ensemble, self.temperature, self.probability_eps) for each in logits]
        kd_weight = self.kd_weight * sigmoid_warm_up(progress.epoch, self.warmup_epochs)
        return {
            "ce": self.ce_weight * losses[0],
            "branches_ce": self.ce_weight * torch.stack(losses[1:]).sum(),
            "ensemble_ce": self.ce_weight * cross_entropy(ensemble, batch.targets),
            "kd": kd_weight * torch.stack(divergences).sum(),
        }

    def _branches(self, student: Outputs) -> tuple[list[Tensor], Tensor]:
        """Return the logits of every branch, the network's own first, and of their ensemble."""
        shared = student.stages[-2]
        logits = [student.logits, *(full_precision(branch(shared)[0]) for branch in self.branches)]
        gates = F.softmax(full_precision(self.gate(shared.mean(dim=(2, 3)))), dim=1)
        return logits, gated_logits(logits, gates)

    def predict(self, student: Outputs) -> Tensor:
        return self._branches(student)[1] if self.ensemble else student.logits

    def test_time_modules(self) -> list[nn.Module]:
        return [self.branches, self.gate] if self.ensemble else []
