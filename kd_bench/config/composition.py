"""Hydra's composition outside of its own application, and texts in its grammar. Imports nothing heavy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

from kd_bench.config.interpolations import check_interpolations
from kd_bench.config.networks import GROUPS, NETWORKS, register
from kd_bench.config.paths import CONF

register()


@contextmanager
def composing(folder: Path = CONF) -> Iterator[None]:
    """Let Hydra find primary configurations in ``folder`` for as long as the context lasts."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        yield


def composed(name: str, overrides: list[str]) -> DictConfig:
    """Compose what ``kd-bench train`` would hand to its task; call it within ``composing``."""
    return as_task_sees(hydra.compose(name, overrides=overrides, return_hydra_config=True))


def as_task_sees(whole: DictConfig) -> DictConfig:
    """Take Hydra's part out of a composed configuration; ``names`` and ``HydraConfig`` keep what they need of it.

    Raises:
        ConfigError: its text would bring in what must not be stored.
    """
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        del cfg["hydra"]
    check_interpolations(OmegaConf.to_container(cfg, resolve=False))
    OmegaConf.resolve(cfg.names)
    return cfg


def choices(group: str) -> list[str]:
    """List the choices of a configuration group. Files whose names start with an underscore are parts of others."""
    files = (path.stem for path in (CONF / group).glob("[!_]*.yaml"))
    return sorted([*files, *(NETWORKS if group in GROUPS else ())])


def quoted(text: str) -> str:
    """Quote ``text`` for Hydra's override grammar, in which commas, equal signs and brackets have a meaning."""
    # Backslashes in front of a quote, the last one included, stand for half as many.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"
