"""Configurations of the points of a grid. Needs no torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import task_part, with_names
from kd_bench.errors import ConfigError
from kd_bench.runs.studies.written import Shared, Written

_CHOICE = re.compile(r"([A-Za-z_]\w*|hydra[./][\w./]+)=.*", re.DOTALL)
_ADDED = re.compile(r"\+[A-Za-z_]\w*(\.\w+)+=.*", re.DOTALL)
_VALUE = re.compile(r"(?!hydra\.)(seed|[A-Za-z_]\w*(\.\w+)+)=.*", re.DOTALL)


@dataclass(frozen=True)
class _Choices:
    """A composition: the task's part, the same with its names unless that is impossible, and Hydra's part."""

    task: Shared
    hydra: HydraConf | None
    named: Shared | None


class Composer:
    """Composes the points of a grid; those with the same choices share a composition and have values of their own.

    Hydra sets values after it has put the chosen files together, and resolves interpolations later still, so that both
    ways give the same configuration. Where an override is neither a choice nor a plain value, the point is composed by
    itself.

    Args:
        compose: returns the configuration of a point, Hydra's part included.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig]) -> None:
        self._compose = compose
        self._shared: dict[tuple[str, ...], _Choices] = {}

    def __call__(self, overrides: list[str]) -> Written:
        """Return the configuration of a point, as a task sees it.

        Raises:
            HydraException, OmegaConfBaseException: it cannot be composed.
        """
        values = [override for override in overrides if _VALUE.fullmatch(override)]
        chosen = [override for override in overrides if override not in values]
        if not _apart(chosen, values):
            values, chosen = [], overrides
        if tuple(chosen) not in self._shared:
            self._shared[tuple(chosen)] = _choices(self._compose(chosen))
        choices = self._shared[tuple(chosen)]
        HydraConfig.instance().cfg = choices.hydra
        parsed = [_parsed(value) for value in values]
        if choices.named is not None:
            plain = [(override.key_or_group, override.value()) for override in parsed]
            if all(_may_be_set_later(choices.task, key, value) for key, value in plain):
                return Written(choices.named, tuple(plain))
        cfg = choices.task.cfg.copy()
        ConfigLoaderImpl._apply_overrides_to_config(parsed, cfg)
        return Written(Shared(with_names(cfg)))


def _choices(whole: DictConfig) -> _Choices:
    task = task_part(whole)
    try:
        named = Shared(with_names(task.copy()))
    except (ConfigError, OmegaConfBaseException):  # a value may take the place of what is wrong
        named = None
    return _Choices(Shared(task), HydraConfig.instance().cfg, named)


def _may_be_set_later(task: Shared, key: str, value: Any) -> bool:
    """Return whether a value and what it replaces are plain, and no name depends on it."""
    if isinstance(value, dict | list) or (isinstance(value, str) and ("${" in value or value == "???")):
        return False
    node: Any = task.written
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return not isinstance(node, dict | list) and not task.refers_to(key, within="names")


def _apart(chosen: list[str], values: list[str]) -> bool:
    """Return whether values may be set after choices: every override is one or the other, on a key of its own.

    What is added under a key that no value touches stays with the choices.
    """
    keys = {override.partition("=")[0] for override in chosen}
    return (
        not keys & {"paths", "names"}
        and all(_is_choice(override) or _is_added_beside(override, values) for override in chosen)
        and not any(_parsed(override).is_sweep_override() for override in values)
    )


def _is_choice(override: str) -> bool:
    return bool(_CHOICE.fullmatch(override)) and not isinstance(_parsed(override).value(), dict)


def _is_added_beside(override: str, values: list[str]) -> bool:
    """Return whether an override adds a key that neither holds nor lies in the key of a value."""
    if not _ADDED.fullmatch(override) or _parsed(override).is_sweep_override():
        return False
    added = override[1:].partition("=")[0] + "."
    keys = [value.partition("=")[0] + "." for value in values]
    return not any(added.startswith(key) or key.startswith(added) for key in keys)


@lru_cache(maxsize=10_000)
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)
