"""The command ``status``: the state of every run of a study."""

import argparse
import time

HELP = "Show how a study stands: completed, running, failed and why."
EXAMPLE = "kd-bench status demo --watch"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="of the study")
    parser.add_argument("overrides", nargs="*", help="those that say where its runs are: paths.runs=DIR")
    parser.add_argument("--watch", action="store_true", help="again every two seconds, until the study has ended")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print a line for each run, then how many are in which state; exit code 2 if the study was never started."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from kd_bench.runs.studies.grid import open_study
    from kd_bench.runs.studies.progress import read_status, summary_lines

    study = open_study(options.name, options.overrides)
    status = read_status(study)
    if options.json:
        print(status.model_dump_json(indent=1))
        return 0
    if not options.watch:
        print("\n".join(summary_lines(status.tasks)))
        return 0
    with Live(console=Console(), auto_refresh=False, vertical_overflow="visible") as live:
        while True:
            status = read_status(study)
            live.update(Text("\n".join(summary_lines(status.tasks))), refresh=True)
            if status.ended():
                return 0
            time.sleep(2)
