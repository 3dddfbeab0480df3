"""The metrics of a finished run, computed again."""

import argparse
import json

from kd_bench.cli.verify import add_run, run_directory
from kd_bench.errors import ConfigError, IntegrityError

HELP = "Compute the metrics of a finished run again and compare them with its record; --full measures more."
EXAMPLE = "kd-bench evaluate runs/3d72eb2bdc1c9aba --full --write evaluation.sections=[corruptions,latency]"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_run(parser)
    parser.add_argument("--full", action="store_true", help="also what needs the weights and the data")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help="write evaluation.json, which boards read with the record")
    parser.add_argument("overrides", nargs="*", help="for --full: evaluation.sections=[latency] paths.data=DIR")


def run(options: argparse.Namespace) -> int:
    """Print what the run measures now, and write it if asked; return the exit code."""
    directory = run_directory(options)
    if options.overrides and not options.full:
        raise ConfigError(f"{options.overrides[0]}: overrides are for --full; predictions give the rest")
    from kd_bench.evaluation.report import as_text
    from kd_bench.runs.remeasure import evaluate, write

    evaluated = evaluate(directory.resolve(), options.full, options.overrides)
    record, evaluation = evaluated.record, evaluated.evaluation
    if options.json:
        print(json.dumps({**evaluation.model_dump(mode="json"), "differences": evaluated.differences}, indent=1))
    else:
        print(as_text(record, getattr(evaluation.metrics, record.selection), evaluation.full))
    if evaluated.differences:
        more = len(evaluated.differences) - 1
        raise IntegrityError(evaluated.differences[0] + (f"; and {more} more numbers differ" if more else ""))
    if options.write:
        path = write(evaluated, directory)
        if not options.json:
            print(f"written: {path}")
    return 0
