"""Modules of the user's own, which bring methods and data sets. They run as code, once ``plugins`` names them."""

import importlib
import os
import sys
from pathlib import Path

from kd_bench.config.former import resolve_former_names
from kd_bench.errors import ConfigError

_FOLDERS: list[str] = []


def look_in(folder: str | Path) -> None:
    """Look for plugins in a folder of configurations and in the one that holds it, as soon as one is named.

    Until then neither is on ``sys.path``: packages in them would be found by others, such as Hydra with its plugins.
    """
    if (path := os.path.abspath(folder)) not in _FOLDERS:
        _FOLDERS.append(path)


def looked_in() -> list[str]:
    """Return the folders that ``look_in`` was given, for processes that know nothing of them."""
    return list(_FOLDERS)


def load_plugins(plugins: list[str]) -> None:
    """Import the modules that the user named; they may use former names of ours.

    They are looked for in the working directory and in the folders of configurations too.

    Raises:
        ConfigError: a module is missing or fails at import; the message has its own reason.
    """
    if not plugins:
        return
    resolve_former_names()
    places = [os.getcwd(), *(place for folder in _FOLDERS for place in (folder, os.path.dirname(folder)))]
    sys.path.extend(place for place in dict.fromkeys(places) if place not in sys.path)
    for name in plugins:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever a foreign module may raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ConfigError(f"plugins: {name!r} cannot be imported: {reason}") from error
