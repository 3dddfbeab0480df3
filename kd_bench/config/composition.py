"""Hydra's composition outside of its own application, and texts in its grammar. Imports nothing heavy."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, flag_override

from kd_bench.config.interpolations import check_interpolations
from kd_bench.config.networks import GROUPS, NETWORKS, register
from kd_bench.config.paths import CONF

register()


_FURTHER: list[str] = []


def choose_from(folder: Path) -> None:
    """Let this process find choices in a folder of the user's own too, once ``check_folder`` has looked at it."""
    _FURTHER.append(str(folder.resolve()))


def folders_of_choices() -> list[Path]:
    """Return the shipped folder of choices and those of the user."""
    return [CONF, *map(Path, _FURTHER)]


def file_of(group: str, choice: str) -> Path:
    """Return the file of a choice; there is one, shipped or the user's."""
    return next(path for folder in folders_of_choices() if (path := folder / group / f"{choice}.yaml").is_file())


@contextmanager
def composing(folder: Path = CONF) -> Iterator[None]:
    """Let Hydra find primary configurations in ``folder`` for as long as the context lasts."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(folder), version_base="1.3"):
        if _FURTHER:
            search = create_config_search_path(str(folder))
            for further in _FURTHER:
                search.prepend("command-line", f"file://{further}", anchor=SearchPathQuery(provider="schema"))
            GlobalHydra.instance().clear()
            Hydra.create_main_hydra2("kd-bench", search)
        yield


def composed(name: str, overrides: list[str]) -> DictConfig:
    """Compose what ``kd-bench train`` would hand to its task; call it within ``composing``."""
    return as_task_sees(hydra.compose(name, overrides=overrides, return_hydra_config=True))


def as_task_sees(whole: DictConfig) -> DictConfig:
    """Take Hydra's part out of a composed configuration; ``names`` and ``HydraConfig`` keep what they need of it.

    Raises:
        ConfigError: its text would bring in what must not be stored.
    """
    return with_names(task_part(whole))


def task_part(whole: DictConfig) -> DictConfig:
    """Return a copy of a composed configuration without Hydra's part, which goes to ``HydraConfig``."""
    HydraConfig.instance().set_config(whole)
    cfg = whole.copy()
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        del cfg["hydra"]
    return cfg


def with_names(cfg: DictConfig) -> DictConfig:
    """Replace in ``cfg`` the names that depend on Hydra's part; return it.

    Raises:
        ConfigError: its text would bring in what must not be stored.
    """
    check_interpolations(OmegaConf.to_container(cfg, resolve=False))
    OmegaConf.resolve(cfg.names)
    return cfg


def choices(group: str, folders: Iterable[Path] = (CONF,)) -> list[str]:
    """List the choices of a configuration group. Files whose names start with an underscore are parts of others."""
    files = (path.stem for folder in folders for path in (folder / group).glob("[!_]*.yaml"))
    return sorted([*files, *(NETWORKS if group in GROUPS else ())])


def quoted(text: str) -> str:
    """Quote ``text`` for Hydra's override grammar, in which commas, equal signs and brackets have a meaning."""
    # Backslashes in front of a quote, the last one included, stand for half as many.
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"
