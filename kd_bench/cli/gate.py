"""The command ``gate``: a policy applied to a run or a method."""

import argparse
from pathlib import Path

HELP = "Hold a run or a method against a policy: pass, fail or not enough evidence, rule by rule."
EXAMPLE = "kd-bench gate kd --policy retention_95 --records runs/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("subject", metavar="RUN|METHOD", help="a run (its id or folder), or a method over its seeds")
    parser.add_argument("--policy", required=True, metavar="FILE|NAME", help="a policy, or a shipped one by its name")
    parser.add_argument("--records", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs or records")
    parser.add_argument("--pair", metavar="TEACHER--STUDENT", help="which pair, where the method ran on several")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write JUnit XML, which CI systems show")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write a Markdown table")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print the outcome of each rule; return 0 if the gate passes, 1 if it fails, 3 if evidence is lacking."""
    import json
    from datetime import datetime, timezone

    from kd_bench.config.files import write_atomically
    from kd_bench.deploy.gate_report import as_json, as_junit, as_markdown, as_text
    from kd_bench.deploy.gating import apply
    from kd_bench.deploy.policy import read_policy
    from kd_bench.deploy.subject import find_subject

    policy = read_policy(options.policy)
    subject = find_subject(options.subject, options.records, options.pair)
    report = apply(policy, subject, datetime.now(timezone.utc).date())
    for path, write in ((options.junit, as_junit), (options.markdown, as_markdown)):
        if path is not None:
            write_atomically(path, write(report))
    print(json.dumps(as_json(report), indent=1) if options.json else as_text(report))
    return report.exit_code
