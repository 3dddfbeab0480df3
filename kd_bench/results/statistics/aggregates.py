"""Aggregates over several pairs or data sets (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice",
arXiv:2108.13264).

Scores are arrays (N, M): N seeds of each of M pairs or data sets, normalised so that pairs are comparable, such as the
gap closed. Pairs that lack a seed are left out by the caller, never imputed.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from kd_bench.results.statistics.intervals import CONFIDENCE

TRIMMED = 0.25
DRAWS = 2_000
SMALLEST = 1e-9  # advantage of a teacher, by which a draw is divided

Array = NDArray[np.float64]


def interquartile_mean(scores: ArrayLike) -> float:
    """Return the mean of the middle half of all values: a quarter, rounded down, is left out at either end."""
    return float(_interquartile_means(_scores(scores)[None])[0])


def _interquartile_means(scores: Array) -> Array:
    """Return the interquartile means (D,) of many arrays (D, N, M) at once."""
    values = np.sort(scores.reshape(len(scores), -1))
    trimmed = int(TRIMMED * values.shape[1])
    means: Array = values[:, trimmed : values.shape[1] - trimmed].mean(axis=1)
    return means


def optimality_gap(scores: ArrayLike, target: float = 1.0) -> float:
    """Return how far the scores fall short of ``target`` on average; those above it count as reaching it."""
    return float(target - np.minimum(_scores(scores), target).mean())


def performance_profile(scores: ArrayLike, thresholds: Sequence[float]) -> list[float]:
    """Return the share of all values above each threshold."""
    values = _scores(scores)
    return [float((values > threshold).mean()) for threshold in thresholds]


def probability_of_improvement(scores: ArrayLike, baseline: ArrayLike) -> float:
    """Return the probability that a run of one method beats a run of another on a random pair, ties counting one half.

    It is P(X > Y) + P(X = Y) / 2, the Mann-Whitney statistic over N · N', averaged over the pairs.

    Args:
        scores, baseline: (N, M) and (N', M).
    """
    first, second = _scores(scores), _scores(baseline)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"the methods have scores on {first.shape[1]} and {second.shape[1]} pairs")
    return float(_probabilities(first[None], second[None])[0])


def _probabilities(first: Array, second: Array) -> Array:
    """Return the probabilities (D,) of many arrays (D, N, M) against (D, N', M) at once."""
    wins = np.sign(first[:, :, None] - second[:, None]) / 2 + 0.5
    means: Array = wins.reshape(len(wins), -1).mean(axis=1)
    return means


def stratified_interval(
    statistic: Callable[..., float],
    *groups: ArrayLike,
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of a statistic of arrays of scores, whose seeds are drawn anew, pair by pair.

    The interval is widened for few seeds (see ``_widened``).

    Returns:
        None with fewer than two seeds, which have no spread.
    """
    arrays = [_scores(group) for group in groups]
    fewest = min(len(array) for array in arrays)
    if fewest < 2:
        return None
    random = np.random.RandomState(seed)  # one stream in every version of numpy
    many = _drawn(arrays, draws, random)
    at_once = AT_ONCE.get(statistic)
    drawn = [statistic(*each) for each in zip(*many, strict=True)] if at_once is None else at_once(*many)
    center = statistic(*arrays)
    return _widened(drawn, center, fewest, arrays[0].shape[1], confidence)


def gap_interval(
    gaps: ArrayLike,
    scratch: Sequence[Sequence[float]],
    teachers: Sequence[float],
    confidence: float = CONFIDENCE,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Return the bootstrap interval of the interquartile mean of the gap closed, with the noise of its zero, scratch.

    The seeds of scratch are drawn anew for themselves: where they share noise with those of the method, the interval is
    too wide rather than too narrow.

    Args:
        gaps: (N, M), (run - scratch) / (teacher - scratch) by the mean of scratch.
        scratch: accuracies of all seeds of scratch on each of the M pairs.
        teachers: accuracy of the teacher of each pair.

    Returns:
        None with fewer than two seeds of the method or of scratch on any pair.
    """
    scores, tops = _scores(gaps), np.asarray(teachers, dtype=np.float64)
    fewest = min(len(scores), *map(len, scratch))
    if fewest < 2:
        return None
    random = np.random.RandomState(seed)
    (drawn,) = _drawn([scores], draws, random)
    zeros = np.array([np.mean(values) for values in scratch])
    choices = [random.randint(len(values), size=(draws, len(values))) for values in scratch]
    redrawn = np.stack([np.asarray(z)[choice].mean(axis=1) for z, choice in zip(scratch, choices, strict=True)], axis=1)
    runs = zeros + drawn * (tops - zeros)
    advantages = np.maximum(tops - redrawn, SMALLEST)
    rescaled = (runs - redrawn[:, None]) / advantages[:, None]
    return _widened(_interquartile_means(rescaled), interquartile_mean(scores), fewest, len(tops), confidence)


def _widened(
    drawn: Array | list[float], center: float, fewest: int, pairs: int, confidence: float
) -> tuple[float, float]:
    """Return percentiles, widened about the statistic.

    Percentiles cover too little with few seeds: the spread of n values drawn from n is smaller by (n - 1) / n in
    variance, and it is an estimate. The factor √(n / (n - 1)) · t / z has the quantiles of Student's distribution with
    M (n - 1) degrees of freedom and of the normal one, n the fewest seeds (Hesterberg 2015, arXiv:1411.5279).
    """
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    quantile = (1 + confidence) / 2
    wider = math.sqrt(fewest / (fewest - 1)) * float(stdtrit(pairs * (fewest - 1), quantile) / ndtri(quantile))
    return center + wider * (float(low) - center), center + wider * (float(high) - center)


def _drawn(arrays: Sequence[Array], draws: int, random: np.random.RandomState) -> list[Array]:
    """Draw (draws, N, M) from each array (N, M) in turn: one draw of each, then the next of each."""
    shapes = {array.shape for array in arrays}
    if len(shapes) == 1:  # the same stream in one go
        chosen = random.randint(len(arrays[0]), size=(draws, len(arrays), *arrays[0].shape))
        indices = [chosen[:, group] for group in range(len(arrays))]
    else:
        singly = [[random.randint(len(array), size=array.shape) for array in arrays] for _ in range(draws)]
        indices = [np.stack(of_group) for of_group in zip(*singly, strict=True)]
    return [np.take_along_axis(array[None], index, axis=1) for array, index in zip(arrays, indices, strict=True)]


# Statistics of thousands of draws take a fraction of the time in one go.
AT_ONCE: dict[Callable[..., float], Callable[..., Array]] = {
    interquartile_mean: _interquartile_means,
    probability_of_improvement: _probabilities,
}


def _scores(values: ArrayLike) -> Array:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 2 or not scores.size or not np.isfinite(scores).all():
        raise ValueError(f"scores should be finite numbers (seeds, pairs), not an array of shape {scores.shape}")
    return scores
