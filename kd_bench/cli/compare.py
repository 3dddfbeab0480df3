"""The command ``compare``: two runs, methods or studies beside each other."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kd_bench.results.comparison.measures import Comparison

HELP = "Compare two runs, two methods on a pair, or two studies: by seed, by image, by class, and in cost."
EXAMPLE = "kd-bench compare kd fitnet --records runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "first", metavar="A", help="a run (its id or folder), a method, or a study (its name or folder)"
    )
    parser.add_argument("second", metavar="B", help="the same kind of thing; differences are B minus A")
    parser.add_argument("--records", type=Path, default="runs", metavar="DIR", help="folder of runs (default: runs)")
    parser.add_argument("--pair", metavar="TEACHER--STUDENT", help="which pair, where the methods ran on several")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print the comparison of the two sides; return the exit code."""
    from kd_bench.results.checking.load import Collection, load
    from kd_bench.results.comparison.flips import prediction_files
    from kd_bench.results.comparison.measures import compare_all
    from kd_bench.results.comparison.sides import couples, find_side
    from kd_bench.results.comparison.text import as_text

    paths = [Path(name) for name in (options.first, options.second) if Path(name).exists()]
    named = len(paths) < 2  # one of them has to be looked for
    collection = load(options.records) if named else Collection((), (), ())
    sides = find_side(options.first, collection), find_side(options.second, collection)
    found = couples(*sides, options.pair, collection.records)
    folders = [path if path.is_dir() else path.parent for path in paths]
    comparisons = compare_all(found, prediction_files([*folders, *([options.records] if named else [])]))
    print(_json(comparisons) if options.json else "\n\n".join(map(as_text, comparisons)))
    return 0


def _json(comparisons: "list[Comparison]") -> str:
    import json
    from dataclasses import asdict

    return json.dumps({"comparisons": [{**asdict(one), "claim": one.claim} for one in comparisons]}, indent=1)
