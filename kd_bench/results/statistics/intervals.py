"""Means over seeds and their intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri, stdtrit

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean over ``n`` values and the ends of its confidence interval, which are ``None`` below two values."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def half_width(self) -> float | None:
        """Half the width of the interval, which is symmetric unless it is clipped; None where there is none."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    @property
    def contains_zero(self) -> bool:
        """Whether 0 cannot be excluded: it lies in the interval, ends included, or there is no interval."""
        return self.low is None or self.high is None or self.low <= 0 <= self.high


def mean(values: Sequence[float]) -> float:
    """Return the arithmetic mean, from a sum without rounding errors and thus independent of the order of the values.

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
    """Return the standard error of the mean: the sample standard deviation (divisor n - 1) over √n."""
    center = mean(values)
    squares = math.fsum((value - center) ** 2 for value in values)
    return math.sqrt(squares / (len(values) - 1) / len(values))


def t_interval(values: Sequence[float], confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """Return Student's t interval of a mean: mean ± t(1 - (1 - confidence) / 2, n - 1) · s / √n (Student 1908).

    The unit is that of the values. ``None`` below two values, where the spread is unknown. Equal values give an
    interval of width 0, which the formula says and which is no promise that the next seed will agree.
    """
    if len(values) < 2:
        return None
    quantile = float(stdtrit(len(values) - 1, (1 + confidence) / 2))
    center, half = mean(values), quantile * standard_error(values)
    return center - half, center + half


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Return mean and t interval.

    Raises:
        ValueError: there are no values.
    """
    low, high = t_interval(values, confidence) or (None, None)
    return Estimate(mean(values), low, high, len(values))


def clipped(value: Estimate, least: float, most: float) -> Estimate:
    """Cut the interval of a bounded quantity, such as an accuracy, to what it can be."""
    if value.low is None or value.high is None:
        return value
    low, high = (least if value.low < least else value.low), (most if value.high > most else value.high)
    return Estimate(value.mean, low, high, value.n)


def sampling_half_width(accuracy: float, samples: int, confidence: float = CONFIDENCE) -> float | None:
    """Return half the width of an accuracy's interval from the finite test set alone: z · √(p (1 - p) / N), a fraction.

    It is the normal approximation of the binomial. Intervals over seeds do not contain this part, because all seeds
    are tested on the same samples. ``None`` without samples.
    """
    if samples < 1:
        return None
    return float(ndtri((1 + confidence) / 2)) * math.sqrt(accuracy * (1 - accuracy) / samples)
