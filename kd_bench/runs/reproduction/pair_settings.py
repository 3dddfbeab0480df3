"""Values published for single pairs of networks: ``results/published/pair_settings.yaml``, checked."""

import json
from functools import cache
from typing import Any

from omegaconf import OmegaConf
from pydantic import BaseModel, ConfigDict

from kd_bench.config.paths import PUBLISHED


class PairSettings(BaseModel):
    """Values of one method: ``pairs`` has them by data set, by ``TEACHER--STUDENT`` as published, and by key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str
    pairs: dict[str, dict[str, dict[str, Any]]]


@cache
def all_pair_settings() -> dict[str, PairSettings]:
    """Read the file, once; return what it has by our name of the method."""
    content: Any = OmegaConf.to_container(OmegaConf.load(PUBLISHED / "pair_settings.yaml"))
    return {method: PairSettings.model_validate(entry) for method, entry in content["methods"].items()}


def pair_overrides(method: str, dataset: str, pair: str) -> tuple[str, ...]:
    """Return the values of a pair as overrides of ``kd-bench train``; none where none are published."""
    if method not in (known := all_pair_settings()):
        return ()
    values = known[method].pairs.get(dataset, {}).get(pair, {})
    return tuple(f"method.{key}={json.dumps(value, separators=(',', ':'))}" for key, value in values.items())
