"""Metrics of boards: a description, and the place where a record has the number."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

from kd_bench.results.records.record import Record
from kd_bench.results.text.formats import Unit

Number = float | int | None

_OF_RECORD = frozenset(Record.model_fields)


@dataclass(frozen=True)
class Metric:
    """A number of a record.

    Args:
        path: its place in the record; ``headline`` is what the recipe's selection rule picks. A null on the way makes
            it missing. A list counts its entries.
        lower: whether lower is better; sorting starts with the better end.
        shown: whether the page and the Markdown tables show it without being asked.
        floor: path of the number that a perfect model would have on a split of this size; shown in brackets.
        least, most: what it can be, to which intervals are cut; ``most`` is 1 for percentages unless it is given.
    """

    key: str
    title: str
    path: str
    explanation: str
    unit: Unit = "percent"
    lower: bool = False
    shown: bool = False
    floor: str = ""
    least: float = 0.0
    most: float | None = None

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest value that are possible."""
        greatest = 1.0 if self.unit == "percent" else math.inf
        return self.least, greatest if self.most is None else self.most


def value_at(record: Record, path: str) -> Number:
    """Return the number at a path, or None: in a configuration anything may stand in its place."""
    get, names = _steps(path)
    try:
        found = get(record)
    except AttributeError:  # there is nothing on the way, or a dictionary
        found = _found(record, names)
    kind = type(found)
    if kind is float or kind is int:
        value: Number = found
        return value
    return len(found) if kind is list else None


@lru_cache(maxsize=1024)  # boards ask every record for the same ones
def _steps(path: str) -> tuple[Callable[[Record], Any], tuple[str, ...]]:
    first, *names = path.split(".")
    rest = attrgetter(".".join(names))
    if first == "headline":
        return lambda record: rest(getattr(record.metrics, record.selection)), tuple(names)
    return attrgetter(path), (first, *names)


def _found(record: Record, names: tuple[str, ...]) -> Any:
    found: Any = record if names[0] in _OF_RECORD else record.headline()
    for name in names:
        if found is None:
            return None
        found = found.get(name) if isinstance(found, dict) else getattr(found, name, None)
    return found
