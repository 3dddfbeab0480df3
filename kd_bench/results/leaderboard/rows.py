"""The rows of one board: means over seeds, differences to the baselines, ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kd_bench.results.checking.load import FAILED_STATES
from kd_bench.results.leaderboard.entries import Entry
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.records.record import DatasetInfo, TeacherInfo
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.intervals import Estimate, clipped, estimate, mean
from kd_bench.results.statistics.paired import paired_differences
from kd_bench.results.statistics.ranking import MINIMUM_RANKED, Evidence, evidence, gap_closed
from kd_bench.results.statistics.simultaneous import Comparison, Family


@dataclass(frozen=True)
class Row:
    """A line of a board. Metrics are means over the seeds on the test split, as fractions; ``None`` is missing.

    ``rank`` is the first and the last rank that the row can have, ``None`` below three seeds. ``best`` marks a row of
    five seeds or more that is shown better than every other ranked row. The comparisons with both baselines belong to
    the family of the board; without an interval and a p value nothing was tested, and of a row without a rank nothing
    is. ``metrics`` and ``floors`` are by the keys of ``METRICS``. ``failed`` and ``unfinished`` count runs of the
    method's name.
    """

    entry: Entry
    evidence: Evidence
    rank: tuple[int, int] | None
    best: bool
    failed: int
    unfinished: int
    top1: Estimate
    versus_scratch: Comparison | None
    versus_kd: Comparison | None
    retention: float | None
    retention_over_chance: float | None
    gap_closed: float | None
    metrics: Mapping[str, Estimate | None]
    floors: Mapping[str, float | None]


@dataclass(frozen=True)
class Context:
    """Comparisons of a board, its baselines, teacher and data, and states of runs without a record."""

    family: Family
    scratch: Entry | None
    kd: Entry | None
    teacher: TeacherInfo | None
    dataset: DatasetInfo
    states: Sequence[RunState]


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """Return ranked entries by descending mean, then those with too few seeds; labels decide between equal means."""
    return sorted(entries, key=lambda entry: (not ranked(entry), -mean(list(entry.scores.values())), entry.label))


def ranked(entry: Entry) -> bool:
    """Return whether the entry has seeds enough to be compared."""
    return len(entry.runs) >= MINIMUM_RANKED


def build_row(entry: Entry, context: Context) -> Row:
    """Build the row of an entry."""
    top1 = clipped(estimate(list(entry.scores.values())), 0.0, 1.0)
    states = [state.state for state in context.states if state.method == entry.name]
    failed = sum(state in FAILED_STATES for state in states)
    rank = context.family.rank(entry.key) if ranked(entry) else None
    return Row(
        entry=entry,
        evidence=evidence(top1.n),
        rank=rank,
        best=rank == (1, 1) and evidence(top1.n) == "ranked" and len(context.family.names) > 1,
        failed=failed,
        unfinished=len(states) - failed,
        top1=top1,
        versus_scratch=_versus(entry, context.scratch, context.family),
        versus_kd=_versus(entry, context.kd, context.family),
        retention=_retention(top1.mean, context, 0.0),
        retention_over_chance=_retention(top1.mean, context, 1 / context.dataset.num_classes),
        gap_closed=_gap_closed(entry, top1.mean, context),
        metrics={key: _mean(entry, metric.path, metric.bounds) for key, metric in METRICS.items()},
        floors={key: _mean_only(entry, metric.floor) for key, metric in METRICS.items() if metric.floor},
    )


def _versus(entry: Entry, reference: Entry | None, family: Family) -> Comparison | None:
    if reference is None or entry is reference:
        return None
    if ranked(entry) and ranked(reference):
        return family.compare(entry.key, reference.key)
    differences = paired_differences(entry.scores, reference.scores)
    difference = mean(differences) if differences else None
    return Comparison(difference, len(differences), None, None, None, "not separated")


def _retention(top1: float, context: Context, chance: float) -> float | None:
    if context.teacher is None or context.teacher.test_top1 <= chance:
        return None
    return (top1 - chance) / (context.teacher.test_top1 - chance)


def _gap_closed(entry: Entry, top1: float, context: Context) -> float | None:
    if context.teacher is None or context.scratch is None or entry is context.scratch:
        return None
    return gap_closed(top1, list(context.scratch.scores.values()), context.teacher.test_top1)


def _mean(entry: Entry, path: str, bounds: tuple[float, float] = (-math.inf, math.inf)) -> Estimate | None:
    """Average over all seeds; missing as soon as one seed lacks it, because a mean over other seeds is another number.

    Missing as well where the numbers are too large for the arithmetic. Counts that do not vary stay whole numbers.
    """
    values = [value_at(run, path) for run in entry.runs]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    if len(set(known)) == 1:
        same = known[0]
        return Estimate(same, same, same, len(known)) if len(known) > 1 else Estimate(same, None, None, 1)
    try:
        return clipped(estimate(known), *bounds)
    except OverflowError:
        return None


def _mean_only(entry: Entry, path: str) -> float | None:
    found = _mean(entry, path)
    return None if found is None else found.mean
