"""Records to pages."""

import argparse
from pathlib import Path

HELP = "Turn records into Markdown, CSV, JSON, LaTeX and HTML."
EXAMPLE = "kd-bench leaderboard --records runs --out board"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--records", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument(
        "--out",
        type=Path,
        default=None,
        metavar="DIR",
        help="where the pages go (default: RECORDS/leaderboard)",
    )
    parser.add_argument(
        "--run-pages", action="store_true", help="write a page for every run also where there are more than 500"
    )


def run(options: argparse.Namespace) -> int:
    from kd_bench.results.write import write_leaderboard

    out = options.out or options.records / "leaderboard"
    summary = write_leaderboard(options.records, out, options.run_pages)
    print(f"{summary}\n{out / 'index.html'}")
    return 0
