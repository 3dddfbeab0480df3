"""Formats of numbers for people: percent, points, counts, times. Nothing here depends on a locale."""

from collections.abc import Callable
from decimal import Decimal
from typing import Literal

from kd_bench.results.statistics.intervals import Estimate

MISSING = "–"
MINUS = "\u2212"

Unit = Literal["percent", "decimal", "ratio", "count", "bytes", "seconds"]


def percent(fraction: float) -> str:
    """Format a fraction in percent, such as ``91.25``."""
    return f"{100 * fraction:.2f}".replace("-", MINUS)


def points(difference: float) -> str:
    """Format a difference of fractions in percentage points, with its sign."""
    text = f"{100 * difference:+.2f}"
    return "0.00" if float(text) == 0 else text.replace("-", MINUS)


def points_interval(value: Estimate) -> str:
    """Format both ends of the interval of a difference, in percentage points; empty where there is none."""
    return "" if value.low is None or value.high is None else f"[{points(value.low)}, {points(value.high)}]"


def half_width(value: Estimate) -> str:
    """Format half the width of the interval in percent, such as ``± 0.31``."""
    return MISSING if value.half_width is None else f"± {percent(value.half_width)}"


def count(value: float) -> str:
    """Format a count such as ``1.23 M``: three digits, or an exponent where no network has as many."""
    if value >= 10**15:
        return f"{Decimal(value):.2e}"
    for scale, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= scale:
            scaled = value / scale
            return f"{scaled:.{2 if scaled < 10 else 1 if scaled < 100 else 0}f} {unit}"
    return f"{value:.3g}"


def size(value: float) -> str:
    """Format bytes such as ``1.23 MB``; a kilobyte is 1000 of them."""
    return count(value) + ("B" if value >= 1000 else " B")


def seconds(value: float | None) -> str:
    """Format seconds, with a decimal below 100."""
    if value is None:
        return MISSING
    return f"{value:.1f}" if value < 100 else f"{value:.0f}" if value < 1e7 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """Format a duration in the unit that suits it, such as ``31 min`` or ``608 days``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 100 else f"{hours / 24:,.{1 if hours < 240 else 0}f} days"


def estimate(seconds: float, jobs: int) -> str:
    """Format the estimated time of many runs: ``about 2.0 h, one run at a time, at best 60 min with --jobs 2``."""
    at_a_time = f", at best {duration(seconds / jobs)} with --jobs {jobs}" if jobs > 1 else ""
    return f"about {duration(seconds)}, one run at a time{at_a_time}"


def decimal(value: float) -> str:
    """Format three decimals, or an exponent from 10,000 on."""
    return f"{value:.3f}".replace("-", MINUS) if abs(value) < 1e4 else f"{value:.2e}"


def significant(value: float) -> str:
    """Format three significant digits, for values that span powers of ten."""
    return f"{value:.3g}" if 1e-3 <= value < 1000 else f"{value:.0f}" if value < 1e7 else f"{value:.2e}"


def p_value(value: float) -> str:
    """Format a p value, such as ``0.031`` or ``< 0.001``; 0.001, the least that a family finds, is ``≤ 0.001``."""
    return "< 0.001" if value < 0.001 else "≤ 0.001" if value == 0.001 else f"{value:.3f}"


FORMATS: dict[Unit, Callable[[float], str]] = {
    "percent": percent,
    "decimal": decimal,
    "ratio": significant,
    "count": count,
    "bytes": size,
    "seconds": seconds,
}
