"""The command ``monitor``: reference statistics, drift, and what a new student changes."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from kd_bench.cli.verify import add_run, run_directory
from kd_bench.errors import ConfigError

if TYPE_CHECKING:
    from kd_bench.deploy.drift import DriftTest

HELP = "Write reference statistics of a student, and say what drifted from them or since an earlier student."
EXAMPLE = "kd-bench monitor runs/demo/3d72eb2bdc1c9aba --against predictions.parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    add_run(parser)
    parser.add_argument("--against", type=Path, metavar="FILE", help="predictions in use: safetensors, CSV or Parquet")
    parser.add_argument("--since", type=Path, metavar="RUN", help="an earlier student: flips, and accuracy by class")
    parser.add_argument("--policy", default="drift", metavar="FILE|NAME", help="with bounds of drift (default: drift)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("overrides", nargs="*", help="paths.data=DIR, where the data are")


def run(options: argparse.Namespace) -> int:
    """Print what drifted and what changed; return 0, or 1 where a bound is passed."""
    import json
    from dataclasses import asdict

    from kd_bench.deploy.policy import read_policy
    from kd_bench.results.text.escape import visible

    policy = read_policy(options.policy)
    bounds = policy.policy.drift
    if bounds is None:
        raise ConfigError(f"policy {policy.name}: has no bounds of drift")
    directory = run_directory(options).resolve()
    from kd_bench.deploy.changes import as_text

    try:
        from kd_bench.deploy.monitoring import changes_since, drift_of, reference_of
    except ModuleNotFoundError as error:
        raise ConfigError(f"monitor needs {error.name}: pip install 'kd-bench[deploy]'") from None

    monitored = reference_of(directory, options.overrides)
    tests = drift_of(monitored, options.against, bounds) if options.against else []
    since = changes_since(_earlier(options), directory) if options.since else None
    passed = since is None or bounds.lost is None or since.flips.lost <= bounds.lost
    if options.json:
        content = {"reference": str(monitored.path), "drift": [asdict(test) for test in tests]}
        print(json.dumps({**content, "since": since and asdict(since)}, indent=1))
    else:
        print(f"reference: {visible(str(monitored.path))}")
        if tests:
            print(_drift_text(tests, options.against, bounds.significance))
        if since is not None:
            print("\n".join(visible(line, 300) for line in as_text(since).splitlines()))
            print("" if passed else f"  lost more than {bounds.lost} of the images\n", end="")
    return 0 if passed and not any(test.drifted for test in tests) else 1


def _earlier(options: argparse.Namespace) -> Path:
    named = argparse.Namespace(directory=str(options.since), runs=options.runs)
    return run_directory(named).resolve()


def _drift_text(tests: "list[DriftTest]", path: Path, significance: float) -> str:
    from kd_bench.results.text.escape import visible

    drifted = [test for test in tests if test.drifted]
    lines = [f"{visible(str(path))}: {len(drifted)} of {len(tests)} tests show drift (significance {significance:g})"]
    for test in tests:
        mark = "DRIFT" if test.drifted else "  ok "
        where = f"; {test.detail}" if test.detail else ""
        lines.append(f"  {mark} {test.name}: {test.size:.4g}, bound {test.bound:g}, p {test.adjusted:.2g}{where}")
    return "\n".join(visible(line, 300) for line in lines)
