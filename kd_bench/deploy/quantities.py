"""Quantities that rules bound: a metric of the runs of a subject, absolute or against a reference, with its interval.

Everything is a function of records. A quantity that cannot be had says why, and the command that would bring it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

from kd_bench.deploy.parts import class_quantities, group_quantities
from kd_bench.deploy.subject import Quantity, Subject
from kd_bench.errors import nearest
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.aggregates import gap_interval
from kd_bench.results.statistics.intervals import Estimate, estimate, mean
from kd_bench.results.statistics.paired import ROUNDING
from kd_bench.results.statistics.ranking import gap_closed

GAP_CLOSED = "gap_closed"
LATENCY_RATIO = "latency_ratio"
OF_RUNS = {
    "top1": "headline.test.top1",
    "retention": "headline.test.retention",
    "retention_over_chance": "headline.test.retention_over_chance",
}
PATHS = {**OF_RUNS, **{key: metric.path for key, metric in METRICS.items()}}
NAMES = (*PATHS, GAP_CLOSED)
KINDS = ("method", "run")
# Numbers of the teacher in the record of its student, by metric; the others come from the teacher's own record.
OF_TEACHER = {
    "top1": "teacher.test_top1",
    "parameters": "teacher.parameters",
    "macs": "teacher.macs",
    "file_bytes": "teacher.file_bytes",
    "corrupted_top1": "full.corruptions.teacher_mean_top1",
    "cifar_c_top1": "full.cifar_c.teacher_mean_top1",
    **{
        key: metric.path.replace(".student.", ".teacher.")
        for key, metric in METRICS.items()
        if metric.path.startswith(("full.latency.student.", "full.transfer."))
    },
}

Compare = Literal["difference", "ratio"]
Values = Mapping[int, float]


def check_reference(name: str) -> None:
    """Raise ValueError unless ``name`` is ``teacher``, ``method:NAME`` or ``run:ID``."""
    kind, colon, rest = name.partition(":")
    if name != "teacher" and not (colon and rest and kind in KINDS):
        raise ValueError(f"against: {name!r} is neither teacher nor method:NAME nor run:ID{nearest(name, ['teacher'])}")


def quantities(metric: str, against: str | None, compare: Compare, by: str | None, subject: Subject) -> list[Quantity]:
    """Return the quantity of a rule: one, or one a class or group.

    Args:
        metric: one of ``NAMES``.
        against: as in a rule; absolute if None.
        by: ``class``, ``group`` or None.
    """
    if by == "class":
        return class_quantities(subject, against is not None)
    if by == "group":
        return group_quantities(subject, against is not None)
    return [_whole(metric, against, compare, subject)]


def _whole(metric: str, against: str | None, compare: Compare, subject: Subject) -> Quantity:
    if metric == GAP_CLOSED:
        return _gap_closed(subject) if against is None else Quantity(reason="gap_closed is relative already")
    values = _values(metric, subject.runs)
    if values is None:
        return _not_measured(metric, subject)
    if against is None:
        found = Quantity(_estimate(values, _fixed(metric)), fixed=_fixed(metric))
        return _with_processes(found, subject) if metric == LATENCY_RATIO else found
    return _against(metric, against, compare, values, subject)


def _against(metric: str, against: str, compare: Compare, values: Values, subject: Subject) -> Quantity:
    kind, _, name = against.partition(":")
    if kind == "teacher":
        reference = teacher_values(metric, subject)
        missing = f"{metric} of the teacher is not measured, or its own run is not among the records"
    elif kind == "method":
        reference, missing = _of_method(metric, name, subject)
    else:
        reference, missing = _of_run(metric, name, subject)
    if reference is None:
        return Quantity(reason=missing, command=_bringing(metric, subject))
    shared = sorted(values.keys() & reference.keys())
    if not shared:
        return Quantity(reason=f"no seed in common with {against}")
    compared = {seed: _compared(values[seed], reference[seed], compare) for seed in shared}
    if not all(map(math.isfinite, compared.values())):
        return Quantity(reason=f"{metric} of {against} is 0 or not finite: there is no ratio")
    return Quantity(_estimate(compared, _fixed(metric)), fixed=_fixed(metric))


def _compared(value: float, reference: float, compare: Compare) -> float:
    if compare == "difference":
        return value - reference
    return value / reference if reference else math.nan


def _values(metric: str, runs: Iterable[Record]) -> Values | None:
    """Return the metric by seed; None as soon as one run lacks it, since the mean of the others is another number."""
    found = {run.seed: value_at(run, PATHS[metric]) for run in runs}
    finite = {seed: float(value) for seed, value in found.items() if value is not None and math.isfinite(value)}
    return finite if finite and len(finite) == len(found) else None


def teacher_values(metric: str, subject: Subject) -> Values | None:
    """Return the metric of the teacher by seed of the students; None unless it is known for all of them."""
    found: dict[int, float] = {}
    for run in subject.runs:
        value = value_at(run, OF_TEACHER[metric]) if metric in OF_TEACHER and run.teacher else None
        own = subject.records.get(run.teacher.run_id or "") if run.teacher else None
        if value is None and own is not None and run.teacher and _same_network(own, run):
            value = value_at(own, PATHS[metric])
        if value is None or not math.isfinite(value):
            return None
        found[run.seed] = float(value)
    return found


def _same_network(own: Record, run: Record) -> bool:
    """Whether the teacher's own record tells of the very weights and data that its student had."""
    same_weights = run.teacher is not None and own.student.weights_sha256 == run.teacher.weights_sha256
    return same_weights and own.dataset.content_sha256 == run.dataset.content_sha256


def _of_method(metric: str, name: str, subject: Subject) -> tuple[Values | None, str]:
    rows = [row for row in subject.board.rows if name in (row.entry.name, row.entry.label)] if subject.board else []
    if len(rows) != 1:
        found = "no finished run" if not rows else f"{len(rows)} configurations"
        return None, f"{found} of {name} on the board of {subject.title}"
    return _values(metric, rows[0].entry.runs), f"{metric} of {name} is not measured for all of its seeds"


def _of_run(metric: str, name: str, subject: Subject) -> tuple[Values | None, str]:
    earlier = subject.records.get(name)
    if earlier is None:
        return None, f"no finished run {name} among the records"
    if earlier.dataset.content_sha256 != subject.runs[0].dataset.content_sha256:
        return None, f"run {name} has other data"
    values = _values(metric, [earlier])
    if values is None:
        return None, f"{metric} of run {name} is not measured"
    return {run.seed: values[earlier.seed] for run in subject.runs}, ""


def _gap_closed(subject: Subject) -> Quantity:
    board, runs = subject.board, subject.runs
    if board is None or board.teacher is None or board.scratch is None:
        return Quantity(reason="gap_closed needs a teacher and finished runs of scratch on the same board")
    scratch, teacher = list(board.scratch.entry.scores.values()), board.teacher.test_top1
    gaps = [gap_closed(run.headline().test.top1, scratch, teacher) for run in runs]
    known = [gap for gap in gaps if gap is not None]
    if len(known) < len(gaps):
        return Quantity(reason="undefined: the teacher's advantage over scratch lies within the noise of its seeds")
    low, high = gap_interval([[gap] for gap in known], [scratch], [teacher]) or (None, None)
    return Quantity(Estimate(mean(known), low, high, len(known)))


def _fixed(metric: str) -> bool:
    """Whether configuration alone decides the number, which therefore has no noise of training."""
    return PATHS[metric].startswith(("student.", "method.", "config."))


def _estimate(values: Values, fixed: bool) -> Estimate:
    numbers = list(values.values())
    if max(numbers) - min(numbers) <= ROUNDING:  # a spread that is unknown, unless there is none by nature
        same = numbers[0] if fixed else None
        return Estimate(mean(numbers), same, same, len(numbers))
    return estimate(numbers)


def _with_processes(found: Quantity, subject: Subject) -> Quantity:
    """Give the latency ratio of one run its own interval, over the processes that timed it."""
    if len(subject.runs) > 1 or found.estimate is None:
        return found
    full = subject.runs[0].full
    ratio = full.latency.p50_ratio if full and full.latency else None
    if ratio is None or ratio.low is None or full is None or full.latency is None:
        return found
    return replace(
        found, estimate=Estimate(ratio.mean, ratio.low, ratio.high, full.latency.processes), unit="processes"
    )


def _not_measured(metric: str, subject: Subject) -> Quantity:
    lacking = [run for run in subject.runs if value_at(run, PATHS[metric]) is None]
    seeds = ", ".join(str(run.seed) for run in lacking)
    reason = f"{metric} is not measured for seed {seeds}" if lacking else f"{metric} is not a finite number"
    return Quantity(reason=reason, command=_bringing(metric, subject))


def _bringing(metric: str, subject: Subject) -> str:
    """Return the command that would measure a metric; empty where there is none."""
    path = PATHS[metric]
    if path.startswith("full."):
        section = SECTIONS.get(path.split(".")[1], "")
        return subject.evaluation(f"--full --write evaluation.sections=[{section}]")
    return subject.evaluation("--write") if path.startswith("headline.") else ""


SECTIONS = {
    "embedding_cka": "embeddings",
    "train_fidelity": "train_fidelity",
    "corruptions": "corruptions",
    "cifar_c": "corruptions",
    "transfer": "transfer",
    "latency": "latency",
}
