"""The command ``publish``: records of finished runs to ``results/``."""

import argparse
from pathlib import Path

from kd_bench.errors import ConfigError

HELP = "Copy the finished records of a study or a sweep, never weights, to results/ and rebuild its boards."
EXAMPLE = "kd-bench publish runs/sweeps/2026-01-31_12-00-00-000000"
WHAT = """studies by name or path, folders of sweeps (train -m), ids of runs; without any, all runs below --runs. Runs
that they learn from come along"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("what", nargs="*", metavar="WHAT", help=WHAT)
    parser.add_argument("--runs", type=Path, metavar="DIR", help="where the runs are (default: runs)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")


def run(options: argparse.Namespace) -> int:
    """Publish the runs and print what was written; return the exit code."""
    from kd_bench.results.publish import publish
    from kd_bench.results.text.escape import visible

    if not options.what and options.runs is None:
        raise ConfigError("publish: name a study, a sweep or runs, or the folder of all runs to publish by --runs DIR")
    done = publish(options.what, options.runs or Path("runs"), options.results)
    print(f"{done.records} records copied to {options.results / 'records'}")
    print(f"{options.results / 'leaderboard.md'}: {done.summary}")
    for each in done.rejected:
        print(visible(f"rejected: {each.path}: {each.reason}"))
    return 4 if done.rejected else 0
