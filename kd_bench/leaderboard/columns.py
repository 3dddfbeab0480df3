"""The columns of a board as people read them: one table that drives Markdown, HTML and the explanations."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from kd_bench.leaderboard.rows import Row
from kd_bench.statistics import Estimate

MISSING = "–"
MINUS = "\u2212"
SELECTION_MARK = "selected on validation"
Direction = Literal["ascending", "descending"]


@dataclass(frozen=True)
class Cell:
    """What a cell shows: ``text``, and ``note`` in a quieter voice.

    ``value`` is what the cell sorts by, ``None`` for missing. ``unclear`` marks a difference whose interval contains 0.
    """

    text: str
    note: str = ""
    value: float | int | None = None
    unclear: bool = False


@dataclass(frozen=True)
class Column:
    """A column; ``first`` is the direction in which the better or the more usual comes first."""

    key: str
    title: str
    explanation: str
    cell: Callable[[Row], Cell]
    numeric: bool = True
    first: Direction = "ascending"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def points(difference: float) -> str:
    """A difference of fractions in percentage points, with its sign."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def half_width(value: Estimate) -> str:
    return MISSING if value.half_width is None else f"± {percent(value.half_width)}"


def count(value: int) -> str:
    """Such as ``1.23 M``: three digits, or an exponent where no network has as many."""
    if value >= 10**15:
        return f"{Decimal(value):.2e}"
    for scale, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"
    return str(value)


def seconds(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 1e7 else f"{value:.2e}"


def rank_text(rank: tuple[int, int] | None) -> str:
    if rank is None:
        return MISSING
    return str(rank[0]) if rank[0] == rank[1] else f"{rank[0]}–{rank[1]}"


def runs_text(row: Row) -> str:
    """Runs of the method's name without a record, such as ``1 failed, 2 unfinished``; empty without any."""
    counts = ((row.failed, "failed"), (row.unfinished, "unfinished"))
    return ", ".join(f"{number} {name}" for number, name in counts if number)


def _rank(row: Row) -> Cell:
    return Cell(rank_text(row.rank), value=row.rank[0] if row.rank else None)


def _method(row: Row) -> Cell:
    return Cell(row.entry.label, SELECTION_MARK if row.entry.selection != "last" else "")


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
        return Cell(points(value.mean), "[1 pair]", value.mean, unclear=True)
    return Cell(
        points(value.mean), f"[{points(value.low)}, {points(value.high)}]", value.mean, unclear=value.contains_zero
    )


def _percent(value: float | None) -> Cell:
    return Cell(MISSING) if value is None else Cell(percent(value), value=value)


def _p_value(value: float | None) -> Cell:
    if value is None:
        return Cell(MISSING)
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value=value)


def _decimals(value: float) -> str:
    return f"{value:.3f}" if value < 1e4 else f"{value:.2e}"


COLUMNS = (
    Column("rank", "Rank", "Ranks that the seeds cannot tell apart share a band, such as 2–4.", _rank),
    Column(
        "method",
        "Method",
        "Name of the method, in brackets the hyperparameters in which rows of one name differ. The headline is the last"
        f" epoch; where a recipe says otherwise, the row says “{SELECTION_MARK}”.",
        _method,
        numeric=False,
    ),
    Column(
        "seeds",
        "Seeds",
        "Finished runs, one a seed. Fewer than 5 are preliminary, fewer than 3 are not ranked. Failed and unfinished"
        " runs are known by the name of the method only.",
        _seeds,
        first="descending",
    ),
    Column(
        "top1",
        "Test top-1 %",
        "Mean over the seeds ± half the width of the 95 % t interval of the mean.",
        _top1,
        first="descending",
    ),
    Column(
        "scratch_difference",
        "Δ scratch",
        "Difference to the same student without a teacher, in percentage points: mean over shared seeds, with the"
        " paired 95 % t interval. Grey where the interval contains 0.",
        lambda row: _difference(row.scratch_difference),
        first="descending",
    ),
    Column(
        "kd_difference",
        "Δ KD",
        "The same against plain knowledge distillation (the method kd).",
        lambda row: _difference(row.kd_difference),
        first="descending",
    ),
    Column(
        "kd_p",
        "p vs KD",
        "Paired t test against KD, adjusted by Holm's method for the number of ranked rows.",
        lambda row: _p_value(row.kd_p),
    ),
    Column(
        "best_on_validation",
        "Best on validation %",
        "Test top-1 of the epoch that was best on the validation split. The test split never selects.",
        lambda row: _percent(row.best_on_validation),
        first="descending",
    ),
    Column(
        "retention",
        "Retention %",
        "Top-1 of the student over top-1 of the teacher.",
        lambda row: _percent(row.retention),
        first="descending",
    ),
    Column(
        "gap_closed",
        "Gap closed %",
        "(method − scratch) / (teacher − scratch). Missing where the teacher is not better than scratch, or its"
        " advantage lies within the noise of the scratch seeds, or that noise is unknown.",
        lambda row: _percent(row.gap_closed),
        first="descending",
    ),
    Column(
        "agreement",
        "Agreement %",
        "Share of test images on which student and teacher predict the same class.",
        lambda row: _percent(row.agreement),
        first="descending",
    ),
    Column(
        "negative_flips",
        "Negative flips %",
        "Share of test images that the teacher gets right and the student wrong.",
        lambda row: _percent(row.negative_flips),
    ),
    Column(
        "ece",
        "ECE",
        "Expected calibration error, 15 equal-width bins; in brackets the mean of a perfectly calibrated model on a"
        " test split of this size. Less than that is luck.",
        lambda row: Cell(_decimals(row.ece), f"({_decimals(row.ece_noise_floor)})", row.ece),
    ),
    Column(
        "nll",
        "NLL",
        "Negative log-likelihood of the test labels, nats per image.",
        lambda row: Cell(_decimals(row.nll), value=row.nll),
    ),
    Column(
        "parameters",
        "Parameters",
        "Of everything needed at test time.",
        lambda row: Cell(count(row.parameters), value=row.parameters),
    ),
    Column(
        "macs",
        "MACs",
        "Multiply-accumulates of one image at test time.",
        lambda row: Cell(count(row.macs), value=row.macs),
    ),
    Column(
        "train_seconds",
        "Train s",
        "Wall-clock seconds of training, mean over the seeds, on whatever machine ran them; without the teacher's.",
        lambda row: Cell(seconds(row.train_seconds), value=row.train_seconds),
    ),
    Column("family", "Family", "What the method distils.", lambda row: Cell(row.entry.latest.method.family), False),
    Column("paper", "Paper", "Where the method comes from.", lambda row: Cell(row.entry.latest.method.paper), False),
)

RANKS_EXPLAINED = (
    "Rows with at least 3 seeds are ordered by mean test top-1. The first row leads a band. Each next row joins the"
    " band while it cannot be told from the band's leader; the first that can leads the next band. Two rows cannot be"
    " told apart when the 95 % t interval of their differences by seed contains 0 (from 3 shared seeds), or else when"
    " the t intervals of their means overlap. “2–4” is one of the ranks 2 to 4; order within a band says nothing."
    " Bands are not corrected for the number of comparisons. Bold is a row with at least 5 seeds that is told"
    " from every other ranked row; without such a row nothing is bold."
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
