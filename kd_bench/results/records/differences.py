"""The metrics of a record held against the same metrics computed again. Needs no torch."""

import math
from collections.abc import Iterator
from typing import Any

from kd_bench.results.records.measured import Metrics

# Sums of logarithms and products differ in the last digits between processors and versions. A share of samples that
# differs at all differs by more, up to a million samples.
RELATIVE = 1e-6
ABSOLUTE = 1e-6


def metric_differences(recorded: Metrics, computed: Metrics) -> list[str]:
    """List every number of ``recorded`` that is not that of ``computed``, by its key.

    Nothing is compared that the record does not claim: it may be older than the metric, or published in short.
    """
    return list(_differences(recorded.model_dump(), computed.model_dump(), "metrics"))


def _differences(recorded: Any, computed: Any, key: str) -> Iterator[str]:
    if recorded is None or key.endswith(".not_measured"):
        return
    if isinstance(recorded, dict) and isinstance(computed, dict):
        for name in recorded:
            yield from _differences(recorded[name], computed[name], f"{key}.{name}")
    elif isinstance(recorded, list) and isinstance(computed, list) and len(recorded) == len(computed):
        for position, pair in enumerate(zip(recorded, computed, strict=True)):
            yield from _differences(*pair, f"{key}[{position}]")
    elif not _same(recorded, computed):
        yield f"{key}={recorded}: the predictions give {computed}"


def _same(recorded: Any, computed: Any) -> bool:
    if isinstance(recorded, float) and isinstance(computed, float):
        return math.isclose(recorded, computed, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
    return bool(recorded == computed)
