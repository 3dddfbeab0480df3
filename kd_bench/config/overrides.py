"""Configurations composed outside of Hydra's own application. Needs no torch."""

from pathlib import Path

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from kd_bench.config.composition import composed, composing
from kd_bench.config.explain import explain
from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError


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
        raise ConfigError(explain(error, overrides)) from error


def composed_choices(overrides: list[str]) -> DictConfig:
    """The configuration of one run, from overrides that a program wrote; ``compose_run`` explains those of people.

    Raises:
        ConfigError: an override that Hydra does not take.
    """
    try:
        with composing():
            return composed("train", overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(str(error).splitlines()[0]) from error
