"""Comparisons on the same seeds and on the same test samples."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import bdtr, stdtr

from kd_bench.results.statistics.intervals import CONFIDENCE, Estimate, estimate, mean, standard_error
from kd_bench.results.statistics.ranking import MINIMUM_RANKED

DRAWS = 10_000
ROUNDING = 1e-12  # differences of fractions that are closer together are equal

Scores = Mapping[int, float]


def paired_differences(scores: Scores, baseline: Scores) -> list[float]:
    """Return ``scores`` minus ``baseline`` on the seeds that both have, by ascending seed. No seed is imputed."""
    return [scores[seed] - baseline[seed] for seed in sorted(scores.keys() & baseline.keys())]


def paired_estimate(scores: Scores, baseline: Scores, confidence: float = CONFIDENCE) -> Estimate | None:
    """Return the mean difference by seed and its t interval on the ``n`` shared seeds; ``None`` where none is shared.

    The unit is that of the scores: a difference of accuracies is a fraction (0.01 is one percentage point). Where all
    differences are equal there is no interval: accuracies are whole numbers of samples, so that a few seeds may agree
    to the last sample by chance, and an interval of width 0 would claim certainty.
    """
    differences = paired_differences(scores, baseline)
    if not differences:
        return None
    if _all_equal(differences):
        return Estimate(mean(differences), None, None, len(differences))
    return estimate(differences, confidence)


def paired_p_value(scores: Scores, baseline: Scores) -> float | None:
    """Return the two-sided p value of the paired t test: 2 · P(T(n - 1) <= -|t|), t = mean difference / (s / √n).

    ``None`` below three shared seeds, and where all differences are equal: their spread is unknown then (see
    ``paired_estimate``). Where all of them are 0 it is 1.
    """
    differences = paired_differences(scores, baseline)
    if len(differences) < MINIMUM_RANKED:
        return None
    if _all_equal(differences):
        return 1.0 if abs(differences[0]) <= ROUNDING else None
    return float(2 * stdtr(len(differences) - 1, -abs(mean(differences)) / standard_error(differences)))


def _all_equal(differences: Sequence[float]) -> bool:
    return max(differences) - min(differences) <= ROUNDING


def mcnemar_p_value(negative: int, positive: int) -> float:
    """Return the two-sided p value of McNemar's exact test of two classifiers on the same samples (McNemar 1947).

    Only the samples on which exactly one of them is right carry evidence; were the two equally good, either would be
    right on each of these with probability 1/2: p = min(1, 2 · P(X <= min(negative, positive))), X ~ B(n, 1/2). It is
    1 where there are none.

    Args:
        negative, positive: numbers of samples that only the one, and only the other, gets right.
    """
    return min(1.0, 2 * float(bdtr(min(negative, positive), negative + positive, 0.5)))


def bootstrap_interval(
    differences: Sequence[float], confidence: float = CONFIDENCE, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean of paired differences over samples, such as right - right.

    It covers the choice of the test samples, not the seeds. Equal differences are drawn together (a multinomial), so
    that the three values of a difference in being right cost no more for a large split.

    Raises:
        ValueError: there are no differences.
    """
    if not len(differences):
        raise ValueError("the bootstrap of no differences is undefined")
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    samples = int(counts.sum())
    # RandomState promises the same stream in every version of numpy, and pages must not depend on the version.
    drawn = np.random.RandomState(seed).multinomial(samples, counts / samples, size=draws)
    low, high = np.quantile(drawn @ values / samples, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
