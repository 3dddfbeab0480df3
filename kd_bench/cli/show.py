"""Facts of a pair before it is trained, or pictures of what an augmentation does."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from kd_bench.cli.plugin_options import add_config_dir, use_config_dir
from kd_bench.errors import ConfigError

HELP = "Show parameters, MACs, stages, pairing and the memory of a step of a pair before anything is trained."
SAMPLES, EPOCHS = 4, 7  # rows and columns of a sheet
EXAMPLE = "kd-bench show resnet20_cifar--resnet8_cifar method=at"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("pair", nargs="?", help="TEACHER--STUDENT, as the folders in results/ are named; any networks")
    parser.add_argument("overrides", nargs="*", help="of the configuration, as for train: dataset=cifar100 method=at")
    add_config_dir(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    parser.add_argument("--speed", action="store_true", help="measure the levers of speed: time, loss and gradient")
    parser.add_argument(
        "--augmentation", metavar="FILE", help="write a sheet of augmented training images to FILE.png; needs no pair"
    )


def run(options: argparse.Namespace) -> int:
    """Print the facts of the pair; return the exit code."""
    use_config_dir(options)
    if options.augmentation is not None:
        return _augmentation(options)
    if options.pair is None:
        raise ConfigError("pair: is missing: TEACHER--STUDENT, such as resnet20_cifar--resnet8_cifar")
    from kd_bench.config.overrides import compose_run

    cfg = compose_run([*_networks(options.pair), *options.overrides])
    from kd_bench.runs.lineage import completed

    if options.speed:
        from kd_bench.runs.levers import as_table, measure

        levers = measure(completed(cfg))
        print(json.dumps([asdict(each) for each in levers], indent=1) if options.json else as_table(levers))
        return 0
    from kd_bench.runs.preview import as_text, inspect

    facts = inspect(completed(cfg))
    print(json.dumps(facts, indent=1) if options.json else as_text(facts))
    return 0


def _augmentation(options: argparse.Namespace) -> int:
    """Write the sheet of pictures; return the exit code."""
    target = Path(options.augmentation)
    if target.suffix.lower() != ".png":
        raise ConfigError(f"--augmentation {options.augmentation}: should be the name of a .png file")
    overrides, pair = list(options.overrides), options.pair
    if pair is not None and "=" in pair:  # no pair, but the first override
        overrides, pair = [pair, *overrides], None
    chosen = _networks(pair) if pair is not None else ["teacher=none", "student.name=resnet8_cifar"]
    if pair is None and not any(override.startswith("method=") for override in overrides):
        chosen.append("method=scratch")
    from kd_bench.config.overrides import compose_run
    from kd_bench.data.picture_sheet import picture_sheet
    from kd_bench.runs.lineage import prepare
    from kd_bench.runs.run import data_module

    config, networks, arrays = prepare(compose_run([*chosen, *overrides]))
    sheet = picture_sheet(data_module(config, networks, arrays), SAMPLES, EPOCHS)
    try:
        sheet.save(target)
    except OSError as error:
        raise ConfigError(f"--augmentation {target}: cannot be written: {error.strerror or error}") from error
    print(f"{target}: {SAMPLES} samples, first as they are, then in epochs 0 to {EPOCHS - 1}")
    return 0


def _networks(pair: str) -> list[str]:
    teacher, separator, student = pair.partition("--")
    if not separator or not teacher or not student:
        raise ConfigError(f"pair {pair!r}: should be TEACHER--STUDENT, such as resnet20_cifar--resnet8_cifar")
    if teacher in ("none", "ensemble"):
        return [f"teacher={teacher}", f"student.name={student}"]
    return [f"teacher.name={teacher}", f"student.name={student}"]
