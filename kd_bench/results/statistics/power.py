"""Equivalence: whether a published number has been reproduced."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtr, stdtrit

from kd_bench.results.statistics.intervals import Estimate, mean, standard_error

SIGNIFICANCE = 0.05

Verdict = Literal["reproduced", "below", "above", "inconclusive"]


@dataclass(frozen=True)
class Equivalence:
    """The verdict on values and a published one, their difference with its interval, and the p value."""

    verdict: Verdict
    difference: Estimate
    p_value: float | None


@dataclass(frozen=True)
class Spread:
    """Standard deviation over a number of seeds, two or more."""

    deviation: float
    seeds: int


def equivalence(
    values: Sequence[float],
    published: float,
    tolerance: float,
    significance: float = SIGNIFICANCE,
    spread: Spread | None = None,
) -> Equivalence:
    """Make the two one-sided t tests of |mean - published| < tolerance (Schuirmann 1987).

    ``reproduced``: both reject, that is, the 1 - 2 · significance interval of the difference lies within
    ± tolerance. ``below`` and ``above``: that interval lies beyond the band. ``inconclusive``: it touches an end of the
    band, or there are fewer than two values. So without evidence nothing is reproduced, and nothing fails either.

    Args:
        values: one a seed, in the unit of ``published`` and ``tolerance``.
        spread: spread of the published mean, for Welch's tests (1947). Without it the published value counts as exact.
    """
    center = mean([value - published for value in values])
    if len(values) < 2:
        return Equivalence("inconclusive", Estimate(center, None, None, len(values)), None)
    error, degrees = _error(values, spread)
    half = float(stdtrit(degrees, 1 - significance)) * error
    difference = Estimate(center, center - half, center + half, len(values))
    verdict: Verdict = "inconclusive"
    if -tolerance < center - half and center + half < tolerance:
        verdict = "reproduced"
    elif center + half < -tolerance:
        verdict = "below"
    elif center - half > tolerance:
        verdict = "above"
    return Equivalence(verdict, difference, _one_sided(error, degrees, tolerance - abs(center)))


def _error(values: Sequence[float], spread: Spread | None) -> tuple[float, float]:
    """Return standard error and degrees of freedom of the difference (Welch-Satterthwaite where both means vary)."""
    measured = standard_error(values)
    if spread is None:
        return measured, len(values) - 1
    published = spread.deviation / math.sqrt(spread.seeds)
    error = math.hypot(measured, published)
    weights = (measured**4 / (len(values) - 1), published**4 / (spread.seeds - 1))
    return error, error**4 / sum(weights) if error else len(values) - 1


def _one_sided(error: float, degrees: float, margin: float) -> float:
    """Return the larger p value of the two tests; ``margin`` is left to the nearer end of the band."""
    if error == 0:
        return 0.0 if margin > 0 else 1.0
    return float(stdtr(degrees, -margin / error))
