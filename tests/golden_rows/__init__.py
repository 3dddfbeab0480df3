"""The golden table: for each method, how ``kd_bench`` computes what a reference vector holds.

A row takes a case of the manifest and its input arrays (and adapter weights) as tensors, and returns the outputs by the
names of the manifest: ``loss``, ``loss_weighted``, ``loss_total``, ... Gradients are taken by the test. Totals and
weighted terms come from the method's class, so that its weights and its wiring are checked too.

Rows stand in ``ROWS`` of the module of their family, or in a module of the method's own. A method that no reference
vector covers has an entry in ``ORACLES`` there instead: the test that compares it with a formula written out slowly. A
row of a variant, which is a choice of a method without a module of its own, names that choice in ``VARIANTS``.
"""

import importlib
import pkgutil
from typing import Any

from .given import Row

_FAMILIES = [
    importlib.import_module(f"{__name__}.{module.name}")
    for module in pkgutil.iter_modules(__path__)
    if module.name != "given"
]


def _gathered(table: str) -> dict[str, Any]:
    return {name: entry for family in _FAMILIES for name, entry in getattr(family, table, {}).items()}


ROWS: dict[str, Row] = _gathered("ROWS")
ORACLES: dict[str, str] = _gathered("ORACLES")
VARIANTS: dict[str, str] = _gathered("VARIANTS")
