"""What so many seeds can show at all, and whether a number has been reproduced."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import nctdtr, stdtr, stdtrit

from kd_bench.statistics.intervals import Estimate, estimate, standard_error

SIGNIFICANCE = 0.05
POWER = 0.8

Verdict = Literal["reproduced", "below", "above", "inconclusive"]


def minimum_detectable_difference(
    deviation: float, seeds: int, paired: bool = False, power: float = POWER, significance: float = SIGNIFICANCE
) -> float | None:
    """The true difference of two means that a two-sided t test finds with probability ``power``.

    In the unit of ``deviation``. A difference that is smaller may be there without being found. Found by bisection on
    the power of the noncentral t distribution.

    Args:
        deviation: standard deviation over seeds, of each method; of the differences where ``paired``.
        seeds: of each method. None below two.
    """
    if seeds < 2:
        return None
    degrees = seeds - 1 if paired else 2 * (seeds - 1)
    scale = math.sqrt((1 if paired else 2) / seeds)
    critical = float(stdtrit(degrees, 1 - significance / 2))

    def found(effect: float) -> float:
        return float(1 - nctdtr(degrees, effect, critical) + nctdtr(degrees, effect, -critical))

    low, high = 0.0, 1.0
    while found(high) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if found(middle) < power else (low, middle)
    return high * scale * deviation


def smallest_wilcoxon_p(pairs: int) -> float:
    """The least two-sided p value of Wilcoxon's exact signed-rank test: 2 / 2^n, all differences of one sign."""
    return min(1.0, 2.0 ** (1 - pairs))


def smallest_mann_whitney_p(first: int, second: int) -> float:
    """The least two-sided p value of the exact Mann-Whitney test: 2 over (n + m choose n), samples without overlap."""
    return min(1.0, 2 / math.comb(first + second, first))


@dataclass(frozen=True)
class Equivalence:
    """Whether values agree with a published one: the verdict, their difference with its interval, the p value."""

    verdict: Verdict
    difference: Estimate
    p_value: float | None


def equivalence(
    values: Sequence[float], published: float, tolerance: float, significance: float = SIGNIFICANCE
) -> Equivalence:
    """Two one-sided t tests of |mean - published| < tolerance (Schuirmann 1987).

    ``reproduced``: both reject, which is where the 1 - 2 · significance interval of the difference lies within
    ± tolerance. ``below`` and ``above``: that interval lies beyond the band. ``inconclusive``: it touches an end of the
    band, or there are fewer than two values. So without evidence nothing is reproduced, and nothing fails either.

    Args:
        values: one a seed, in the unit of ``published`` and ``tolerance``.
    """
    difference = estimate([value - published for value in values], 1 - 2 * significance)
    if difference.low is None or difference.high is None:
        return Equivalence("inconclusive", difference, None)
    verdict: Verdict = "inconclusive"
    if -tolerance < difference.low and difference.high < tolerance:
        verdict = "reproduced"
    elif difference.high < -tolerance:
        verdict = "below"
    elif difference.low > tolerance:
        verdict = "above"
    return Equivalence(verdict, difference, _one_sided(values, tolerance - abs(difference.mean)))


def _one_sided(values: Sequence[float], margin: float) -> float:
    """p value of the one of the two tests that is harder to reject; ``margin`` is left to the nearer end."""
    error = standard_error(values)
    if error == 0:
        return 0.0 if margin > 0 else 1.0
    return float(stdtr(len(values) - 1, -margin / error))
