"""What all CIFAR networks share: timm's interface, with pre-activations on top.

Shapes: ``B`` batch, ``K`` classes, ``C, H, W`` map, ``D`` embedding.
"""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from timm.models import build_model_with_cfg
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from kd_bench.errors import ConfigError

# Channel means and deviations of CIFAR-100, as the published tables used them. A data set has its own in its YAML.
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)


class StageOutputs:
    """One pass through the body of a network."""

    def __init__(self, final: Tensor, stages: list[Tensor], pre_activations: list[Tensor] | None) -> None:
        self.final = final  # (B, C, H, W), what the pooling sees
        self.stages = stages  # stem first, then each stage, shallow to deep
        self.pre_activations = pre_activations  # as stages, before the last ReLU


class CifarNetwork(nn.Module):
    """A network with a stem, stages, global average pooling and one linear classifier ``fc``.

    A subclass sets ``feature_info`` and ``num_features`` and gives ``forward_stages``. Pooling is global, so any input
    size works; at 32x32 it equals the 8x8 average pooling of the published code.
    """

    first_conv: ClassVar[str] = "conv1"
    classifier: ClassVar[str] = "fc"

    num_features: int
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    @property
    def head_hidden_size(self) -> int:
        return self.num_features

    def forward_stages(self, x: Tensor, pre_activations: bool = False) -> StageOutputs:
        """Run the body on ``x`` (B, 3, H, W)."""
        raise NotImplementedError

    def _make_classifier(self, num_classes: int) -> nn.Module:
        return nn.Linear(self.num_features, num_classes) if num_classes > 0 else nn.Identity()

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a freshly initialised one; 0 classes leave the pooled vector."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"global_pool={global_pool!r} is not offered by CIFAR networks; allowed: 'avg'")
        self.num_classes = num_classes
        self.fc = self._make_classifier(num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise ConfigError("gradient checkpointing is not offered by CIFAR networks")

    def forward_features(self, x: Tensor) -> Tensor:
        return self.forward_stages(x).final

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool ``x`` (B, C, H, W) to (B, D) and, unless ``pre_logits``, classify it to (B, K)."""
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | tuple[int, ...] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Stage maps of ``x``, as timm's networks give them: a list, or (final map, list).

        ``norm`` and ``stop_early`` are accepted for the common interface; the first has no meaning here and the second
        would save nothing that matters in networks of this size.
        """
        if output_fmt != "NCHW":
            raise ConfigError(f"output_fmt={output_fmt!r}: CIFAR networks give 'NCHW' maps only")
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        outputs = self.forward_stages(x)
        maps = [outputs.stages[i] for i in taken]
        return maps if intermediates_only else (outputs.final, maps)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Keep every layer (a pruned CIFAR network would gain nothing) and say which stages ``indices`` name."""
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        if prune_head:
            self.reset_classifier(0)
        return list(taken)


def build(network: Callable[..., CifarNetwork], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    """Create a CIFAR network through timm, so that ``features_only``, ``num_classes`` and friends work as usual."""
    if pretrained:
        raise ConfigError(
            f"{variant}: no pretrained weights are distributed for CIFAR networks; "
            "train it here, or give a file as checkpoint"
        )
    return build_model_with_cfg(network, variant, False, feature_cfg={"feature_cls": "getter"}, **kwargs)


def default_cfg() -> dict[str, Any]:
    return {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "fixed_input_size": False,
        "mean": CIFAR100_MEAN,
        "std": CIFAR100_STD,
        "first_conv": CifarNetwork.first_conv,
        "classifier": CifarNetwork.classifier,
    }


def relu(x: Tensor) -> Tensor:
    """Out of place on purpose: the pre-activation must outlive it."""
    return torch.relu(x)
