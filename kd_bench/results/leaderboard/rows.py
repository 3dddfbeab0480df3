"""The rows of one board: means over seeds, differences to the baselines, ranks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from kd_bench.results.leaderboard.entries import Entry
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.records.load import FAILED_STATES
from kd_bench.results.records.record import DatasetInfo, TeacherInfo
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.intervals import Estimate, estimate, mean, standard_error
from kd_bench.results.statistics.multiplicity import holm
from kd_bench.results.statistics.paired import Scores, paired_differences, paired_estimate, paired_p_value
from kd_bench.results.statistics.power import minimum_detectable_difference
from kd_bench.results.statistics.ranking import (
    MINIMUM_CLAIM,
    MINIMUM_RANKED,
    Evidence,
    evidence,
    gap_closed,
    indistinguishable,
    rank_bands,
)

SIGNIFICANCE = 0.05


@dataclass(frozen=True)
class Row:
    """A line of a board. Metrics are means over the seeds on the test split, as fractions; ``None`` is missing.

    ``rank`` is the first and last rank of the band, ``None`` below three seeds. ``best`` marks the first band where it
    is significantly better than all below. The p values are of paired tests against a baseline, after Holm's adjustment
    over the ranked rows. ``kd_detectable`` is the difference to KD that these seeds would show. ``metrics`` and
    ``floors`` are by the keys of ``METRICS``. ``failed`` and ``unfinished`` count runs of the method's name.
    """

    entry: Entry
    evidence: Evidence
    rank: tuple[int, int] | None
    best: bool
    failed: int
    unfinished: int
    top1: Estimate
    scratch_difference: Estimate | None
    scratch_p: float | None
    kd_difference: Estimate | None
    kd_p: float | None
    kd_detectable: float | None
    retention: float | None
    retention_over_chance: float | None
    gap_closed: float | None
    metrics: Mapping[str, Estimate | None]
    floors: Mapping[str, float | None]


@dataclass(frozen=True)
class Context:
    """Baselines, teacher and data that the rows of a board are compared with, and states of runs without a record."""

    scratch: Entry | None
    kd: Entry | None
    teacher: TeacherInfo | None
    dataset: DatasetInfo
    states: Sequence[RunState]


@dataclass(frozen=True)
class _Standing:
    """The standing of an entry among all others."""

    rank: tuple[int, int] | None = None
    best: bool = False
    scratch_p: float | None = None
    kd_p: float | None = None


def baseline(entries: Sequence[Entry], name: str) -> Entry | None:
    """Return the entry that differences refer to: outside of chains, with the most seeds, then the first in order."""
    candidates = [entry for entry in entries if entry.name == name and entry.generation == 0]
    return max(candidates, key=lambda entry: len(entry.runs), default=None)


def build_rows(entries: Sequence[Entry], context: Context) -> tuple[Row, ...]:
    """Build ranked rows by descending mean, then those with too few seeds; the label decides between equal means."""
    ordered = sorted(entries, key=lambda entry: (not _ranked(entry), -mean(list(entry.scores.values())), entry.label))
    ranked = [entry for entry in ordered if _ranked(entry)]
    standings = [*_standings(ranked, context), *[_Standing()] * (len(ordered) - len(ranked))]
    return tuple(_row(entry, context, standing) for entry, standing in zip(ordered, standings, strict=True))


def _ranked(entry: Entry) -> bool:
    return len(entry.runs) >= MINIMUM_RANKED


def _standings(ranked: Sequence[Entry], context: Context) -> list[_Standing]:
    scores = [entry.scores for entry in ranked]
    ranks = rank_bands(scores)
    scratch_p = holm([_p_value(entry, context.scratch) for entry in ranked])
    kd_p = holm([_p_value(entry, context.kd) for entry in ranked])
    best = _best(scores, ranks)
    return [
        _Standing(rank, position < best, *p_values)
        for position, (rank, *p_values) in enumerate(zip(ranks, scratch_p, kd_p, strict=True))
    ]


def _p_value(entry: Entry, reference: Entry | None) -> float | None:
    return None if reference is None or entry is reference else paired_p_value(entry.scores, reference.scores)


def _best(scores: Sequence[Scores], ranks: Sequence[tuple[int, int]]) -> int:
    """Count the rows from the top that are significantly the best: all of the first band, or none.

    Each needs the seeds for a claim, and must be told from every row below the band, also by a paired test after Holm's
    adjustment over these comparisons. Where no such test can be made there is no claim.
    """
    size = ranks[0][1] if ranks else 0
    leaders, others = scores[:size], scores[size:]
    if not others or any(len(leader) < MINIMUM_CLAIM for leader in leaders):
        return 0
    pairs = [(leader, other) for leader in leaders for other in others]
    if any(indistinguishable(*pair) for pair in pairs):
        return 0
    adjusted = holm([paired_p_value(*pair) for pair in pairs])
    return 0 if any(value is None or value >= SIGNIFICANCE for value in adjusted) else size


def _row(entry: Entry, context: Context, standing: _Standing) -> Row:
    top1 = estimate(list(entry.scores.values()))
    states = [state.state for state in context.states if state.method == entry.name]
    failed = sum(state in FAILED_STATES for state in states)
    return Row(
        entry=entry,
        evidence=evidence(top1.n),
        rank=standing.rank,
        best=standing.best,
        failed=failed,
        unfinished=len(states) - failed,
        top1=top1,
        scratch_difference=_difference(entry, context.scratch),
        scratch_p=standing.scratch_p,
        kd_difference=_difference(entry, context.kd),
        kd_p=standing.kd_p,
        kd_detectable=_detectable(entry, context.kd),
        retention=_retention(top1.mean, context, 0.0),
        retention_over_chance=_retention(top1.mean, context, 1 / context.dataset.num_classes),
        gap_closed=_gap_closed(entry, top1.mean, context),
        metrics={key: _mean(entry, metric.path) for key, metric in METRICS.items()},
        floors={key: _mean_only(entry, metric.floor) for key, metric in METRICS.items() if metric.floor},
    )


def _difference(entry: Entry, reference: Entry | None) -> Estimate | None:
    return None if reference is None or entry is reference else paired_estimate(entry.scores, reference.scores)


def _detectable(entry: Entry, reference: Entry | None) -> float | None:
    """Compute the detectable difference from the spread of the differences by seed, and as uncertain as that.

    None below three shared seeds, and where the differences do not spread.
    """
    if reference is None or entry is reference:
        return None
    paired = paired_estimate(entry.scores, reference.scores)
    if paired is None or paired.n < MINIMUM_RANKED or paired.low is None:
        return None
    differences = paired_differences(entry.scores, reference.scores)
    detectable = _detectable_deviations(len(differences))
    return None if detectable is None else detectable * standard_error(differences) * math.sqrt(len(differences))


@lru_cache
def _detectable_deviations(seeds: int) -> float | None:
    """Return the minimum detectable difference in standard deviations of the differences."""
    return minimum_detectable_difference(1.0, seeds, paired=True)


def _retention(top1: float, context: Context, chance: float) -> float | None:
    if context.teacher is None or context.teacher.test_top1 <= chance:
        return None
    return (top1 - chance) / (context.teacher.test_top1 - chance)


def _gap_closed(entry: Entry, top1: float, context: Context) -> float | None:
    if context.teacher is None or context.scratch is None or entry is context.scratch:
        return None
    return gap_closed(top1, list(context.scratch.scores.values()), context.teacher.test_top1)


def _mean(entry: Entry, path: str) -> Estimate | None:
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
        return estimate(known)
    except OverflowError:
        return None


def _mean_only(entry: Entry, path: str) -> float | None:
    found = _mean(entry, path)
    return None if found is None else found.mean
