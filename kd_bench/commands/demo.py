"""The study that everybody starts with."""

import argparse
from pathlib import Path

HELP = "Distil real digits with five methods and show the leaderboard."
EXAMPLE = "kd-bench demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=None, help="where the runs go (default: runs/demo)")


def run(options: argparse.Namespace) -> int:
    from kd_bench.studies.demo import demo

    demo(options.runs)
    return 0
