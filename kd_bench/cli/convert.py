"""The command ``convert``: weights out of foreign files."""

import argparse
from pathlib import Path

HELP = "Take the weights out of a file that holds a command line (argparse.Namespace) too, without running its code."
EXAMPLE = "kd-bench convert resnet8_last.pth --out resnet8.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("file", type=Path, help="a file of torch.save, such as RepDistiller's resnet8_last.pth")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.safetensors", help="a file that is not there yet"
    )


def run(options: argparse.Namespace) -> int:
    """Write the safetensors file and say what it holds; return the exit code."""
    from kd_bench.models.conversion import convert

    print(convert(options.file, options.out))
    return 0
