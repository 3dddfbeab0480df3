"""The command ``check``: records held against themselves, each other and their files."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from kd_bench.errors import ConfigError

if TYPE_CHECKING:
    from kd_bench.results.records.record import Record

HELP = "Check records: every problem at once, and how far each record is verified."
EXAMPLE = "kd-bench check results/records --predictions runs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "records", nargs="+", type=Path, metavar="RECORD", help="files, or folders with records in them"
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        default=None,
        metavar="DIR",
        help="runs whose predictions the metrics are recomputed from, for records that have none beside them",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def _recompute(record: "Record", path: Path) -> list[str]:
    """Hold the metrics of a record against its predictions. Torch is needed for this alone."""
    from kd_bench.evaluation.recomputed import prediction_problems

    return prediction_problems(record, path)


def run(options: argparse.Namespace) -> int:
    """Print what was found in each record; return the exit code."""
    from kd_bench.results.checking.collection import check_records, counts, find_records, read_all
    from kd_bench.results.text.escape import visible

    if options.predictions is not None and not options.predictions.is_dir():
        raise ConfigError(f"--predictions {options.predictions}: no such folder")
    checked = []
    for one in check_records(read_all(find_records(options.records)), _recompute, options.predictions):
        checked.append(one)
        if not options.json:
            note = f" ({one.note})" if one.note else ""
            print(visible(f"{one.path}: {one.tier}{note}"), flush=True)
            for problem in one.problems:
                print(f"  {visible(problem, 400)}")
    if options.json:
        fields = ("tier", "note", "problems")
        entries = [
            {
                "path": str(one.path),
                "run_id": one.record and one.record.run_id,
                **{name: getattr(one, name) for name in fields},
            }
            for one in checked
        ]
        print(json.dumps(entries, indent=1))
    else:
        found = counts(checked)
        print(f"{len(checked)} records: {', '.join(f'{count} {tier}' for tier, count in found.items())}")
        if "checked" in found:
            print("checked: the metrics follow from the predictions at hand")
    return 4 if any(one.problems for one in checked) else 0
