"""Published accuracies, each with its source, from ``results/published/published_results.csv``."""

import csv
from dataclasses import dataclass
from functools import cache

from kd_bench.config.paths import PUBLISHED

# Numbers that the authors of the source measured; those that they quote are no evidence. The better kind comes first.
MEASURED = ("own", "rerun")


@dataclass(frozen=True)
class PublishedValue:
    """One row of the file. Accuracies and ``std`` are fractions in [0, 1]; None is not known.

    Attributes:
        teacher: empty where there is none.
        std: standard deviation over ``n_seeds`` runs.
        teacher_top1: of the teacher, as printed in the same table.
    """

    paper_key: str
    table: str
    dataset: str
    teacher: str
    student: str
    method: str
    value: float
    std: float | None
    n_seeds: int | None
    teacher_top1: float | None
    source: str
    provenance: str


@cache
def published_values() -> tuple[PublishedValue, ...]:
    """Return every published top-1 accuracy, in the order of the file; linear probes are left out."""
    with (PUBLISHED / "published_results.csv").open(encoding="utf-8", newline="") as file:
        return tuple(_value(row) for row in csv.DictReader(file) if row["metric"] == "top1")


def _value(row: dict[str, str]) -> PublishedValue:
    names = ("paper_key", "table", "dataset", "teacher", "student", "method", "source", "provenance")
    return PublishedValue(
        value=float(row["value"]) / 100,
        std=_fraction(row["std"]),
        n_seeds=int(row["n_seeds"]) if row["n_seeds"] else None,
        teacher_top1=_fraction(row["teacher_top1"]),
        **{name: row[name] for name in names},
    )


def _fraction(percent: str) -> float | None:
    return float(percent) / 100 if percent else None
