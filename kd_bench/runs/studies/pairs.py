"""The pairs of many runs, each built once. Needs torch."""

import hashlib
import json
from dataclasses import dataclass

from omegaconf import DictConfig

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.errors import ConfigError
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import Pair, build


@dataclass(frozen=True)
class Checked:
    """A run and its objects, which have no weights."""

    cfg: DictConfig
    config: RunConfig
    pair: Pair


class Pairs:
    """Builds the pair of each run, once for all its seeds, and keeps it without weights: hundreds fit into memory.

    Args:
        device_here: whether this machine is the one that will train.
    """

    def __init__(self, device_here: bool = True) -> None:
        self._device_here = device_here
        self._built: dict[str, Pair | str] = {}

    def checked(self, cfg: DictConfig) -> Checked:
        """Check a run and build its objects.

        Raises:
            ConfigError: the run is refused.
        """
        config = check(cfg)
        kind = key_of(config.model_copy(update={"seed": 0}).recorded())
        if kind not in self._built:
            self._built[kind] = self._pair_or_why_not(config)
        pair = self._built[kind]
        if isinstance(pair, str):
            raise ConfigError(pair)
        return Checked(cfg, config, pair)

    def _pair_or_why_not(self, config: RunConfig) -> Pair | str:
        try:
            with torch_threads(1):  # networks see two images: other threads would cost more than they give
                pair = build(config, self._device_here)
        except ConfigError as error:
            return str(error)
        for part in (pair.student, pair.teacher, *pair.previous, pair.source, pair.method):
            if part is not None:
                part.to("meta")
        return pair


def key_of(*parts: object) -> str:
    """Return a name of 16 hexadecimal digits for ``parts``, which JSON has to be able to hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
