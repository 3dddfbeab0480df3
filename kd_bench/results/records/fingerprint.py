"""The fingerprint of a run: a hash of what determines its numbers, and nothing else."""

import hashlib
import importlib
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from kd_bench.config.schema import RunConfig

# These change numbers. So do device and thread count, in the last digits: they belong to the machine, stand in the
# record's `hardware`, and a run that moves to another machine stays the same run.
SWITCHES = ("precision", "channels_last")
_LENGTH = 16


def determining(config: RunConfig, plugins: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the part of a configuration that determines the numbers of a run.

    Left out: paths, logger, study, kind of device and intervals. The teacher is represented by the hash of its weights
    elsewhere, so how it came to be is left out too. A search changes no number, but a record that was written without
    one must not stand for a tuned one.

    Args:
        plugins: hashes of the plugins' sources; without them the plugins are imported and hashed.
    """
    dump = config.recorded()
    trainer = {name: dump["trainer"][name] for name in SWITCHES}
    if config.trainer.compile != "none":
        trainer["compile"] = config.trainer.compile
    if config.trainer.devices > 1:  # each normalises its batches for itself
        trainer["devices"] = config.trainer.devices
    if callbacks := dump["trainer"].get("callbacks"):
        trainer["callbacks"] = list(callbacks.values())
    kept = {name: dump[name] for name in ("dataset", "student", "method", "recipe", "stage_pairs", "seed", "names")}
    if config.tuning.trials:
        kept["tuning"] = dump["tuning"]
    sources = plugin_hashes(config.plugins) if plugins is None else dict(plugins)
    return {**kept, "trainer": trainer, "teacher": _teacher(config), "plugins": sources}


def _teacher(config: RunConfig) -> list[Any]:
    """Describe what a teacher makes of its weights: which networks have them, how these are run and averaged."""
    keys = ("name", "kwargs", "pretrained", "input_size", "mean", "std", "weight")
    networks = [
        {key: getattr(network, key) for key in keys}
        | ({} if network.init_sha256 is None else {"init_sha256": network.init_sha256})
        for network in config.teacher.networks()
    ]
    return [config.teacher.name, config.teacher.average, networks]


def fingerprint(config: RunConfig, data_sha256: str, weights_sha256: list[list[str]], generation: int) -> str:
    """Return 16 hexadecimal digits that name the run directory and the tracked run.

    Args:
        data_sha256: content hash of the data set.
        weights_sha256: hashes of the networks of the pair's teacher, and of those that earlier runs left.
        generation: position in a chain of runs; the initialisation depends on it.
    """
    return fingerprint_of(numbers_as_floats(determining(config)), data_sha256, weights_sha256, generation)


def fingerprint_of(
    determined: dict[str, Any], data_sha256: str, weights_sha256: list[list[str]], generation: int
) -> str:
    """Return the fingerprint where the determining part is at hand, its numbers as floats; runs of a cell share it."""
    content = {
        "config": determined,
        "data": data_sha256,
        "weights": weights_sha256,
        "generation": numbers_as_floats(generation),
    }
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def plugin_hashes(plugins: list[str]) -> dict[str, str]:
    """Hash the source of each plugin, which has no version of its own: an edited method is another run."""
    return {name: _source_hash(importlib.import_module(name)) for name in plugins}


@lru_cache  # the code that runs is what was imported, even if its file is edited meanwhile
def _source_hash(module: ModuleType) -> str:
    """Hash a module's file, or all Python files of a package."""
    packages = [Path(path) for path in getattr(module, "__path__", ())]
    files = sorted(file for package in packages for file in package.rglob("*.py"))
    if not packages and module.__file__:
        files = [Path(module.__file__)]
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name};".encode() + file.read_bytes())
    return digest.hexdigest()


def numbers_as_floats(value: Any) -> Any:
    """Make ``temperature=4`` and ``temperature=4.0`` the same run."""
    if isinstance(value, dict):
        return {name: numbers_as_floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [numbers_as_floats(each) for each in value]
    exact = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= 2**53
    return float(value) if exact else value
