"""The command ``leaderboard``: records to boards and pages."""

import argparse
from pathlib import Path

HELP = "Turn records into Markdown, CSV, JSON, LaTeX and HTML."
EXAMPLE = "kd-bench leaderboard --records runs --out board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("--records", type=Path, default="runs", metavar="DIR", help="folder of runs (default: runs)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the pages go (default: RECORDS/leaderboard)")
    parser.add_argument("--check", action="store_true", help="check records, with the predictions beside them, as well")
    parser.add_argument("--run-pages", action="store_true", help="write run pages even for more than 500 runs")


def run(options: argparse.Namespace) -> int:
    """Write the boards and say where the page is; return the exit code."""
    from kd_bench.results.write import write_leaderboard

    out = options.out or options.records / "leaderboard"
    recompute = None
    if options.check:  # torch is needed for this alone
        from kd_bench.evaluation.recomputed import prediction_problems

        recompute = prediction_problems
    summary = write_leaderboard(options.records, out, options.run_pages, recompute)
    print(f"{summary}\n{out / 'index.html'}")
    return 0
