"""The fingerprint of a run: a hash of what determines its numbers, and nothing else."""

import hashlib
import importlib
import inspect
import json
from typing import Any

from kd_bench.config import RunConfig

# Device, threads and intervals do not change results; the rest of `trainer` does.
_TRAINER_SWITCHES = ("precision", "channels_last")
_LENGTH = 16


def determining(config: RunConfig) -> dict[str, Any]:
    """The part of a configuration that determines the numbers of a run.

    Left out: paths, logger, study, device and intervals. The teacher is represented by the hash of its weights
    elsewhere, so how it came to be is left out too.
    """
    dump = config.model_dump()
    trainer = {name: dump["trainer"][name] for name in _TRAINER_SWITCHES}
    kept = {name: dump[name] for name in ("dataset", "student", "method", "recipe", "seed", "names")}
    return {**kept, "trainer": trainer, "teacher": config.teacher.name, "plugins": _plugin_hashes(config.plugins)}


def fingerprint(config: RunConfig, data_sha256: str, weights_sha256: list[str | None], generation: int) -> str:
    """16 hexadecimal digits that name the run directory and the tracked run.

    Args:
        data_sha256: content hash of the data set.
        weights_sha256: of the networks that the run learns from or is compared with.
        generation: position in a chain of runs; the initialisation depends on it.
    """
    content = {"config": determining(config), "data": data_sha256, "weights": weights_sha256, "generation": generation}
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_LENGTH]


def _plugin_hashes(plugins: list[str]) -> dict[str, str]:
    """A plugin's code has no version of its own: its source is hashed, so that an edited method is another run."""
    sources = {name: inspect.getsource(importlib.import_module(name)) for name in plugins}
    return {name: hashlib.sha256(source.encode()).hexdigest() for name, source in sources.items()}
