"""Verification of a run: computed again."""

import argparse
from pathlib import Path

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir
from kd_bench.errors import ConfigError

HELP = "Verify a run: hash its files, load its weights, compute predictions and metrics again, and train it again."
EXAMPLE = "kd-bench verify runs/demo/3d72eb2bdc1c9aba --retrain"


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a finished run."""
    parser.add_argument("directory", metavar="RUN", help="directory of a run, or its id")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where ids are (default: runs)")


def run_directory(options: argparse.Namespace) -> Path:
    """Find the run that the arguments of ``add_run`` name.

    Raises:
        ConfigError: there is no such finished run.
    """
    from kd_bench.results.records.record import RECORD_FILE

    places: list[Path] = [Path(options.directory), options.runs / options.directory]
    directory = next((place for place in places if (place / RECORD_FILE).is_file()), None)
    if directory is None:
        raise ConfigError(f"run {options.directory!r}: no finished run there, nor in {options.runs}")
    return directory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_run(parser)
    add_config_dir(parser)
    parser.add_argument("--retrain", action="store_true", help="train it again, in a temporary folder, and compare")
    parser.add_argument("overrides", nargs="*", help="paths.data=DIR, where the data are; plugins=[NAME] of the run")


def run(options: argparse.Namespace) -> int:
    """Print each step that holds and the tier that the run has shown; return the exit code."""
    directory = run_directory(options)
    use_config_dir(options)
    from kd_bench.results.text.escape import visible
    from kd_bench.runs.verify import verify

    tier = verify(
        directory.resolve(), options.overrides, options.retrain, lambda text: print(visible(text), flush=True)
    )
    print(f"{directory}: {tier}")
    return 0
