"""The command ``card``: a model card and a technical file."""

import argparse
from pathlib import Path

HELP = "Write the model card of a run for the Hugging Face hub, and a technical file; send nothing unless asked to."
EXAMPLE = "kd-bench card runs/demo/3d72eb2bdc1c9aba --policy retention_95 --policy harm"
FOLDER = "card"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("run_name", metavar="RUN", help="directory of a run, its id, or the file of a record")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where ids are (default: runs)")
    parser.add_argument("--policy", action="append", default=[], metavar="FILE|NAME", help="show its gate (repeatable)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to (default: card in the run's directory)")
    parser.add_argument("--push", metavar="OWNER/NAME", help="send the folder to this repository of the hub")


def run(options: argparse.Namespace) -> int:
    """Write the files and print their paths; return the exit code."""
    from datetime import datetime, timezone

    from kd_bench.deploy.gating import apply
    from kd_bench.deploy.policy import read_policy
    from kd_bench.deploy.subject import find_run, subject_of_run
    from kd_bench.errors import ConfigError, IntegrityError
    from kd_bench.results.text.escape import visible

    try:
        from kd_bench.deploy.model_card import push, write_card
    except ModuleNotFoundError as error:
        raise ConfigError(f"card needs {error.name}: pip install 'kd-bench[deploy]'") from None
    policies = [read_policy(name) for name in options.policy]
    record_file = find_run(options.run_name, options.runs)
    subject = subject_of_run(record_file)
    today = datetime.now(timezone.utc).date()
    reports = [apply(policy, subject, today) for policy in policies]
    folder = options.output or record_file.parent / FOLDER
    try:
        paths = write_card(subject, record_file, reports, folder)
    except OSError as error:
        raise IntegrityError(f"{folder} cannot be written: {error.strerror or error}") from None
    for path in paths:
        print(f"written: {visible(str(path))}")
    if options.push:
        print(f"sent: {push(folder, options.push)}")
    return 0
