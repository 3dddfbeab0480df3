"""The study that everybody starts with."""

import time
from pathlib import Path

from kd_bench.hydra_compose import quoted
from kd_bench.leaderboard import terminal_table, write_leaderboard
from kd_bench.paths import EXPERIMENTS
from kd_bench.studies.grid import study_runs
from kd_bench.studies.running import run_study
from kd_bench.studies.scheduling import Options


def demo(runs: Path | None) -> None:
    """Run the study ``demo`` and show its leaderboard.

    Args:
        runs: where the runs go, instead of what the study says.

    Raises:
        SweepError: some of its runs failed; the others are done and shown.
    """
    started = time.monotonic()
    overrides = [f"paths.runs={quoted(str(runs))}"] if runs else []
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


def _opening(readme: Path) -> str:
    """The text of a study's README before its first section: the question and how it is asked."""
    return readme.read_text(encoding="utf-8").split("\n## ")[0].lstrip("# ").strip() + "\n"
