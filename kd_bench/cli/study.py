"""The command ``study``: a whole grid of runs."""

import argparse
from pathlib import Path

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir
from kd_bench.errors import ConfigError

HELP = "Run a study: its whole grid, resumed where it was left, each run in a process of its own."
EXAMPLE = "kd-bench study demo --jobs 2"
OVERRIDES = "as for train; those of an axis of the grid replace that axis: method=scratch,kd; others hold for all runs"
# Options that Hydra's launchers do not know, with their defaults.
OWN = {"config_dir": None, "jobs": 1, "retry": 0, "timeout": None, "max_failures": None}
OWN |= dict.fromkeys(("dry_run", "skip_refused", "fail_fast"), False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="of a folder in experiments/, or the path of a folder with a study.yaml")
    parser.add_argument("overrides", nargs="*", help=OVERRIDES)
    add_config_dir(parser)
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
    parser.add_argument("--dry-run", action="store_true", help="list the runs and their estimated cost, train nothing")
    parser.add_argument("--skip-refused", action="store_true", help="leave out pairs that a method refuses, and say so")
    parser.add_argument("--retry", type=int, default=0, metavar="N", help="further attempts for a run that failed")
    parser.add_argument("--fail-fast", action="store_true", help="stop at the first failed run")
    parser.add_argument("--max-failures", type=int, default=None, metavar="N", help="stop after N failed runs")
    parser.add_argument("--timeout", type=float, default=None, metavar="MINUTES", help="for one attempt at one run")


def run(options: argparse.Namespace) -> int:
    """Run the study, or print its runs and their cost; exit code 2 if a run is wrong, 5 if runs failed."""
    from kd_bench.runs.studies.grid import open_study
    from kd_bench.runs.studies.running import cost_lines, run_study
    from kd_bench.runs.studies.scheduling import Options, make_plan
    from kd_bench.runs.studies.unchanged import hash_of_points

    use_config_dir(options)
    study = open_study(options.name, options.overrides)
    if study.hydra_folder:
        return _run_by_hydra(options, study.hydra_folder, study.overrides)
    if options.dry_run:
        tasks = make_plan(study, True, options.skip_refused, known=hash_of_points(study.points))
        print("\n".join(cost_lines(tasks, options.jobs)))
        return 0
    limit = 1 if options.fail_fast else options.max_failures
    run_study(study, Options(options.jobs, options.retry, limit, options.timeout), options.skip_refused)
    print(f"all runs are finished; board: kd-bench leaderboard --records {study.runs}")
    return 0


def _run_by_hydra(options: argparse.Namespace, folder: Path, overrides: tuple[str, ...]) -> int:
    """Let one of Hydra's launchers, or a search, run the study."""
    from kd_bench.cli.hydra_app import train

    for flag, default in OWN.items():
        if getattr(options, flag) != default:
            name = f"--{flag.replace('_', '-')}"
            raise ConfigError(f"{name}: not with hydra/launcher=... or a search, which have settings of their own")
    return train(["--config-dir", str(folder), "--config-name", "study", "-m", *overrides])
