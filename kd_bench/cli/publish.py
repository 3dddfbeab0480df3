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
    from kd_bench.results.text.escape import visible

    done = publish(options.study, options.runs, options.results)
    print(f"{done.records} records copied to {options.results / 'records'}")
    print(f"{options.results / 'leaderboard.md'}: {done.summary}")
    for each in done.rejected:
        print(visible(f"rejected: {each.path}: {each.reason}"))
    return 4 if done.rejected else 0
