"""The command ``publish``: records of a study to ``results/``."""

import argparse
from pathlib import Path

HELP = "Copy the finished records of a study, never weights, to results/ and rebuild its boards."
EXAMPLE = "kd-bench publish demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("study", help="name of the study whose finished runs are published")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument("--results", type=Path, default=Path("results"), metavar="DIR", help="(default: results)")


def run(options: argparse.Namespace) -> int:
    """Publish the study and print what was written; return the exit code."""
    from kd_bench.results.publish import publish

    copied, summary = publish(options.study, options.runs, options.results)
    print(f"{copied} records copied to {options.results / 'records'}\n{options.results / 'leaderboard.md'}: {summary}")
    return 0
