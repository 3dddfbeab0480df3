"""Measure what steps of methods cost: ``python -m kd_bench.cli.method_pages --measure [METHOD ...]``."""

import argparse
import os
from collections.abc import Sequence

from kd_bench.cli.method_pages.step_costs import read_costs, write_costs
from kd_bench.config.composition import choices
from kd_bench.errors import nearest


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the costs of the named methods, or of all, and keep them with the package; return the exit code."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in kd_bench.cli.main: before torch is imported
    parser = argparse.ArgumentParser(
        prog="python -m kd_bench.cli.method_pages", description="Measure the costs on the pages of methods."
    )
    parser.add_argument("--measure", nargs="*", metavar="METHOD", required=True, help="the methods; none: all")
    chosen, known = parser.parse_args(argv).measure, choices("method")
    for name in chosen:
        if name not in known:
            parser.error(f"--measure {name}: no such choice of conf/method{nearest(name, known)}")
    from kd_bench.cli.method_pages.measuring import measure

    costs = {name: cost for name, cost in read_costs().items() if name in known}
    for name in chosen or known:
        costs[name] = measure(name)
        print(f"{name:<20}{costs[name]}", flush=True)
        write_costs(costs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
