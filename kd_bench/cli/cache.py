"""The command ``cache``: the teacher outputs that runs share."""

import argparse
from pathlib import Path

HELP = "List, verify or clear the teacher outputs that runs share."
EXAMPLE = "kd-bench cache --runs runs/demo --verify"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("stores", nargs="*", metavar="STORE", help="ids of stores, as listed (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default: runs)")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--verify", action="store_true", help="hash every block; exit code 4 if one is damaged")
    action.add_argument("--clear", action="store_true", help="delete the stores; runs compute again what they need")


def run(options: argparse.Namespace) -> int:
    """Print a line for each store, and what was done with it; return the exit code."""
    from kd_bench.errors import ConfigError
    from kd_bench.results.text.escape import visible
    from kd_bench.results.text.formats import size
    from kd_bench.training.cache import CACHE_FOLDER, damaged_blocks, describe, remove, size_of, stores

    folder = options.runs / CACHE_FOLDER
    found = {path.name: path for path in stores(folder)}
    if unknown := [name for name in options.stores if name not in found]:
        raise ConfigError(f"cache: no store {unknown[0]!r} in {folder}; `kd-bench cache --runs DIR` lists them")
    chosen = [found[name] for name in options.stores] or list(found.values())
    damaged = 0
    for path in chosen:
        print(visible(describe(path)))
        for block in damaged_blocks(path) if options.verify else ():
            damaged += 1
            print(f"  {visible(str(block))}: damaged; a run that needs it computes it again")
    total = size(sum(map(size_of, chosen)))
    if options.clear:
        for path in chosen:
            remove(path)
    verdict = "cleared" if options.clear else f"verified, {damaged} damaged blocks" if options.verify else "kept"
    print(f"{len(chosen)} stores in {folder}, {total}: {verdict}")
    return 4 if damaged else 0
