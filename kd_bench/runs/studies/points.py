"""Configurations of the points of a grid. Needs no torch."""

import re
from collections.abc import Callable

from omegaconf import DictConfig

from kd_bench.config.composition import as_task_sees

_SEED = re.compile(r"seed=(0|[1-9]\d*)")


class Composer:
    """Composes the points of a grid; those that differ in their seeds alone share one composition.

    Args:
        compose: returns the configuration of a point, Hydra's part included.
    """

    def __init__(self, compose: Callable[[list[str]], DictConfig]) -> None:
        self._compose = compose
        self._shared: dict[tuple[str, ...], DictConfig] = {}

    def __call__(self, overrides: list[str]) -> DictConfig:
        """Return the configuration of a point, as a task sees it.

        Raises:
            HydraException, OmegaConfBaseException: it cannot be composed.
        """
        kind = tuple("seed" if _SEED.fullmatch(override) else override for override in overrides)
        if kind not in self._shared:
            self._shared[kind] = self._compose(overrides)
        whole = self._shared[kind]
        for seed in filter(None, map(_SEED.fullmatch, overrides)):
            whole.seed = int(seed[1])  # a plain value: the same as composing with it
        return as_task_sees(whole)
