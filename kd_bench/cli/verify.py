"""A run, computed again."""

import argparse
from pathlib import Path

from kd_bench.errors import ConfigError

HELP = "Verify a run: hash its files, load its weights, compute predictions and metrics again, and train it again."
EXAMPLE = "kd-bench verify runs/demo/3d72eb2bdc1c9aba --retrain"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("directory", metavar="RUN", help="directory of a run, or its id")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where ids are (default: runs)")
    parser.add_argument("--retrain", action="store_true", help="train it again, in a temporary folder, and compare")
    parser.add_argument("overrides", nargs="*", help="that say where the data are: paths.data=DIR")


def run(options: argparse.Namespace) -> int:
    from kd_bench.results.records.record import RECORD_FILE

    places = [Path(options.directory), options.runs / options.directory]
    directory = next((place for place in places if (place / RECORD_FILE).is_file()), None)
    if directory is None:
        raise ConfigError(f"run {options.directory!r}: no finished run there, nor in {options.runs}")
    from kd_bench.results.text.escape import visible
    from kd_bench.runs.verify import verify

    tier = verify(
        directory.resolve(), options.overrides, options.retrain, lambda text: print(visible(text), flush=True)
    )
    print(f"{directory}: {tier}")
    return 0
