"""The command ``demo``: the study to start with."""

import argparse
import time
from pathlib import Path

HELP = "Distil real digits with five methods and show the leaderboard."
EXAMPLE = "kd-bench demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--runs", type=Path, default=None, help="where the runs go (default: runs/demo)")


def run(options: argparse.Namespace) -> int:
    """Run the study ``demo`` and print its leaderboard, also when runs failed (exit code 5)."""
    from kd_bench.config.composition import quoted
    from kd_bench.config.paths import EXPERIMENTS
    from kd_bench.results.leaderboard.terminal import terminal_table
    from kd_bench.results.write import write_leaderboard
    from kd_bench.runs.studies.grid import open_study
    from kd_bench.runs.studies.running import run_study
    from kd_bench.runs.studies.scheduling import Options

    started = time.monotonic()
    overrides = [f"paths.runs={quoted(str(options.runs))}"] if options.runs else []
    study = open_study("demo", overrides)
    print(_opening(EXPERIMENTS / "demo" / "README.md"), flush=True)
    try:
        run_study(study, Options())
    finally:
        if study.runs.is_dir():
            summary = write_leaderboard(study.runs, study.runs / "leaderboard")
            print(f"\n{terminal_table(summary.boards)}\n")
            print(f"{summary}; {time.monotonic() - started:.0f} s")
            print(f"leaderboard: {(study.runs / 'leaderboard' / 'index.html').resolve()}", flush=True)
    return 0


def _opening(readme: Path) -> str:
    """Return the section Question of a study's README."""
    return readme.read_text(encoding="utf-8").partition("## Question\n")[2].partition("\n## ")[0].strip() + "\n"
