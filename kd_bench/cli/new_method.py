"""The command ``new-method``: the files of a new method."""

import argparse
import os
import shlex
from pathlib import Path

from kd_bench.cli.scaffold import FAMILIES, UNPUBLISHED, write_method, write_plugin

HELP = "Write the files of a new method: a skeleton that trains, with its test."
EXAMPLE = 'kd-bench new-method my_kd --family logits --paper "Author et al. 2026, arXiv:2601.00001"'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("name", help="name of the method in a-z, 0-9 and _, such as my_kd")
    parser.add_argument("--family", choices=FAMILIES, default="logits", help="kind of method (default: logits)")
    parser.add_argument("--paper", default=UNPUBLISHED, help=f"authors, year, arXiv id (default: {UNPUBLISHED})")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write a plugin there, for a repository of your own")


def run(options: argparse.Namespace) -> int:
    """Write the files, name them and say what to do next; return the exit code."""
    name = options.name
    if options.out is None:
        written = write_method(name, options.family, options.paper)
        steps = [
            f"kd-bench train method={name}",
            f"python -m pytest tests/methods/test_discovery.py tests/methods -k {name}",
            f"python -m kd_bench.cli.method_pages --measure {name}   # for its page, at the end",
        ]
    else:
        written = write_plugin(name, options.family, options.paper, options.out)
        conf = shlex.quote(str(options.out / "my_conf"))
        test = shlex.quote(str(options.out / f"test_{name}.py"))
        steps = [f"kd-bench train --config-dir {conf} plugins=[{name}] method={name}", f"python -m pytest {test}"]
    print("\n".join(os.path.relpath(path) for path in written))
    print("\nnext:\n" + "\n".join(f"  {step}" for step in steps))
    return 0
