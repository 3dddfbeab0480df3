"""The columns of a board as people read them: one table that drives Markdown, LaTeX, HTML and the explanations."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from kd_bench.results.leaderboard.known_metrics import GROUPS, Group
from kd_bench.results.leaderboard.metric import Metric
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.ranking import MINIMUM_RANKED
from kd_bench.results.text.formats import FORMATS, MISSING, half_width, p_value, percent, points, points_interval

SELECTION_MARKS = {
    "last": "",
    "best_on_validation": "selected on validation",
    "best_on_test": "selected on the test split: too good",
}
Direction = Literal["ascending", "descending"]
ColumnGroup = Literal["row", "about"] | Group


@dataclass(frozen=True)
class Cell:
    """Content of a cell: ``text``, and ``note`` in a quieter voice.

    ``value`` is the number to sort by, ``None`` for missing. ``unclear`` marks a difference whose interval contains 0.
    """

    text: str
    note: str = ""
    value: float | int | None = None
    unclear: bool = False


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
    """Format a rank or a band of ranks, such as ``2–4``."""
    if rank is None:
        return MISSING
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


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
    note = "" if row.top1.half_width is None else half_width(row.top1)
    return Cell(percent(row.top1.mean), note, row.top1.mean)


def _difference(value: Estimate | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    if value.low is None or value.high is None:
        return Cell(points(value.mean), "[1 pair]" if value.n == 1 else "[no spread]", value.mean, unclear=True)
    unclear = value.contains_zero or value.n < MINIMUM_RANKED
    return Cell(points(value.mean), points_interval(value), value.mean, unclear)


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
        varies = value.n >= MINIMUM_RANKED and value.half_width
        notes = [f"± {text(value.half_width)}"] if varies and value.half_width else []
        floor = row.floors.get(metric.key)
        notes += [] if floor is None else [f"({text(floor)})"]
        return Cell(text(value.mean), " ".join(notes), value.mean)

    direction: Direction = "ascending" if metric.lower else "descending"
    group = next(group for group, metrics in GROUPS.items() if metric in metrics)
    return Column(metric.key, metric.title, metric.explanation, cell, group, metric.shown, first=direction)


def _of(group: Group) -> Iterable[Column]:
    return (_metric(metric) for metric in GROUPS[group])


COLUMNS = (
    Column("rank", "Rank", "Ranks that the seeds cannot tell apart share a band, such as 2–4.", _rank, "row"),
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
        "Mean over the seeds ± half the width of the 95 % t interval of the mean.",
        _top1,
        "quality",
        first="descending",
    ),
    Column(
        "scratch_difference",
        "Δ scratch",
        "Difference to the same student without a teacher, in percentage points: mean over shared seeds, with the"
        " paired 95 % t interval. Grey where the interval contains 0 or fewer than 3 seeds are shared. No spread:"
        " the seeds differ by the same number of images, which says nothing about the next one.",
        lambda row: _difference(row.scratch_difference),
        "quality",
        first="descending",
    ),
    Column(
        "scratch_p",
        "p vs scratch",
        "Paired t test against scratch, adjusted by Holm's method for the number of ranked rows.",
        lambda row: _number(row.scratch_p, p_value),
        "quality",
        shown=False,
    ),
    Column(
        "kd_difference",
        "Δ KD",
        "The same against plain knowledge distillation (the method kd).",
        lambda row: _difference(row.kd_difference),
        "quality",
        first="descending",
    ),
    Column(
        "kd_p",
        "p vs KD",
        "Paired t test against KD, adjusted by Holm's method for the number of ranked rows.",
        lambda row: _number(row.kd_p, p_value),
        "quality",
    ),
    Column(
        "kd_detectable",
        "Detectable Δ KD",
        "The true difference to KD, in points, that these seeds would show as significant four times out of five."
        " A smaller one may be there without being found.",
        lambda row: _number(row.kd_detectable),
        "quality",
        shown=False,
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
        numeric=False,
    ),
    Column(
        "paper",
        "Paper",
        "Where the method comes from.",
        lambda row: _text(row.entry.latest.method.paper),
        "about",
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
    "Rows with at least 3 seeds are ordered by mean test top-1. The first row leads a band. Each next row joins the"
    " band while it cannot be told from the band's leader; the first that can leads the next band. Two rows cannot be"
    " told apart when the 95 % t interval of their differences by seed contains 0 (from 3 shared seeds), or else when"
    " the t intervals of their means overlap. “2–4” is one of the ranks 2 to 4; order within a band says nothing."
    " Bands are not corrected for the number of comparisons. Bold are the rows of the first band if each of them has at"
    " least 5 seeds and is told from every ranked row below the band; without that, nothing is bold."
)
INTERVALS_EXPLAINED = (
    "Intervals are 95 % Student t intervals over seeds. They cover the noise of training, not that of the test images,"
    " which all seeds share; a board states the latter above its table. “–” is missing: not measured, undefined, or the"
    " baseline itself. It sorts last in both directions and is never imputed."
)
SCOPE_EXPLAINED = (
    "A board compares runs on one dataset (by content) and split, with one teacher (by weights), one student network"
    " and one recipe. Runs without a teacher appear on every board of their dataset, student and recipe. Runs of one"
    " method with different hyperparameters are different rows. Only records are ranked: runs that failed or did not"
    " finish and files that were rejected are listed at the end."
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
