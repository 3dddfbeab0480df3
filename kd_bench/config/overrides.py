"""Configurations of runs, composed from overrides. Needs no torch."""

from collections.abc import Callable

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import composed, composing
from kd_bench.config.explain import explain
from kd_bench.errors import ConfigError


def compose_run(overrides: list[str]) -> DictConfig:
    """Compose the configuration of one run.

    Raises:
        ConfigError: Hydra does not take an override; the message explains why.
    """
    return _composed(overrides, explain)


def composed_choices(overrides: list[str]) -> DictConfig:
    """Compose the configuration of one run from overrides that a program wrote, whose errors need no explanation.

    Raises:
        ConfigError: Hydra does not take an override.
    """
    return _composed(overrides, lambda error, _: str(error).splitlines()[0])


def _composed(overrides: list[str], message: Callable[[Exception, list[str]], str]) -> DictConfig:
    try:
        with composing():
            return composed("train", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(message(error, overrides)) from error
