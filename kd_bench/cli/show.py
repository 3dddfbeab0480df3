"""Facts of a pair before it is trained."""

import argparse
import json

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir
from kd_bench.errors import ConfigError

HELP = "Show parameters, MACs, stages, pairing and the memory of a step of a pair before anything is trained."
EXAMPLE = "kd-bench show resnet20_cifar--resnet8_cifar method=at"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("pair", help="TEACHER--STUDENT, as the folders in results/ are named; any networks")
    parser.add_argument("overrides", nargs="*", help="of the configuration, as for train: dataset=cifar100 method=at")
    add_config_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(options: argparse.Namespace) -> int:
    """Print the facts of the pair; return the exit code."""
    use_config_dir(options)
    from kd_bench.config.overrides import compose_run

    cfg = compose_run([*_networks(options.pair), *options.overrides])
    from kd_bench.runs.lineage import completed
    from kd_bench.runs.preview import as_text, inspect

    facts = inspect(completed(cfg))
    print(json.dumps(facts, indent=1) if options.json else as_text(facts))
    return 0


def _networks(pair: str) -> list[str]:
    teacher, separator, student = pair.partition("--")
    if not separator or not teacher or not student:
        raise ConfigError(f"pair {pair!r}: should be TEACHER--STUDENT, such as resnet20_cifar--resnet8_cifar")
    if teacher in ("none", "ensemble"):
        return [f"teacher={teacher}", f"student.name={student}"]
    return [f"teacher.name={teacher}", f"student.name={student}"]
