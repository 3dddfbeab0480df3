"""Configurations composed outside of Hydra's own application. Needs no torch."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from kd_bench.errors import ConfigError
from kd_bench.paths import CONF


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


def refuse_doubles(folder: Path) -> None:
    """Refuse configurations of the names of shipped ones: which of the two ran would depend on who looks first.

    Raises:
        ConfigError: names the files.
    """
    if folder == CONF:
        return
    own = [path for path in sorted(folder.glob("*/*.yaml")) if (CONF / path.relative_to(folder)).is_file()]
    if own:
        names = ", ".join(str(path) for path in own)
        raise ConfigError(f"{names}: kd-bench ships a choice of that name; give yours another one")


def compose_run(overrides: list[str]) -> DictConfig:
    """The configuration of one run.

    Raises:
        ConfigError: an override that Hydra does not take.
    """
    try:
        with composing():
            return composed("train", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        from kd_bench.hydra_app import explain

        raise ConfigError(explain(error, overrides)) from error


def quoted(text: str) -> str:
    """``text`` as a value of Hydra's override grammar, in which commas, equal signs and brackets mean something."""
    # Backslashes in front of a quote, the last one included, stand for half as many.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"
