"""Two runs, methods or studies beside each other."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kd_bench.comparison.measures import Comparison

HELP = "Compare two runs, two methods on a pair, or two studies: by seed, by image, by class, and in cost."
EXAMPLE = "kd-bench compare kd fitnet --records runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "first", metavar="A", help="a run (its id or folder), a method, or a study (its name or folder)"
    )
    parser.add_argument("second", metavar="B", help="the same kind of thing; differences are B minus A")
    parser.add_argument("--records", type=Path, default=Path("runs"), metavar="DIR", help="(default: runs)")
    parser.add_argument("--pair", default=None, metavar="TEACHER--STUDENT", help="where the methods ran on several")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    from kd_bench.comparison.measures import compare
    from kd_bench.comparison.predictions import prediction_files
    from kd_bench.comparison.sides import couples, find_side
    from kd_bench.comparison.text import as_text
    from kd_bench.leaderboard.load import load

    paths = [Path(name) for name in (options.first, options.second) if Path(name).exists()]
    records = load(options.records).records if len(paths) < 2 else ()
    sides = find_side(options.first, records), find_side(options.second, records)
    found = couples(*sides, options.pair)
    files = prediction_files([*paths, *([options.records] if len(paths) < 2 else [])])
    comparisons = [compare(couple, files) for couple in found]
    print(_json(comparisons) if options.json else "\n\n".join(map(as_text, comparisons)))
    return 0


def _json(comparisons: "list[Comparison]") -> str:
    import json
    from dataclasses import asdict

    return json.dumps({"comparisons": [asdict(comparison) for comparison in comparisons]}, indent=1)
