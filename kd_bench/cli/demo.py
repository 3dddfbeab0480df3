"""The study that everybody starts with."""

import argparse
import time
from pathlib import Path

HELP = "Distil real digits with five methods and show the leaderboard."
EXAMPLE = "kd-bench demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=None, help="where the runs go (default: runs/demo)")


def run(options: argparse.Namespace) -> int:
    """Run the study ``demo`` and show its leaderboard, also when some of its runs failed."""
    from kd_bench.config.composition import quoted
    from kd_bench.config.paths import EXPERIMENTS
    from kd_bench.results.leaderboard.terminal import terminal_table
    from kd_bench.results.write import write_leaderboard
    from kd_bench.runs.studies.grid import study_runs
    from kd_bench.runs.studies.running import run_study
    from kd_bench.runs.studies.scheduling import Options

    started = time.monotonic()
    overrides = [f"paths.runs={quoted(str(options.runs))}"] if options.runs else []
    directory = study_runs("demo", overrides)
    print(_opening(EXPERIMENTS / "demo" / "README.md"), flush=True)
    try:
        run_study("demo", overrides, Options())
    finally:
        if directory.is_dir():
            summary = write_leaderboard(directory, directory / "leaderboard")
            print(f"\n{terminal_table(summary.boards)}\n")
            print(f"{summary}; {time.monotonic() - started:.0f} s")
            print(f"leaderboard: {(directory / 'leaderboard' / 'index.html').resolve()}", flush=True)
    return 0


def _opening(readme: Path) -> str:
    """The text of a study's README before its first section: the question and how it is asked."""
    return readme.read_text(encoding="utf-8").split("\n## ")[0].lstrip("# ").strip() + "\n"
