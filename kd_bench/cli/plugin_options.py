"""The option ``--config-dir``: a folder of the user's own with further choices, and plugins beside them."""

import argparse
from pathlib import Path

from kd_bench.errors import ConfigError


def add_config_dir(parser: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    parser.add_argument(
        "--config-dir",
        type=Path,
        metavar="DIR",
        help="a folder with further choices, such as method/my_kd.yaml; its code runs if plugins=[my_kd] names it",
    )


def use_config_dir(options: argparse.Namespace) -> None:
    """Look at the folder, and let this process find its choices and the plugins that are named.

    Raises:
        ConfigError: there is no such folder, or a file in it is refused.
    """
    if (folder := options.config_dir) is None:
        return
    from kd_bench.config.composition import choose_from
    from kd_bench.config.folders import check_folder
    from kd_bench.config.plugins import look_in

    if not folder.is_dir():
        raise ConfigError(f"--config-dir={folder}: there is no such folder")
    check_folder(folder)
    choose_from(folder)
    look_in(folder)
