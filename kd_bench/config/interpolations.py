"""Interpolations that a configuration may contain.

Values are stored in records, sent to trackers and printed, so nothing may bring secrets into them. Text is checked
before anything resolves it, and no message shows a resolved value.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from kd_bench.errors import ConfigError

# Where a data set lies, how it came there and how much of it is held in memory say nothing about its content, and a
# cache changes no number; such values are neither recorded nor part of a fingerprint.
UNRECORDED = (
    *(f"dataset.source.{name}" for name in ("root", "cache", "download", "in_memory_bytes")),
    "dataset.groups",
    "trainer.cache",
    "trainer.cache_gb",
    "trainer.checkpoint_seconds",
    "trainer.profiler",
    "trainer.max_time",
)
# Names of Hydra's own folders, which are neither recorded nor shown on boards.
_FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
_PLAIN = re.compile(r"\$\{([A-Za-z_]\w*(?:\.\w+)*)\}")
_CHOICE = re.compile(
    r"\$\{hydra:runtime\.choices\.\w+\}|\$\{\.\.epochs\}"
)  # the latter: in a recipe, wherever it stands
_IN_FOLDERS = re.compile(r"\$\{(now:[^${}]*|hydra:[\w.]+|[A-Za-z_]\w*(\.\w+)*)\}")


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values of everything in a configuration that is neither a node nor a list."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from leaves(value, f"{key}[{position}]")
    else:
        yield key, node


def check_interpolations(container: Any, key: str = "") -> None:
    """Check the text of a configuration that nothing has resolved yet.

    Args:
        key: where the configuration stands in the whole one.

    Raises:
        ConfigError: names a value that would bring in more than another value does, as it is written.
    """
    for name, value in leaves(container, key):
        if isinstance(value, str) and "${" in value and not _is_harmless(name, value):
            raise ConfigError(
                f"{name}={value!r}: environment variables, paths and resolvers are allowed below paths only, "
                "since configurations are stored"
            )


def _is_harmless(key: str, value: str) -> bool:
    """Say whether a value may be resolved.

    Outside of ``paths`` an interpolation may only name another value in plain words, and neither a path nor what may
    hold one. The one resolver is that which gives the chosen files their names.
    """
    if key.startswith("paths.") or _CHOICE.fullmatch(value):
        return True
    if key in _FOLDERS:
        return len(_IN_FOLDERS.findall(value)) == value.count("${")
    plain = _PLAIN.findall(value)
    from_paths = key not in UNRECORDED and any(map(_may_hold_a_path, plain))
    from_hydra = not key.startswith("hydra.") and any(name.split(".")[0] == "hydra" for name in plain)
    return len(plain) == value.count("${") and not from_paths and not from_hydra


def _may_hold_a_path(name: str) -> bool:
    return name.split(".")[0] == "paths" or any(f"{key}.".startswith(f"{name}.") for key in UNRECORDED)
