"""The factory of networks, which is timm's: any name it knows, the CIFAR networks included, is a teacher or student."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from huggingface_hub import constants
from torch import nn

from kd_bench.config.schema import MemberConfig, StudentConfig
from kd_bench.data.batch import DataSpec
from kd_bench.data.reading.download import CONNECT_SECONDS
from kd_bench.errors import ConfigError, IntegrityError, KDBenchError, nearest
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks
from kd_bench.models.features import FeatureTap
from kd_bench.models.weights import load_start, read_weights


def check_name(key: str, name: str) -> None:
    """Raise ConfigError with the nearest names unless timm can build ``name``."""
    if not timm.is_model(name):
        hint = nearest(name.split(".")[0], timm.list_models())
        raise ConfigError(f"{key}={name!r}: no such network{hint} (`kd-bench list models` shows all)")
    tag = name.partition(".")[2]
    if tag and name not in timm.list_models(f"{name.split('.')[0]}*", pretrained=True):
        raise ConfigError(f"{key}={name!r}: {name.split('.')[0]} has no pretrained weights tagged {tag!r}")


def create_tap(key: str, config: MemberConfig | StudentConfig, spec: DataSpec, seed: int, load: bool) -> FeatureTap:
    """Build a network for a data set, initialised from ``seed`` alone.

    A network that cannot take images of the data set's size, such as a ViT for 224x224, gets them resized to the size
    that it was designed for, unless ``input_size`` says otherwise. Networks that
    start from other weights, by ``pretrained`` or ``init``, normalise as timm says.

    Args:
        key: the configuration group, for error messages: ``student`` or ``teacher``.
        load: whether to load the weights that training starts from, if there are any.

    Raises:
        ConfigError: the name is unknown, the arguments are unusable, or the network cannot take these images.
        IntegrityError: timm's weights cannot be fetched, or those of a file do not fit.
    """
    name, kwargs = config.name, config.kwargs
    check_name(f"{key}.name", name)
    if config.pretrained and load and not _reachable(constants.ENDPOINT):
        constants.HF_HUB_OFFLINE = True  # the hub would try again for a minute
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            network: nn.Module = timm.create_model(
                name, pretrained=config.pretrained and load, num_classes=spec.num_classes, **kwargs
            )
        except OSError as error:  # the hub cannot be reached and has nothing in its cache
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            if constants.HF_HUB_OFFLINE:
                other = f"{key}.pretrained=false"
                other += ", or teacher.checkpoint=FILE for weights of this data set" * (key == "teacher")
                reason = f"offline, and they are not in {constants.HF_HUB_CACHE}; {other}"
            raise IntegrityError(f"{key}.pretrained: the weights of {name} cannot be fetched: {reason}") from error
        except Exception as error:  # a network may raise anything for arguments that it cannot take
            raise _unusable(key, config, error) from error
    if load and config.init is not None:
        load_start(network, read_weights(Path(config.init).expanduser()), config.init)
    try:
        return _tap(key, config, network, spec)
    except KDBenchError:
        raise
    except Exception as error:
        raise _unusable(key, config, error) from error


def _unusable(key: str, config: MemberConfig | StudentConfig, error: Exception) -> ConfigError:
    bare = isinstance(error, LookupError) or not str(error)  # the message alone would say nothing
    reason = f"{type(error).__name__} {error}".rstrip() if bare else error
    return ConfigError(f"{key}.name={config.name!r} with {key}.kwargs={config.kwargs}: {reason}")


def _tap(key: str, config: MemberConfig | StudentConfig, network: nn.Module, spec: DataSpec) -> FeatureTap:
    """Make the tap of a network, for the images' own size or the one that it was designed for."""
    name, kwargs = config.name, config.kwargs
    mean, std = _normalization(network, spec, config)
    if config.input_size is not None:
        height, width = config.input_size
        try:
            return FeatureTap(name, network, spec, mean, std, (height, width))
        except ConfigError as error:
            if "img_size" in kwargs or not hasattr(network, "patch_embed"):
                raise
            raise ConfigError(
                f"{str(error).rstrip('.')}; transformers are built for a size: +{key}.kwargs.img_size={height}"
            ) from None
    try:
        return FeatureTap(name, network, spec, mean, std)
    except ConfigError as error:
        designed = _designed_size(network)
        try:
            return FeatureTap(name, network, spec, mean, std, designed)
        except ConfigError:
            raise error from None


@cache
def _reachable(url: str) -> bool:
    """Return whether a server answers, with whatever status or certificate."""
    try:
        urllib.request.build_opener().open(url, timeout=CONNECT_SECONDS).close()
    except (urllib.error.HTTPError, ssl.SSLError):
        return True
    except OSError as error:
        return isinstance(getattr(error, "reason", None), ssl.SSLError)
    return True


def _normalization(
    network: nn.Module, spec: DataSpec, config: MemberConfig | StudentConfig
) -> tuple[Sequence[float], Sequence[float]]:
    expected: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    mean, std = (expected["mean"], expected["std"]) if config.starts_elsewhere else (spec.mean, spec.std)
    return config.mean or mean, config.std or std


def _designed_size(network: nn.Module) -> tuple[int, int]:
    expected: dict[str, Any] = network.pretrained_cfg  # type: ignore[assignment]
    height, width = expected["input_size"][1:]
    return height, width
