"""What a metric of a board is, and where a record has its number."""

from dataclasses import dataclass
from typing import Any

from kd_bench.leaderboard.formats import Unit
from kd_bench.runs.record import Record

Number = float | int | None


@dataclass(frozen=True)
class Metric:
    """One number of a record.

    Args:
        path: where the record has it; ``headline`` is what the recipe's selection rule picks. Something that is null
            on the way makes it missing. A list counts its entries.
        lower: whether lower is better; sorting starts with the better end.
        shown: whether the page and the Markdown tables show it without being asked.
        floor: path of what a perfect model would have on a split of this size; shown in brackets.
    """

    key: str
    title: str
    path: str
    explanation: str
    unit: Unit = "percent"
    lower: bool = False
    shown: bool = False
    floor: str = ""


def value_at(record: Record, path: str) -> Number:
    """The number at a path, or None where there is none."""
    first, *names = path.split(".")
    found: Any = record.headline() if first == "headline" else getattr(record, first)
    for name in names:
        if found is None:
            return None
        found = getattr(found, name)
    value: Number = len(found) if isinstance(found, list) else found
    return value
