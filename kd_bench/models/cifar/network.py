"""The base of all CIFAR networks: timm's interface, with pre-activations on top.

Shapes: ``B`` batch, ``K`` classes, ``C, H, W`` map, ``D`` embedding.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from kd_bench.errors import ConfigError

# Channel means and deviations of CIFAR-100, as the published tables used them. A data set has its own in its YAML.
CIFAR100_MEAN, CIFAR100_STD = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
default_cfgs: dict[str, Any] = {}  # timm looks for the descriptions of networks under this name


class StageOutputs(NamedTuple):
    """Maps of one pass through the body of a network."""

    final: Tensor  # (B, C, H, W), which is pooled
    stages: list[Tensor]  # stem first, then each stage, shallow to deep
    pre_activations: list[Tensor] | None  # as stages, before the last ReLU


class CifarNetwork(nn.Module):
    """A network with a stem, stages, global average pooling and one linear classifier.

    A subclass sets ``feature_info`` and ``num_features``, makes its classifier under the key that the published weight
    files have, and gives ``forward_stages``. Pooling is global, so the input size is free; at 32x32 it equals the 8x8,
    4x4 or 2x2 average pooling of the published code.
    """

    # Keys, not attributes of these names: some networks have a module called `classifier`.
    first_conv_key: ClassVar[str] = "conv1"
    classifier_key: ClassVar[str] = "fc"

    num_features: int
    feature_info: list[dict[str, Any]]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    @property
    def head_hidden_size(self) -> int:
        """Size of the embedding, under timm's name for it."""
        return self.num_features

    def forward_stages(self, x: Tensor, pre_activations: bool = False, entered: int | None = None) -> StageOutputs:
        """Run the body on images ``x`` (B, 3, H, W), or behind the stage ``entered``, whose map ``x`` then is.

        The stages of the outputs begin with that map.
        """
        raise NotImplementedError

    def last_batch_norms(self) -> list[str | None]:
        """Name the batch norm of each stage whose output, plus the shortcut if any, is its pre-activation, or None."""
        return [None] * len(self.feature_info)

    def initialise_classifier(self, linear: nn.Linear) -> None:
        """Initialise a new classifier as the published code does, which mostly leaves the framework's default."""

    def _make_classifier(self, num_classes: int) -> nn.Module:
        if num_classes <= 0:
            return nn.Identity()
        linear = nn.Linear(self.num_features, num_classes)
        self.initialise_classifier(linear)
        return linear

    def get_classifier(self) -> nn.Module:
        """Return the linear classifier, or the identity where there is none."""
        return self.get_submodule(self.classifier_key)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a freshly initialised one; 0 classes leave the pooled vector."""
        if global_pool not in (None, "avg"):
            raise ConfigError(f"global_pool={global_pool!r} is not offered by CIFAR networks; allowed: 'avg'")
        self.num_classes = num_classes
        self.set_submodule(self.classifier_key, self._make_classifier(num_classes))

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Refuse what timm's interface asks for: gradient checkpointing."""
        if enable:
            raise ConfigError("gradient checkpointing is not offered by CIFAR networks")

    def forward_features(self, x: Tensor) -> Tensor:
        """Return the map (B, C, H, W) that is pooled."""
        return self.forward_stages(x).final

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Pool ``x`` (B, C, H, W) to (B, D) and, unless ``pre_logits``, classify it to (B, K)."""
        pooled = x.mean(dim=(2, 3))
        if pre_logits:
            return pooled
        logits: Tensor = self.get_classifier()(pooled)
        return logits

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
        """Return the stage maps of ``x`` as timm's networks do: a list, or (final map, list).

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
        self, indices: int | list[int] | None = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Keep every layer, since pruning would gain nothing here, and return which stages ``indices`` name."""
        taken, _ = feature_take_indices(len(self.feature_info), indices)
        if prune_head:
            self.reset_classifier(0)
        return list(taken)


def through_stages(stem: Tensor, stages: Iterable[nn.ModuleList], pre_activations: bool) -> StageOutputs:
    """Run stages of blocks that return their value before and after the last ReLU.

    The rectified ``stem`` comes first in both lists: the published lists of pre-activations hold it too.
    """
    x, maps, before = stem, [stem], [stem]
    for stage in stages:
        for block in stage:
            pre_activation, x = block(x)
        maps.append(x)
        before.append(pre_activation)
    return StageOutputs(x, maps, before if pre_activations else None)


def stage_info(channels: Sequence[int], reductions: Sequence[int], modules: Sequence[str]) -> list[dict[str, Any]]:
    """Make timm's ``feature_info``: width, stride and name of the stem and of each stage."""
    return [
        {"num_chs": count, "reduction": reduction, "module": module}
        for count, reduction, module in zip(channels, reductions, modules, strict=True)
    ]


def initialise_convolutions(network: nn.Module) -> None:
    """Draw weights from N(0, 2 / (kernel area * output channels)), as most published code does; biases are 0."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def register(network: type[CifarNetwork], variants: Mapping[str, dict[str, Any]]) -> None:
    """Enter ``variants`` (name to arguments of ``network``) into timm's registry."""
    described = {
        "url": "",
        "num_classes": 100,
        "input_size": (3, 32, 32),
        "pool_size": None,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "fixed_input_size": False,
        "mean": CIFAR100_MEAN,
        "std": CIFAR100_STD,
        "first_conv": network.first_conv_key,
        "classifier": network.classifier_key,
    }
    default_cfgs.update(generate_default_cfgs(dict.fromkeys(variants, described)))
    for variant, arguments in variants.items():
        register_model(_entrypoint(network, variant, arguments))


def _entrypoint(network: type[CifarNetwork], variant: str, arguments: dict[str, Any]) -> Callable[..., Any]:
    def create(pretrained: bool = False, **kwargs: Any) -> Any:
        return _build(network, variant, pretrained, **arguments, **kwargs)

    create.__name__ = create.__qualname__ = variant
    described = (f"{name} {getattr(value, '__name__', value)}" for name, value in arguments.items())
    create.__doc__ = f"{network.__name__} with {', '.join(described)}."
    return create


def _build(network: type[CifarNetwork], variant: str, pretrained: bool, **kwargs: Any) -> Any:
    """Create a CIFAR network through timm, so that ``features_only``, ``num_classes`` and friends work as usual."""
    if pretrained:
        raise ConfigError(
            f"{variant}: no pretrained weights are distributed for CIFAR networks; "
            "train it here, or give a file as checkpoint"
        )
    every_stage = {"feature_cls": "getter", "out_indices": None}
    return build_model_with_cfg(network, variant, False, feature_cfg=every_stage, **kwargs)


def relu(x: Tensor) -> Tensor:
    """Rectify out of place, since the pre-activation must outlive it."""
    return torch.relu(x)
