"""Be Your Own Teacher: early exits learn from the network's deepest classifier."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.config.ranges import Count, Fraction, NonNegative, Positive
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Method, Progress, Requirements
from kd_bench.methods.losses import cross_entropy, soft_cross_entropy
from kd_bench.methods.simkd import conv_bn_relu
from kd_bench.models.features import FeatureTap, Outputs


def exit_soft_loss(exit_logits: Tensor, final_logits: Tensor, temperature: float) -> Tensor:
    """``T^2`` times the cross-entropy of an exit (B, K) with the softened, detached final prediction (B, K).

    Zhang et al. 2019, equation 2. A cross-entropy, not a KL divergence: the final prediction's entropy is kept.
    """
    target = F.softmax(final_logits.detach() / temperature, dim=1)
    return temperature**2 * soft_cross_entropy(exit_logits / temperature, target)


def exit_feature_loss(exit_feature: Tensor, final_feature: Tensor) -> Tensor:
    """Sum over batch and units of squared differences of (B, D) features, the final one detached.

    Zhang et al. 2019, equation 3, as the unofficial code that this follows has it: a plain sum, over the units where
    either value is positive.
    """
    final = final_feature.detach()
    either_positive = (exit_feature > 0) | (final > 0)
    return ((exit_feature - final).pow(2) * either_positive).sum()


class Exit(nn.Module):
    """An early exit: stride-2 convolutions down to the size of the deepest map, pooling, a linear classifier."""

    def __init__(self, stage: tuple[int, int, int], deepest: tuple[int, int, int], embedding: int, classes: int):
        super().__init__()
        channels, height, _ = stage
        layers: list[nn.Module] = []
        while height > deepest[1]:
            layers += conv_bn_relu(channels, channels, 3, stride=2)
            height = -(-height // 2)
        self.bottleneck = nn.Sequential(*layers, *conv_bn_relu(channels, embedding, 1))
        self.classifier = nn.Linear(embedding, classes)

    def forward(self, stage: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K) and pooled feature (B, D) of a stage map (B, C, H, W)."""
        feature = self.bottleneck(stage).mean(dim=(2, 3))
        return self.classifier(feature), feature


class BYOT(Method):
    """Every classifier learns the labels; the exits also learn the deepest one's softened prediction and embedding.

    ``(1 - a) * sum of CE over all classifiers + a * sum of soft terms + feature_weight * sum of feature terms`` with
    ``a = distillation_weight``. The exits are adapters on the stages between the stem and the last one.

    Args:
        skip_stages: stages without an exit at the shallow end; 1 leaves out the stem.
        ensemble: at test time average the probabilities of all classifiers, whose cost is then counted; otherwise the
            deepest classifier predicts alone and the exits are thrown away.
    """

    paper = "Zhang et al. 2019, arXiv:1905.08094"
    family = "self-distillation"
    requires = Requirements(teacher="none")

    def __init__(
        self,
        distillation_weight: Fraction,
        feature_weight: NonNegative,
        temperature: Positive,
        skip_stages: Count,
        ensemble: bool,
    ) -> None:
        super().__init__()
        self.distillation_weight, self.feature_weight = distillation_weight, feature_weight
        self.temperature, self.skip_stages, self.ensemble = temperature, skip_stages, ensemble

    def build_adapters(self, student: FeatureTap, teacher: FeatureTap, data: DataSpec) -> None:
        shapes = student.stage_shapes
        self.exit_stages = range(self.skip_stages, len(shapes) - 1)
        if not self.exit_stages:
            raise ConfigError(
                f"method.skip_stages={self.skip_stages} leaves no stage for an exit; {student.name}: {shapes}"
            )
        self.exits = nn.ModuleList(
            Exit(shapes[i], shapes[-1], student.embedding_size, data.num_classes) for i in self.exit_stages
        )

    def forward(self, student: Outputs, teacher: Outputs, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        ce = cross_entropy(student.logits, batch.targets)
        soft = feature = torch.zeros_like(ce)
        for logits, pooled in self._exits(student):
            ce = ce + cross_entropy(logits, batch.targets)
            soft = soft + exit_soft_loss(logits, student.logits, self.temperature)
            feature = feature + exit_feature_loss(pooled, student.embedding)
        weight = self.distillation_weight
        return {"ce": (1 - weight) * ce, "soft": weight * soft, "feature": self.feature_weight * feature}

    def _exits(self, student: Outputs) -> list[tuple[Tensor, Tensor]]:
        return [exit_(student.stages[i]) for i, exit_ in zip(self.exit_stages, self.exits, strict=True)]

    def predict(self, student: Outputs) -> Tensor:
        if not self.ensemble:
            return student.logits
        every = torch.stack([student.logits, *(logits for logits, _ in self._exits(student))])
        return F.softmax(every, dim=2).mean(dim=0).clamp_min(torch.finfo(every.dtype).tiny).log()

    def test_time_modules(self) -> list[nn.Module]:
        return [self.exits] if self.ensemble else []
