"""The pairs of many runs, each built once. Needs torch."""

import copy
import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kd_bench.config.check import check_resolved
from kd_bench.config.ranges import Seed
from kd_bench.config.schema import MemberConfig, RunConfig, StudentConfig
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.factory import create_tap
from kd_bench.models.features import FeatureTap
from kd_bench.runs.lineage import complete
from kd_bench.runs.studies.written import Shared, Written
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import Pair, build

_SEED: TypeAdapter[int] = TypeAdapter(Seed)
NETWORKS_KEPT = 8  # with their weights; pairs that share them are mostly neighbours in a grid


@dataclass(frozen=True)
class Checked:
    """A run, and its objects without the networks but for a student that has no weights."""

    written: Written
    config: RunConfig
    pair: Pair

    @cached_property
    def key(self) -> str:
        """The name of the run within its study."""
        return key_of(self.config.recorded())


class Pairs:
    """Builds the pair of each run, once for all its seeds, and each of its networks once for all pairs.

    Args:
        device_here: whether this machine is the one that will train.
    """

    def __init__(self, device_here: bool = True) -> None:
        self._device_here = device_here
        self._built: dict[str, Pair | str] = {}
        self._networks: dict[str, FeatureTap] = {}
        self._seeds: dict[tuple[Any, ...], tuple[Shared, RunConfig, str]] = {}  # one run of each set of seeds

    def checked(self, written: Written) -> Checked:
        """Check a run and build its objects.

        Raises:
            ConfigError: the run is refused.
        """
        config, kind = self._config(written)
        if kind not in self._built:
            self._built[kind] = self._pair_or_why_not(config)
        pair = self._built[kind]
        if isinstance(pair, str):
            raise ConfigError(pair)
        return Checked(written, config, pair)

    def _config(self, written: Written) -> tuple[RunConfig, str]:
        """Return the configuration of a run, and the name of its pair. What differs in the seed is checked once."""
        values = dict(written.values)
        seed = values.pop("seed", None)
        alike = (id(written.shared), json.dumps(values))
        if alike in self._seeds and _is_seed(seed) and not written.shared.refers_to("seed"):
            _, config, kind = self._seeds[alike]
            return config.model_copy(update={"seed": seed}), kind
        config = complete(check_resolved(written.resolved()))
        kind = key_of(config.model_copy(update={"seed": 0}).recorded())
        self._seeds[alike] = written.shared, config, kind
        return config, kind

    def _pair_or_why_not(self, config: RunConfig) -> Pair | str:
        try:
            with torch_threads(1):  # networks see two images: other threads would cost more than they give
                pair = build(config, self._device_here, create=self._network)
        except ConfigError as error:
            return str(error)
        pair.method.to("meta")
        return replace(pair, student=_without_weights(pair.student), teacher=None, previous=[], source=None)

    def _network(
        self, key: str, config: MemberConfig | StudentConfig, spec: DataSpec, seed: int, load: bool
    ) -> FeatureTap:
        """Return a network as ``create_tap`` does, except for the seed of its weights."""
        kind = key_of(key, config.model_dump(), asdict(spec), load)
        tap = self._networks.pop(kind, None) or create_tap(key, config, spec, seed, load)
        self._networks[kind] = tap
        while len(self._networks) > NETWORKS_KEPT:
            del self._networks[next(iter(self._networks))]
        tap.requires_grad_(True)  # methods freeze what they replace
        return copy.copy(tap)  # and a pair notes its pairing of stages on its student


def _is_seed(value: Any) -> bool:
    try:
        _SEED.validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def _without_weights(tap: FeatureTap) -> FeatureTap:
    """Return what a tap knows of its network, without the network."""
    empty = copy.copy(tap)
    empty._modules, empty._buffers = {}, {}
    return empty


def key_of(*parts: object) -> str:
    """Return a name of 16 hexadecimal digits for ``parts``, which JSON has to be able to hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
