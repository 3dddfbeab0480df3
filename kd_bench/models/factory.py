"""timm's factory is the one factory: any name it knows, the CIFAR networks included, is a teacher or a student."""

from typing import Any

import timm
import torch
from torch import nn

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, nearest
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks
from kd_bench.models.features import FeatureTap


def check_name(key: str, name: str) -> None:
    """Raise ConfigError with the nearest names unless timm can build ``name``."""
    if not timm.is_model(name):
        hint = nearest(name.split(".")[0], timm.list_models())
        raise ConfigError(f"{key}={name!r}: no such network{hint} (`kd-bench list models` shows all)")
    tag = name.partition(".")[2]
    if tag and name not in timm.list_models(f"{name.split('.')[0]}*", pretrained=True):
        raise ConfigError(f"{key}={name!r}: {name.split('.')[0]} has no pretrained weights tagged {tag!r}")


def create_tap(
    key: str, name: str, spec: DataSpec, seed: int, pretrained: bool = False, kwargs: dict[str, Any] | None = None
) -> FeatureTap:
    """Build a network for a data set, freshly initialised from ``seed`` alone.

    Args:
        key: the configuration group, for error messages: ``student`` or ``teacher``.
        pretrained: take timm's weights and their input normalization instead of the data set's.
        kwargs: further arguments of the network.

    Raises:
        ConfigError: unknown name, unusable arguments, or a network that cannot take these images.
    """
    check_name(f"{key}.name", name)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            network: nn.Module = timm.create_model(
                name, pretrained=pretrained, num_classes=spec.num_classes, **(kwargs or {})
            )
        except (TypeError, ValueError, AssertionError, RuntimeError) as error:
            raise ConfigError(f"{key}.name={name!r} with {key}.kwargs={kwargs or {}}: {error}") from error
    if not pretrained:
        return FeatureTap(name, network, spec, spec.mean, spec.std)
    expected: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    return FeatureTap(name, network, spec, expected["mean"], expected["std"])
