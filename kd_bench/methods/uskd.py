"""USKD: soft labels customised from the network's own prediction and that of a weak head."""

from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import NonNegative
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, full_precision, soft_cross_entropy, without_target
from kd_bench.models.features import FeatureTap, Outputs

WEAK_SMOOTHING = 0.1  # label smoothing of the weak head
RANK_EPS = 1e-6  # of the divisions before the ranking


def own_target_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy with the label, each sample weighted by ``1 + p_t^2 - mean of p_t^2 over the batch``.

    Yang et al. 2023, the target part of USKD; ``p_t`` is the sample's own probability of its label, without gradient.

    Args:
        logits: (B, K).
        targets: (B,) class indices.
    """
    log_probabilities = F.log_softmax(logits, dim=1).gather(1, targets[:, None])
    squares = log_probabilities.detach().exp().square()
    return -((1 + squares - squares.mean()) * log_probabilities).mean()


def rank_labels(logits: Tensor, weak_logits: Tensor, targets: Tensor) -> Tensor:
    """Distribution (B, K - 1) over the other classes by Zipf's law, ``1 / rank``, without gradient.

    Yang et al. 2023, the non-target part of USKD. Classes are ranked by the sum of the two predictions, each normalised
    by its probability of the other classes. As in the authors' code the label has a rank too, mostly the first, and the
    strong prediction enters as ``log p / (1 - log p_t)`` in place of the paper's ``p / (1 - p_t)``.

    Args:
        logits, weak_logits: (B, K).
        targets: (B,) class indices.
    """
    weak, strong = F.softmax(weak_logits.detach(), dim=1), F.log_softmax(logits.detach(), dim=1)
    weak_target, strong_target = weak.gather(1, targets[:, None]), strong.gather(1, targets[:, None])
    scores = weak / (1 - weak_target + RANK_EPS) + strong / (1 - strong_target + RANK_EPS)
    ranks = scores.argsort(dim=1, descending=True, stable=True).argsort(dim=1) + 1
    others = without_target(1 / ranks.to(logits.dtype), targets)
    return others / others.sum(dim=1, keepdim=True)


def weak_feature(student: Outputs) -> Tensor:
    """The input (B, D) of the weak head: see ``USKD``."""
    if student.prefix is None:
        return student.stages[-2].mean(dim=(2, 3))
    return student.prefix[len(student.prefix) // 2 - 1][:, 0]


class USKD(Method):
    """``ce_weight * CE + target_weight * own target + others_weight * H(ranks, p others) + weak_weight * weak CE``.

    Universal self-knowledge distillation, from the paper of NKD. The weak head is a linear classifier on the pooled
    last stage but one or, in a transformer with a class token, on that token after half of the blocks, before any final
    norm: the sixth of DeiT's twelve. It learns smoothed labels and is thrown away after training.

    Args:
        target_weight: the paper's alpha.
        others_weight: the paper's beta.
        weak_weight: the paper's mu.
    """

    paper = "Yang et al. 2023, arXiv:2303.13005"
    family = "self-distillation"
    requires = Requirements(teacher="none")

    def __init__(
        self,
        ce_weight: NonNegative,
        target_weight: NonNegative,
        others_weight: NonNegative,
        weak_weight: NonNegative,
    ) -> None:
        super().__init__()
        self.ce_weight, self.target_weight = ce_weight, target_weight
        self.others_weight, self.weak_weight = others_weight, weak_weight

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        if len(student.stage_shapes) < 2:
            raise ConfigError(
                f"method=uskd needs a stage before the last one; stages of {student.name}: {student.stage_shapes}"
            )
        self.weak_head = nn.Linear(student.stage_shapes[-2][0], data.num_classes)

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        logits, targets = student.logits, batch.targets
        weak = full_precision(self.weak_head(weak_feature(student)))
        ranked = rank_labels(logits, weak, targets)
        return {
            "ce": self.ce_weight * cross_entropy(logits, targets),
            "target": self.target_weight * own_target_loss(logits, targets),
            "others": self.others_weight * soft_cross_entropy(without_target(logits, targets), ranked),
            "weak": self.weak_weight * F.cross_entropy(weak, targets, label_smoothing=WEAK_SMOOTHING),
        }
