"""The rows of one board: means over seeds, differences to the baselines, ranks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kd_bench.leaderboard.entries import Entry
from kd_bench.leaderboard.load import FAILED_STATES
from kd_bench.runs.measured import SplitMetrics
from kd_bench.runs.record import TeacherInfo
from kd_bench.runs.states import RunState
from kd_bench.statistics import (
    MINIMUM_CLAIM,
    MINIMUM_RANKED,
    Estimate,
    Evidence,
    estimate,
    evidence,
    gap_closed,
    holm,
    indistinguishable,
    mean,
    paired_estimate,
    paired_p_value,
    rank_bands,
)


@dataclass(frozen=True)
class Row:
    """One line of a board. Metrics are means over the seeds, of the test split, as fractions; ``None`` is missing.

    ``rank`` is the first and last rank of the band, ``None`` below three seeds. ``kd_p`` is the paired p value against
    KD after Holm's adjustment over the ranked rows. ``failed`` and ``unfinished`` count runs of the method's name.
    """

    entry: Entry
    evidence: Evidence
    rank: tuple[int, int] | None
    best: bool
    failed: int
    unfinished: int
    top1: Estimate
    best_on_validation: float
    scratch_difference: Estimate | None
    kd_difference: Estimate | None
    kd_p: float | None
    retention: float | None
    gap_closed: float | None
    agreement: float | None
    negative_flips: float | None
    ece: float
    ece_noise_floor: float
    nll: float
    parameters: int
    macs: int
    train_seconds: float | None


@dataclass(frozen=True)
class Context:
    """What the rows of a board are compared with, and the states of its runs that left no record."""

    scratch: Entry | None
    kd: Entry | None
    teacher: TeacherInfo | None
    states: Sequence[RunState]


def baseline(entries: Sequence[Entry], name: str) -> Entry | None:
    """The entry that differences refer to: outside chains, with the most seeds, then the first by configuration."""
    candidates = [entry for entry in entries if entry.name == name and entry.generation == 0]
    return max(candidates, key=lambda entry: len(entry.runs), default=None)


def build_rows(entries: Sequence[Entry], context: Context) -> tuple[Row, ...]:
    """Ranked rows by descending mean, then those with too few seeds; the label decides between equal means."""
    ordered = sorted(entries, key=lambda entry: (not _ranked(entry), -mean(list(entry.scores.values())), entry.label))
    ranked = [entry for entry in ordered if _ranked(entry)]
    unranked = [None] * (len(ordered) - len(ranked))
    ranks = [*rank_bands([entry.scores for entry in ranked]), *unranked]
    p_values = [*holm([_p_value(entry, context.kd) for entry in ranked]), *unranked]
    best = significantly_best([entry.scores for entry in ranked])
    return tuple(
        _row(entry, context, rank, p_value, best and position == 0)
        for position, (entry, rank, p_value) in enumerate(zip(ordered, ranks, p_values, strict=True))
    )


def _ranked(entry: Entry) -> bool:
    return len(entry.runs) >= MINIMUM_RANKED


def _p_value(entry: Entry, kd: Entry | None) -> float | None:
    return None if kd is None or entry is kd else paired_p_value(entry.scores, kd.scores)


def significantly_best(scores: Sequence[dict[int, float]]) -> bool:
    """Whether the first of the ranked scores has the seeds for a claim and is told apart from every other one."""
    if len(scores) < 2 or len(scores[0]) < MINIMUM_CLAIM:
        return False
    return not any(indistinguishable(scores[0], other) for other in scores[1:])


def _row(entry: Entry, context: Context, rank: tuple[int, int] | None, kd_p: float | None, best: bool) -> Row:
    top1 = estimate(list(entry.scores.values()))
    states = [state.state for state in context.states if state.method == entry.name]
    failed = sum(state in FAILED_STATES for state in states)
    teacher_top1 = context.teacher.test_top1 if context.teacher else None
    return Row(
        entry=entry,
        evidence=evidence(top1.n),
        rank=rank,
        best=best,
        failed=failed,
        unfinished=len(states) - failed,
        top1=top1,
        best_on_validation=mean([run.metrics.best_on_validation.test.top1 for run in entry.runs]),
        scratch_difference=_difference(entry, context.scratch),
        kd_difference=_difference(entry, context.kd),
        kd_p=kd_p,
        retention=top1.mean / teacher_top1 if teacher_top1 else None,
        gap_closed=_gap_closed(entry, top1.mean, context),
        agreement=_test_mean(entry, lambda test: test.teacher_agreement),
        negative_flips=_test_mean(entry, lambda test: test.negative_flips),
        ece=mean([run.headline().test.ece for run in entry.runs]),
        ece_noise_floor=mean([run.headline().test.ece_noise_floor for run in entry.runs]),
        nll=mean([run.headline().test.nll for run in entry.runs]),
        parameters=entry.latest.student.parameters,
        macs=entry.latest.student.macs,
        train_seconds=_train_seconds(entry),
    )


def _train_seconds(entry: Entry) -> float | None:
    known = [run.times.train_seconds for run in entry.runs if run.times.train_seconds is not None]
    return mean(known) if known else None


def _difference(entry: Entry, reference: Entry | None) -> Estimate | None:
    return None if reference is None or entry is reference else paired_estimate(entry.scores, reference.scores)


def _gap_closed(entry: Entry, top1: float, context: Context) -> float | None:
    if context.teacher is None or context.scratch is None or entry is context.scratch:
        return None
    return gap_closed(top1, list(context.scratch.scores.values()), context.teacher.test_top1)


def _test_mean(entry: Entry, metric: Callable[[SplitMetrics], float | None]) -> float | None:
    """Mean over all seeds; missing as soon as one seed lacks it, because a mean over other seeds is another number."""
    values = [metric(run.headline().test) for run in entry.runs]
    known = [value for value in values if value is not None]
    return mean(known) if len(known) == len(values) else None
