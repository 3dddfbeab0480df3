"""The columns of a board as people read them: one table that drives Markdown, LaTeX, HTML and the explanations."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kd_bench.results.leaderboard.known_metrics import GROUPS, Group
from kd_bench.results.leaderboard.metric import Metric
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.ranking import MINIMUM_RANKED
from kd_bench.results.statistics.simultaneous import Claim, Comparison
from kd_bench.results.text.formats import FORMATS, MISSING, p_value, percent, points

SELECTION_MARKS = {
    "last": "",
    "best_on_validation": "selected on validation",
    "best_on_test": "selected on the test split: too good",
    "ema": "moving average of the weights",
}
MARKS: dict[Claim, str] = {"better": "▲", "worse": "▼", "not separated": "≈"}
MARKS_EXPLAINED = "▲ better than KD, ▼ worse than KD, ≈ not separated from KD"
TRIALS = "tuning_trials"
Direction = Literal["ascending", "descending"]
ColumnGroup = Literal["row", "about"] | Group


@dataclass(frozen=True)
class Cell:
    """Content of a cell: ``text``, and ``note`` in a quieter voice.

    ``value`` is the number to sort by, ``None`` for missing. ``mark`` is the sign of what a difference shows and
    ``meaning`` says it in words; both are empty where nothing was tested. ``unclear``: the difference shows nothing.
    """

    text: str
    note: str = ""
    value: float | int | None = None
    unclear: bool = False
    mark: str = ""
    meaning: str = ""

    @property
    def marked(self) -> str:
        """The text behind its mark."""
        return f"{self.mark} {self.text}".lstrip()


@dataclass(frozen=True)
class Column:
    """A column; ``first`` is the direction in which the better or the more usual comes first.

    ``group`` is the group in which it is chosen; ``shown`` says that it is shown without being chosen.
    """

    key: str
    title: str
    explanation: str
    cell: Callable[[Row], Cell]
    group: ColumnGroup
    shown: bool = True
    numeric: bool = True
    first: Direction = "ascending"


def rank_text(rank: tuple[int, int] | None) -> str:
    """Format an interval of ranks, such as ``2–4``."""
    if rank is None:
        return MISSING
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def spread(value: Estimate, text: Callable[[float], str] = percent) -> str:
    """Format an interval as ``± 0.31``, or by its ends where it was cut to what is possible; empty without spread."""
    if value.low is None or value.high is None or value.low == value.high:
        return ""
    if math.isclose(value.low + value.high, 2 * value.mean, rel_tol=1e-9, abs_tol=1e-12):
        return f"± {text(value.high - value.mean)}"
    return f"[{text(value.low)}, {text(value.high)}]"


def runs_text(row: Row) -> str:
    """Count runs of the method's name without a record, such as ``1 failed, 2 unfinished``; empty without any."""
    counts = ((row.failed, "failed"), (row.unfinished, "unfinished"))
    return ", ".join(f"{number} {name}" for number, name in counts if number)


def _rank(row: Row) -> Cell:
    return Cell(rank_text(row.rank), value=row.rank[0] if row.rank else None)


def _method(row: Row) -> Cell:
    return Cell(row.entry.label, SELECTION_MARKS[row.entry.selection])


def _seeds(row: Row) -> Cell:
    label = "" if row.evidence == "ranked" else row.evidence
    note = ", ".join(part for part in (label, runs_text(row)) if part)
    return Cell(str(row.top1.n), f"({note})" if note else "", row.top1.n)


def _top1(row: Row) -> Cell:
    return Cell(percent(row.top1.mean), spread(row.top1), row.top1.mean)


def _difference(found: Comparison | None, reference: str) -> Cell:
    if found is None or found.difference is None:
        return Cell(MISSING)
    text = points(found.difference)
    if found.low is None or found.high is None:
        note = "[no spread]" if found.seeds >= MINIMUM_RANKED else f"[{found.seeds} pair{'s' * (found.seeds > 1)}]"
        return Cell(text, note, found.difference, unclear=True)
    separated = found.claim != "not separated"
    meaning = f"{found.claim} {'than' if separated else 'from'} {reference}"
    note = f"[{points(found.low)}, {points(found.high)}]"
    return Cell(text, note, found.difference, not separated, MARKS[found.claim], meaning)


def _p_value(found: Comparison | None) -> Cell:
    return _number(None if found is None else found.p_value, p_value)


def _number(value: float | None, text: Callable[[float], str] = percent) -> Cell:
    return Cell(MISSING) if value is None else Cell(text(value), value=value)


def _text(text: str) -> Cell:
    return Cell(text or MISSING)


def _metric(metric: Metric) -> Column:
    text = FORMATS[metric.unit]

    def cell(row: Row) -> Cell:
        value = row.metrics[metric.key]
        if value is None:
            return Cell(MISSING)
        floor = row.floors.get(metric.key)
        notes = spread(value, text) if value.n >= MINIMUM_RANKED else "", "" if floor is None else f"({text(floor)})"
        return Cell(text(value.mean), " ".join(filter(None, notes)), value.mean)

    direction: Direction = "ascending" if metric.lower else "descending"
    group = next(group for group, metrics in GROUPS.items() if metric in metrics)
    return Column(metric.key, metric.title, metric.explanation, cell, group, metric.shown, first=direction)


def _of(group: Group) -> Iterable[Column]:
    return (_metric(metric) for metric in GROUPS[group])


COLUMNS = (
    Column(
        "rank",
        "Rank",
        "Interval of the ranks that the seeds allow, such as 2–4: one row is shown better, and of the others so many"
        " are not shown worse. Rows that are not separated have a rank in common.",
        _rank,
        "row",
    ),
    Column(
        "method",
        "Method",
        "Name of the method, in brackets the hyperparameters in which rows of one name differ. The headline is the last"
        f" epoch; where a recipe says otherwise, the row says “{SELECTION_MARKS['best_on_validation']}”, or, where the"
        f" published numbers were made so, “{SELECTION_MARKS['best_on_test']}”.",
        _method,
        "row",
        numeric=False,
    ),
    Column(
        "seeds",
        "Seeds",
        "Finished runs, one a seed. Fewer than 5 are preliminary, fewer than 3 are not ranked. Failed and unfinished"
        " runs are known by the name of the method only.",
        _seeds,
        "row",
        first="descending",
    ),
    Column(
        "top1",
        "Test top-1 %",
        "Mean over the seeds ± half the width of the 95 % t interval of the mean, which is cut to 0 to 100 % and then"
        " shown by both ends.",
        _top1,
        "quality",
        first="descending",
    ),
    Column(
        "scratch_difference",
        "Δ scratch",
        "Difference to the same student without a teacher (the method scratch as it ships), in percentage points: mean"
        " over shared seeds, with its simultaneous 95 % interval over all pairs of the board. ▲ is better, ▼ worse, ≈"
        " not separated. Grey where nothing is shown. Fewer than 3 pairs of seeds are not tested, nor are seeds without"
        " spread: they differ by the same number of images, which says nothing about the next one.",
        lambda row: _difference(row.versus_scratch, "scratch"),
        "quality",
        shown=False,
        first="descending",
    ),
    Column(
        "scratch_p",
        "p vs scratch",
        "Two-sided p value of the difference to scratch, adjusted for all pairs of the board.",
        lambda row: _p_value(row.versus_scratch),
        "quality",
        shown=False,
    ),
    Column(
        "kd_difference",
        "Δ KD",
        "The same against plain knowledge distillation (the method kd as it ships).",
        lambda row: _difference(row.versus_kd, "KD"),
        "quality",
        first="descending",
    ),
    Column(
        "kd_p",
        "p vs KD",
        "Two-sided p value of the difference to KD, adjusted for all pairs of the board. It is below 0.05 exactly where"
        " the interval excludes 0.",
        lambda row: _p_value(row.versus_kd),
        "quality",
    ),
    Column(
        "gap_closed",
        "Gap closed %",
        "(method − scratch) / (teacher − scratch). Missing where the teacher is not better than scratch, or its"
        " advantage lies within the noise of the scratch seeds, or that noise is unknown.",
        lambda row: _number(row.gap_closed),
        "quality",
        first="descending",
    ),
    Column(
        "retention",
        "Retention %",
        "Top-1 of the student over top-1 of the teacher.",
        lambda row: _number(row.retention),
        "quality",
        shown=False,
        first="descending",
    ),
    Column(
        "retention_over_chance",
        "Over chance %",
        "The same with what guessing gets, 1 / number of classes, taken from both.",
        lambda row: _number(row.retention_over_chance),
        "quality",
        shown=False,
        first="descending",
    ),
    *_of("quality"),
    *_of("transfer"),
    *_of("fidelity"),
    *_of("calibration"),
    *_of("harm"),
    *_of("cost"),
    Column(
        "family",
        "Family",
        "What the method distils.",
        lambda row: _text(row.entry.latest.method.family),
        "about",
        shown=False,
        numeric=False,
    ),
    Column(
        "paper",
        "Paper",
        "Where the method comes from.",
        lambda row: _text(row.entry.latest.method.paper),
        "about",
        shown=False,
        numeric=False,
    ),
    Column(
        "finished",
        "Finished",
        "Day on which the latest of its runs finished, UTC.",
        lambda row: _text(row.entry.finished_on),
        "about",
        shown=False,
        numeric=False,
    ),
    Column(
        "commit",
        "Commit",
        "Of kd_bench, of its runs; + where files were changed.",
        lambda row: _text(", ".join(row.entry.commits)),
        "about",
        shown=False,
        numeric=False,
    ),
)

RANKS_EXPLAINED = (
    "Rows with at least 3 seeds are ordered by mean test top-1, and all pairs of them are compared as one family, by"
    " their differences on shared seeds: on a board of equal methods the chance that any two are separated is at most 5"
    " %. Ranks, intervals of differences, p values, signs, colour and bold come from this family, and so does the"
    " verdict of “kd-bench compare”. A rank such as “2–4” is an interval: 1 + the rows shown better, to the number of"
    " rows less those shown worse; rows that are not separated have a rank in common, and their order says nothing."
    " Signs mean "
    + MARKS_EXPLAINED
    + "; without one nothing was tested, for want of 3 shared seeds or of any spread. Bold is a row of at least 5 seeds"
    " that is shown better than all others, that is, of rank 1."
)
INTERVALS_EXPLAINED = (
    "Intervals of means are 95 % Student t intervals over seeds, cut to what the quantity can be, such as 0 to 100 %"
    " for accuracies and agreement, or 0 to 1 for ECE; a cut interval is shown by both ends. Intervals of differences"
    " are simultaneous. All cover the noise of training, not that of the test images, which all seeds share; a board"
    " states the latter above its table. “–” is missing: not measured, undefined, or the baseline itself. It sorts last"
    " in both directions and is never imputed."
)
SCOPE_EXPLAINED = (
    "A board compares runs on one dataset (by content) and split, with one teacher (by weights), one student network"
    " and one recipe. Runs without a teacher appear on every board of their dataset, student and recipe. Runs of one"
    " method with different hyperparameters, plugins or trials of a search are different rows. Only records are ranked:"
    " runs that failed or did not finish and files that were rejected are listed at the end."
)


def measured(rows: Iterable[Row]) -> frozenset[str]:
    """Return the keys of the columns that have something to show in at least one row."""
    left = {column.key: column for column in COLUMNS}
    found: set[str] = set()
    for row in rows:
        new = {key for key, column in left.items() if column.cell(row).text != MISSING}
        found |= new
        left = {key: column for key, column in left.items() if key not in new}
        if not left:
            break
    return frozenset(found)


def columns_of(rows: Sequence[Row]) -> list[Column]:
    """Return the default columns and all others that have something to show.

    The trials of a search are among the default columns where any row has some.
    """
    known = measured(rows)
    tuned = any(found.mean for row in rows if (found := row.metrics[TRIALS]) is not None)
    shown = [replace(column, shown=True) if tuned and column.key == TRIALS else column for column in COLUMNS]
    return [column for column in shown if column.shown or column.key in known]
