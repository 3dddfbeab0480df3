"""The command ``trace``: from a number to the runs that made it."""

import argparse
import json
import shlex
from dataclasses import replace
from pathlib import Path

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir

HELP = "Show the runs behind a cell of a leaderboard: configuration, code, data, weights, and the command for each."
EXAMPLE = "kd-bench trace digits/wrn_16_2_cifar--resnet8_cifar/kd/seed0"
DEFAULT = (Path("runs"), Path("results/records"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "cell", metavar="CELL", help="a run id, or DATASET/TEACHER--STUDENT/METHOD[/seedK] as in results/records"
    )
    parser.add_argument(
        "--records", type=Path, default=None, metavar="DIR", help="(default: runs, then results/records)"
    )
    add_config_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print the runs of the cell; return the exit code."""
    use_config_dir(options)
    from kd_bench.results.trace import as_text, facts, trace

    found = [folder for folder in DEFAULT if folder.is_dir()]
    runs = trace(options.cell, [options.records] if options.records or not found else found)
    if options.config_dir is not None:  # where the modules of `plugins` are
        there = f"kd-bench train --config-dir {shlex.quote(str(options.config_dir))} "
        runs = [replace(each, command=each.command.replace("kd-bench train ", there, 1)) for each in runs]
    print(json.dumps([facts(each) for each in runs], indent=1) if options.json else as_text(options.cell, runs))
    return 0
