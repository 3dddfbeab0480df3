"""Intervals, paired tests and rank bands of results over seeds.

Everything here is a pure function of numbers. Accuracies come in and go out as fractions in [0, 1], never percent.
Scores of a method are a mapping from seed to value, so that two methods can be compared on the seeds they share
("paired"): a shared seed means the same teacher, split and data order, and most of the noise of training cancels in the
difference (Bouthillier et al. 2021, arXiv:2103.03098).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import ndtri, stdtr, stdtrit

CONFIDENCE = 0.95
MINIMUM_RANKED = 3
MINIMUM_CLAIM = 5

Scores = Mapping[int, float]
Evidence = Literal["ranked", "preliminary", "too few runs", "single run", "no runs"]


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and the ends of its confidence interval, which are ``None`` below two values."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def contains_zero(self) -> bool:
        """Whether 0 cannot be excluded: it lies in the interval, ends included, or there is no interval."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean, from a sum without rounding errors and therefore independent of the order of the values.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("the mean of no values is undefined")
    try:
        return math.fsum(values) / len(values)
    except OverflowError:
        return math.fsum(value / len(values) for value in values)


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean: the sample standard deviation (divisor n - 1) over the square root of n."""
    center = mean(values)
    squares = math.fsum((value - center) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Student's t interval of a mean: mean ± t(1 - (1 - confidence) / 2, n - 1) · s / √n (Student 1908).

    In the unit of the values. ``None`` below two values, where the spread is unknown. Equal values give an interval of
    width 0, which is what the formula says and not a promise that the next seed will agree.
    """
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    center, half = mean(values), quantile * standard_error(values)
    return center - half, center + half


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean and t interval.

    Raises:
        ValueError: there are no values.
    """
    low, high = t_interval(values, confidence) or (None, None)
    return Estimate(mean(values), low, high, len(values))


def paired_differences(scores: Scores, baseline: Scores) -> list[float]:
    """``scores`` minus ``baseline`` on the seeds that both have, by ascending seed. No seed is imputed."""
    return [scores[seed] - baseline[seed] for seed in sorted(scores.keys() & baseline.keys())]


def paired_estimate(scores: Scores, baseline: Scores, confidence: float = CONFIDENCE) -> Estimate | None:
    """Mean difference by seed and its t interval, on the ``n`` shared seeds; ``None`` where no seed is shared.

    In the unit of the scores: a difference of accuracies is a fraction (0.01 is one percentage point).
    """
    differences = paired_differences(scores, baseline)
    return estimate(differences, confidence) if differences else None


def paired_p_value(scores: Scores, baseline: Scores) -> float | None:
    """Two-sided p value of the paired t test: 2 · P(T(n - 1) <= -|t|), t = mean difference / (s / √n).

    ``None`` below two shared seeds. Differences without any spread take the limit: 1 where they are all 0, else 0.
    """
    differences = paired_differences(scores, baseline)
    if len(differences) < 2:
        return None
    center, error = mean(differences), standard_error(differences)
    if error == 0:
        return 1.0 if center == 0 else 0.0
    return float(2 * stdtr(len(differences) - 1, -abs(center) / error))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment for testing several methods against one baseline (Holm 1979).

    The i-th smallest of m p values becomes the largest of (m - j + 1) · p(j) over j <= i, at most 1. ``None`` marks a
    test that was not made: it stays ``None`` and does not count towards m.
    """
    adjusted: list[float | None] = [None] * len(p_values)
    known = sorted((value, position) for position, value in enumerate(p_values) if value is not None)
    largest = 0.0
    for rank, (value, position) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - rank) * value))
        adjusted[position] = largest
    return adjusted


def gap_closed(student: float, scratch: Sequence[float], teacher: float) -> float | None:
    """Share of the teacher's advantage that the student gains: (student - scratch) / (teacher - scratch).

    All are accuracies as fractions: the mean of the distilled student, every seed of the student trained without a
    teacher, and the teacher. 0 is no gain, 1 is the teacher, above 1 is better than the teacher, below 0 is harm.

    ``None``, "undefined", where the denominator says nothing: the teacher is no better than the mean of scratch, its
    advantage lies within the noise of scratch (the t interval of teacher - scratch contains 0), or that noise is
    unknown because scratch has fewer than two seeds.
    """
    if len(scratch) < 2:
        return None
    advantage = estimate([teacher - value for value in scratch])
    if advantage.mean <= 0 or advantage.contains_zero:
        return None
    return (student - mean(scratch)) / advantage.mean


def evidence(n: int) -> Evidence:
    """What ``n`` seeds can carry: from 5 a claim, 3 and 4 a preliminary one, fewer none.

    Two seeds are not a "single run", but a t interval with one degree of freedom is 12.7 standard errors to each side:
    they are labelled "too few runs" and treated alike.
    """
    if n >= MINIMUM_CLAIM:
        return "ranked"
    if n >= MINIMUM_RANKED:
        return "preliminary"
    return "too few runs" if n == 2 else "single run" if n == 1 else "no runs"


def indistinguishable(first: Scores, second: Scores) -> bool:
    """Whether two methods are tied at 95 %: nothing in their seeds tells their means apart.

    With three or more shared seeds: the paired t interval of the difference contains 0. With fewer, the t intervals of
    the two means overlap; this is the more cautious of the two, and a method without an interval ties with all.
    """
    paired = paired_estimate(first, second)
    if paired is not None and paired.n >= MINIMUM_RANKED:
        return paired.contains_zero
    one, other = t_interval(list(first.values())), t_interval(list(second.values()))
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


def rank_bands(scores: Sequence[Scores]) -> list[tuple[int, int]]:
    """Ranks with ties, as the first and the last rank of each method's band; ``scores`` come by descending mean.

    The first method leads the first band. Each next one joins the band while it is ``indistinguishable`` from the
    band's leader; the first that is not leads the next band. So (2, 4) is one of the ranks 2 to 4. Within a band the
    order is that of the means and says nothing; the comparisons are not corrected for their number.
    """
    leaders: list[int] = []
    for position, candidate in enumerate(scores):
        if not leaders or not indistinguishable(scores[leaders[-1]], candidate):
            leaders.append(position)
    ends = [*leaders[1:], len(scores)]
    return [(start + 1, end) for start, end in zip(leaders, ends, strict=False) for _ in range(start, end)]


def sampling_half_width(accuracy: float, samples: int, confidence: float = CONFIDENCE) -> float | None:
    """Half width of an accuracy's interval from the finite test set alone: z · √(p (1 - p) / N), as a fraction.

    The normal approximation of the binomial; intervals over seeds do not contain this part, because all seeds are
    tested on the same samples. ``None`` without samples.
    """
    if samples < 1:
        return None
    return float(ndtri((1 + confidence) / 2)) * math.sqrt(accuracy * (1 - accuracy) / samples)
