"""Aggregates of several pairs or data sets, as of Agarwal et al. 2021, "Deep RL at the edge of the statistical
precipice" (arXiv:2108.13264).

Scores are arrays (N, M): N seeds of each of M pairs or data sets, normalised so that pairs are comparable, such as the
gap closed. Pairs that lack a seed are left out by the caller, never imputed.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kd_bench.statistics.intervals import CONFIDENCE

TRIMMED = 0.25
DRAWS = 2_000

Array = NDArray[np.float64]


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all values: a quarter of them, rounded down, is left out at either end."""
    values = np.sort(_scores(scores), axis=None)
    trimmed = int(TRIMMED * len(values))
    return float(values[trimmed : len(values) - trimmed].mean())


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """By how much the scores fall short of ``target`` on average; what is above it counts as reaching it."""
    return float(target - np.minimum(_scores(scores), target).mean())


def performance_profile(scores: ArrayLike, thresholds: Sequence[float]) -> list[float]:
    """For each threshold the share of all values above it."""
    values = _scores(scores)
    return [float((values > threshold).mean()) for threshold in thresholds]


def probability_of_improvement(scores: ArrayLike, baseline: ArrayLike) -> float:
    """How likely a run of one method beats a run of another on a random pair, ties counting one half.

    P(X > Y) + P(X = Y) / 2 for each pair, which is the Mann-Whitney statistic over N · N', averaged over the pairs.

    Args:
        scores, baseline: (N, M) and (N', M).
    """
    ours, theirs = _scores(scores), _scores(baseline)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"the methods have scores on {ours.shape[1]} and {theirs.shape[1]} pairs")
    return float((np.sign(ours[:, None] - theirs[None]) / 2 + 0.5).mean())


def stratified_interval(
    statistic: Callable[..., float],
    *groups: ArrayLike,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Bootstrap interval of a statistic of one or more arrays of scores: seeds are drawn anew, pair by pair.

    Percentiles cover too little with few seeds, because the spread of n values drawn from n is smaller by (n - 1) / n
    in variance. The interval is therefore widened about the statistic by √(n / (n - 1)), n the fewest seeds.

    Returns:
        None with fewer than two seeds, which have no spread.
    """
    arrays = [_scores(group) for group in groups]
    fewest = min(len(array) for array in arrays)
    if fewest < 2:
        return None
    random = np.random.RandomState(seed)  # one stream in every version of numpy
    drawn = [statistic(*(_drawn(array, random) for array in arrays)) for _ in range(draws)]
    center = statistic(*arrays)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    wider = float(np.sqrt(fewest / (fewest - 1)))
    return center + wider * (float(low) - center), center + wider * (float(high) - center)


def _drawn(scores: Array, random: np.random.RandomState) -> Array:
    return np.take_along_axis(scores, random.randint(len(scores), size=scores.shape), axis=0)


def _scores(values: ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"scores should be finite numbers (seeds, pairs), not an array of shape {scores.shape}")
    return scores
