"""Configurations of the points of a grid. Needs no torch."""

import re
from collections.abc import Callable
from functools import lru_cache

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from kd_bench.config.composition import task_part, with_names

_CHOICE = re.compile(r"([A-Za-z_]\w*|hydra[./][\w./]+)=.*", re.DOTALL)
_VALUE = re.compile(r"(?!hydra\.)(seed|[A-Za-z_]\w*(\.\w+)+)=.*", re.DOTALL)


class Composer:
    """Composes the points of a grid; those with the same choices share a composition and set their values in a copy.

    Hydra sets values after it has put the chosen files together, and resolves interpolations later still, so that both
    ways give the same configuration. Where an override is neither a choice nor a plain value, the point is composed by
    itself.

    Args:
        compose: returns the configuration of a point, Hydra's part included.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig]) -> None:
        self._compose = compose
        self._shared: dict[tuple[str, ...], tuple[DictConfig, HydraConf | None]] = {}

    def __call__(self, overrides: list[str]) -> DictConfig:
        """Return the configuration of a point, as a task sees it.

        Raises:
            HydraException, OmegaConfBaseException: it cannot be composed.
        """
        values = [override for override in overrides if _VALUE.fullmatch(override)]
        chosen = [override for override in overrides if override not in values]
        if not _apart(chosen, values):
            values, chosen = [], overrides
        if tuple(chosen) not in self._shared:
            task = task_part(self._compose(chosen))
            self._shared[tuple(chosen)] = task, HydraConfig.instance().cfg
        task, HydraConfig.instance().cfg = self._shared[tuple(chosen)]
        cfg = task.copy()
        ConfigLoaderImpl._apply_overrides_to_config([_parsed(value) for value in values], cfg)
        return with_names(cfg)


def _apart(chosen: list[str], values: list[str]) -> bool:
    """Return whether values may be set after choices: every override is one or the other, on a key of its own."""
    keys = {override.partition("=")[0] for override in chosen}
    return (
        not keys & {"paths", "names"}
        and all(_CHOICE.fullmatch(override) and not isinstance(_parsed(override).value(), dict) for override in chosen)
        and not any(_parsed(override).is_sweep_override() for override in values)
    )


@lru_cache(maxsize=10_000)
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)
