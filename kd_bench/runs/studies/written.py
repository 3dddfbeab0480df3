"""Configurations of many runs, written as what runs share and the values in which they differ. Needs no torch."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf

from kd_bench.config.check import resolved
from kd_bench.config.interpolations import leaves
from kd_bench.config.schema import Node

_NAMES = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")


class Shared:
    """A configuration that many runs share, as a task sees it; neither it nor what is made of it may be changed."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg

    def __getstate__(self) -> dict[str, DictConfig]:
        return {"cfg": self.cfg}  # another process makes the rest anew

    @cached_property
    def written(self) -> Node:
        """The configuration in plain containers, interpolations as they are written."""
        return _plain(self.cfg)

    @cached_property
    def resolved(self) -> Node:
        """The configuration in plain containers, interpolations resolved.

        Raises:
            ConfigError: a value is missing or cannot be resolved.
        """
        return resolved(self.cfg)

    def refers_to(self, key: str, within: str = "") -> bool:
        """Return whether an interpolation may take its value from ``key``.

        Args:
            within: looks only at interpolations in this section; all sections where it is empty.
        """
        return any(_overlap(key, name) for section, name in self._references if section == within or not within)

    @cached_property
    def _references(self) -> set[tuple[str, str]]:
        """Sections with interpolations, and every name in these; a relative one may mean any key, which is ''."""
        texts = [(key, text) for key, text in leaves(self.written) if isinstance(text, str) and "${" in text]
        return {(re.split(r"[.\[]", key)[0], name) for key, text in texts for name in _named(text)}


@dataclass(frozen=True, eq=False)
class Written:
    """The configuration of one run.

    Attributes:
        values: dotted keys, all of which ``shared`` has, and plain values; a later one counts.
    """

    shared: Shared
    values: tuple[tuple[str, Any], ...] = ()

    @property
    def cfg(self) -> DictConfig:
        """The composed configuration."""
        if not self.values:
            return self.shared.cfg
        cfg = self.shared.cfg.copy()
        for key, value in self.values:
            OmegaConf.update(cfg, key, value)
        return cfg

    def but(self, key: str, value: Any) -> "Written":
        """Return the configuration with another value."""
        return Written(self.shared, (*self.values, (key, value)))

    def written(self) -> Node:
        """Return the configuration in plain containers, interpolations as they are written."""
        return self._filled(self.shared.written)

    def resolved(self) -> Node:
        """Return the configuration in plain containers, interpolations resolved.

        Raises:
            ConfigError: a value is missing or cannot be resolved.
        """
        if not self.values or self._is_complete_without_values():
            return self._filled(self.shared.resolved)
        return resolved(self.cfg)

    def _is_complete_without_values(self) -> bool:
        return not any(value == "???" for _, value in leaves(self.shared.written)) and not any(
            self.shared.refers_to(key) for key, _ in self.values
        )

    def _filled(self, node: Node) -> Node:
        """Return a copy of ``node`` with the values; what holds none of them is not copied."""
        for key, value in self.values:
            node = _with(node, key.split("."), value)
        return node


def _with(node: Node, path: list[str], value: Any) -> Node:
    return {**node, path[0]: _with(node[path[0]], path[1:], value) if len(path) > 1 else value}


def _named(text: str) -> Iterator[str]:
    if "${." in text:
        yield ""
    yield from _NAMES.findall(text)


def _overlap(key: str, name: str) -> bool:
    return not name or f"{key}.".startswith(f"{name}.") or f"{name}.".startswith(f"{key}.")


def _plain(cfg: DictConfig) -> Node:
    container = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(container, dict)
    return {str(key): value for key, value in container.items()}
