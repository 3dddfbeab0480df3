"""Hydra's composition outside of its own application, and texts in its grammar. Leads to nothing heavy."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

from kd_bench.config.paths import CONF


@contextmanager
def composing(folder: Path = CONF) -> Iterator[None]:
    """Let Hydra find primary configurations in ``folder``."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        yield


def composed(name: str, overrides: list[str]) -> DictConfig:
    """What ``kd-bench train`` hands to its task, within ``composing``."""
    return as_task_sees(hydra.compose(name, overrides=overrides, return_hydra_config=True))


def as_task_sees(whole: DictConfig) -> DictConfig:
    """A composed configuration without Hydra's part, to which ``names`` and ``HydraConfig`` refer."""
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    OmegaConf.resolve(cfg.names)
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        del cfg["hydra"]
    return cfg


def choices(group: str) -> list[str]:
    """The choices of a configuration group. What starts with an underscore is taken over by others."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def quoted(text: str) -> str:
    """``text`` as a value of Hydra's override grammar, in which commas, equal signs and brackets mean something."""
    # Backslashes in front of a quote, the last one included, stand for half as many.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"
