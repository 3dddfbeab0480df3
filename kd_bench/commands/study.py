"""A whole study."""

import argparse

HELP = "Run a study: its whole grid, resumed where it was left, each run in a process of its own."
EXAMPLE = "kd-bench study demo --jobs 2"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of a folder in experiments/, or the path of a folder with a study.yaml")
    parser.add_argument("overrides", nargs="*", help="of every run, as for train: recipe.epochs=10 paths.runs=DIR")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their estimated cost, train nothing")
    parser.add_argument("--skip-refused", action="store_true", help="leave out pairs that a method refuses, and say so")
    parser.add_argument("--retry", type=int, default=0, metavar="N", help="further attempts for a run that failed")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failed run")
    parser.add_argument("--max-failures", type=int, default=None, metavar="N", help="stop after N failed runs")
    parser.add_argument("--timeout", type=float, default=None, metavar="MINUTES", help="for one attempt at one run")


def run(options: argparse.Namespace) -> int:
    from kd_bench.studies.running import cost_lines, planned, run_study
    from kd_bench.studies.scheduling import Options

    if options.dry_run:
        tasks, _ = planned(options.name, options.overrides, estimate=True, skip_refused=options.skip_refused)
        print("\n".join(cost_lines(tasks, options.jobs)))
        return 0
    limit = 1 if options.fail_fast else options.max_failures
    how = Options(options.jobs, options.retry, limit, options.timeout)
    runs = run_study(options.name, options.overrides, how, options.skip_refused)
    print(f"all runs are finished; board: kd-bench leaderboard --records {runs}")
    return 0
