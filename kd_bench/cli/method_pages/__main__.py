"""Write the pages of the checkout: ``python -m kd_bench.cli.method_pages [--measure [METHOD ...]]``."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kd_bench.config.composition import choices
from kd_bench.config.paths import CHECKOUT
from kd_bench.errors import nearest

if TYPE_CHECKING:
    from kd_bench.cli.method_pages.step_costs import Cost

FOLDER = CHECKOUT / "docs" / "methods"
COSTS = "costs.json"


def main(argv: Sequence[str] | None = None) -> int:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in kd_bench.cli.main: before torch is imported
    parser = argparse.ArgumentParser(prog="python -m kd_bench.cli.method_pages", description="Write docs/methods.")
    parser.add_argument("--measure", nargs="*", metavar="METHOD", help="first measure the costs of these, or of all")
    chosen, known = parser.parse_args(argv).measure, choices("method")
    for name in chosen or []:
        if name not in known:
            parser.error(f"--measure {name}: no such choice of conf/method{nearest(name, known)}")
    if not FOLDER.is_dir():
        parser.error(f"{FOLDER} is missing: kd_bench does not run from a checkout")
    costs = _costs(known, known if chosen == [] else chosen or [])
    if missing := [name for name in known if name not in costs]:
        parser.error(f"costs are missing: --measure {' '.join(missing)}")
    _write(costs)
    return 0


def _costs(known: Sequence[str], measured: Sequence[str]) -> "dict[str, Cost]":
    """The costs that are kept, those of ``measured`` anew."""
    from kd_bench.cli.method_pages.step_costs import measure, read_costs, write_costs

    costs = {name: cost for name, cost in read_costs(FOLDER / COSTS).items() if name in known}
    for name in measured:
        costs[name] = measure(name)
        print(f"{name:<20}{costs[name]}", flush=True)
    write_costs(FOLDER / COSTS, costs)
    return costs


def _write(costs: "dict[str, Cost]") -> None:
    """Write all pages, and delete those of methods that are gone."""
    from kd_bench.cli.method_pages.pages import pages

    texts = pages(costs)
    for path in FOLDER.glob("*.md"):
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
