"""Import of a teacher from elsewhere."""

import argparse
from pathlib import Path

HELP = "Add a network that was trained elsewhere to the runs: measured here, usable as a teacher."
EXAMPLE = "kd-bench import resnet32x4.pth --model resnet32x4_cifar --expected-top1 0.7942 dataset=cifar100"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "file", type=Path, help="weights: of timm, RepDistiller, mdistiller, kd-bench; .pth, .safetensors"
    )
    parser.add_argument("--model", required=True, help="network that they belong to, such as resnet32x4_cifar")
    parser.add_argument("--expected-top1", type=float, default=None, metavar="X", help="test top-1, in [0, 1]")
    parser.add_argument("overrides", nargs="*", help="of the configuration: dataset=cifar100 paths.runs=DIR")


def run(options: argparse.Namespace) -> int:
    """Add the network to the runs and print how good it is; return the exit code."""
    from kd_bench.config.overrides import compose_run
    from kd_bench.data.presence import require

    cfg = compose_run([*options.overrides, f"student.name={options.model}"])
    require(cfg.dataset.source)  # before torch is imported
    from kd_bench.runs.foreign import import_teacher

    record = import_teacher(cfg, options.file, options.expected_top1)
    top1 = 100 * record.headline().test.top1
    print(f"{options.model}: test top-1 {top1:.2f} % on {record.dataset.name}, run {record.run_id}")
    print(f"use it with: teacher.name={options.model} teacher.checkpoint={record.run_id}")
    return 0
