"""All pairwise comparisons of a board as one family: differences, intervals, p values, claims and ranks.

On a board of equal methods the chance that any two are separated is at most 5 %. Two methods are compared by the mean
of their differences on shared seeds over its standard error, the paired t statistic (Student 1908), with a floor under
the spread: the sum of both methods' variances, each estimated from all differences of that method (Grubbs 1948) and
never taken below the root mean square over the board (which leaves out one method with a collapsed run), since after a
few seeds a small variance is mostly luck. The critical value is the one that the largest statistic of all pairs exceeds
on 5 % of boards of equal methods, as in Tukey's studentised range. It was simulated for so many methods and seeds
(``benchmarks/critical_values.py``) where all spreads are equal, where one to three quarters of the methods are far less
stable than the rest, where spreads are log-normal and where families of methods share noise, and the least favourable
of these counts. In addition no pair is separated that its own paired t test does not separate; for two methods the
family is that test. Joint intervals of the differences give joint intervals of the ranks (Klein, Wright & Wieczorek
2020; Mogstad, Romano, Shaikh & Wilhelm 2024).

Assumptions: seeds are independent and differences by seed roughly normal. Spreads may differ between methods, and the
noise of a seed may be common to all. Pairs that share fewer seeds than others are held to the critical value of their
own number. The level holds with three seeds too, at a price that ``benchmarks/false_separations.py`` measures: between
20 equally stable methods a difference must exceed about 4.4 standard deviations of a run, instead of 2.5 with five
seeds.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from kd_bench.results.statistics.paired import ROUNDING, Scores
from kd_bench.results.statistics.power import SIGNIFICANCE

MINIMUM_SHARED = 3  # seeds, below which nothing is tested
DECIMALS = 12  # sums differ in the last of 17 digits from machine to machine
VALUES_FILE = Path(__file__).with_name("critical_values.json")

Array = NDArray[np.float64]
Claim = Literal["better", "worse", "not separated"]


@dataclass(frozen=True)
class Comparison:
    """A method compared with another: the mean ``difference`` of accuracies as fractions on the ``seeds`` they share.

    The simultaneous interval and the adjusted p value are ``None`` below three shared seeds and where all differences
    are equal; the difference is ``None`` without a shared seed. The interval is cut to what accuracies can differ by,
    [-1, 1]. It excludes 0 exactly where p < 0.05, which is where the claim is "better" or "worse".
    """

    difference: float | None
    seeds: int
    low: float | None
    high: float | None
    p_value: float | None
    claim: Claim


@dataclass(frozen=True, eq=False)
class Family:
    """The comparisons of K methods, by ascending ``names``; matrices are (K, K), the row compared with the column.

    ``differences``, ``half_widths`` (of intervals) and ``p_values`` are NaN where they are unknown. ``better`` marks
    what is shown. ``ranks`` are the first and the last rank that a method can have.
    """

    names: tuple[str, ...]
    seeds: NDArray[np.int64]
    differences: Array
    half_widths: Array
    p_values: Array
    better: NDArray[np.bool_]
    ranks: tuple[tuple[int, int], ...]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Family) or (self.names, self.ranks) != (other.names, other.ranks):
            return False
        ours, theirs = ((each.seeds, each.differences, each.half_widths, each.p_values) for each in (self, other))
        return all(np.array_equal(*pair, equal_nan=True) for pair in zip(ours, theirs, strict=True))

    def rank(self, name: str) -> tuple[int, int]:
        """Return [1 + methods shown better, K - methods shown worse].

        With unequal seed sets two methods may share too few seeds although both are separated from all in between.
        Their intervals are then widened until they meet: what is not separated has a rank in common.
        """
        return self.ranks[self.names.index(name)]

    def compare(self, first: str, second: str) -> Comparison:
        """Return the comparison of the first method with the second, which is another one."""
        at = self.names.index(first), self.names.index(second)
        seeds, difference, half = int(self.seeds[at]), float(self.differences[at]), float(self.half_widths[at])
        if not seeds or math.isnan(half):
            return Comparison(difference if seeds else None, seeds, None, None, None, "not separated")
        low, high = max(-1.0, round(difference - half, DECIMALS)), min(1.0, round(difference + half, DECIMALS))
        claim: Claim = "better" if self.better[at] else "worse" if self.better[at[::-1]] else "not separated"
        return Comparison(difference, seeds, low, high, float(self.p_values[at]), claim)

    @property
    def smallest_difference(self) -> float | None:
        """Median half width of the intervals: what half of the pairs must differ by at least to be separated."""
        known = self._known()
        return float(np.median(self.half_widths[known])) if known.any() else None

    def seeds_needed(self, difference: float) -> int | None:
        """Shared seeds that would bring the median half width down to ``difference``, if spreads stay what they are."""
        known = self._known()
        if not known.any():
            return None
        methods = self._methods()
        critical = np.array([_critical(methods, seeds) for seeds in self.seeds[known].tolist()])
        spread = float(np.median(self.half_widths[known] / critical * np.sqrt(self.seeds[known])))
        largest = int(_table()[1][-1])
        for seeds in range(MINIMUM_SHARED, largest):
            if _critical(methods, seeds) * spread <= difference * math.sqrt(seeds):
                return seeds
        return max(largest, math.ceil((_critical(methods, largest) * spread / difference) ** 2))

    def power(self) -> str:
        """Say which differences are too small to be shown, and how many seeds half of that would need."""
        smallest = self.smallest_difference
        if smallest is None:
            return f"No difference can be shown: it takes two methods with {MINIMUM_SHARED} shared seeds and a spread."
        fewest, most = (int(each(self.seeds[self._known()])) for each in (np.min, np.max))
        seeds = str(fewest) if fewest == most else f"{fewest} to {most}"
        return (
            f"With {seeds} seeds and {self._methods()} methods a difference under {100 * smallest:.2f} points cannot "
            f"be shown (median over pairs); half of that would need about {self.seeds_needed(smallest / 2)} seeds."
        )

    def _known(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.half_widths)

    def _methods(self) -> int:
        return int(_testable(self.seeds).any(axis=1).sum())


def compare_all(scores: Mapping[str, Scores]) -> Family:
    """Compare all methods with each other, on the seeds that each two share.

    Args:
        scores: accuracies in [0, 1] of each method by seed.

    Raises:
        ValueError: a score is no accuracy.
    """
    names = tuple(sorted(scores))
    seeds, differences, variances = _paired(_matrix([scores[name] for name in names]))
    tested = _testable(seeds)
    methods = int(tested.any(axis=1).sum())
    spread = np.maximum(variances, _floors(variances, np.where(tested, seeds - 1, 0)))
    errors = np.sqrt(spread / np.maximum(seeds, 1))
    known = tested & (variances > 0)
    half_widths, p_values = np.full(errors.shape, np.nan), np.full(errors.shape, np.nan)
    for number in np.unique(seeds[known]).tolist():
        these = known & (seeds == number)
        half_widths[these] = np.round(_critical(methods, number) * errors[these], DECIMALS)
        p_values[these] = _p_values(np.abs(differences[these]) / errors[these], methods, number)
    better = known & (differences > half_widths)
    # One claim: rounding must not let a p value of 0.05 and an interval that ends at 0 disagree.
    shown = better | better.T
    limited = np.where(shown, np.clip(p_values, ROUNDING, SIGNIFICANCE - ROUNDING), np.maximum(p_values, SIGNIFICANCE))
    return Family(names, seeds, differences, half_widths, np.round(limited, DECIMALS), better, _ranks(better))


def _matrix(scores: list[Scores]) -> Array:
    """(K, seeds), NaN where a method lacks a seed."""
    columns = {seed: column for column, seed in enumerate(sorted({seed for each in scores for seed in each}))}
    values = np.full((len(scores), len(columns)), np.nan)
    for row, each in zip(values, scores, strict=True):
        row[[columns[seed] for seed in each]] = list(each.values())
        if not all(0 <= value <= 1 for value in each.values()):
            raise ValueError("scores should be accuracies in [0, 1]")
    return values


def _paired(values: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """Shared seeds, mean differences (NaN without a shared seed) and variances.

    Variances are of the differences by seed (divisor n - 1), 0 where these are equal.
    """
    size = len(values)
    seeds = np.zeros((size, size), dtype=np.int64)
    differences, variances = np.full((size, size), np.nan), np.zeros((size, size))
    for row in range(size):  # one method at a time: all pairs by seed would not fit into memory on the largest boards
        by_seed = values[row] - values
        shared = ~np.isnan(by_seed)
        seeds[row] = shared.sum(axis=1)
        some = seeds[row] > 0
        means = np.where(shared, by_seed, 0).sum(axis=1)[some] / seeds[row, some]
        differences[row, some] = np.round(means, DECIMALS) + 0.0  # no negative zero
        residuals = np.where(shared[some], by_seed[some] - means[:, None], 0)
        spreads = residuals.max(axis=1, initial=0) - residuals.min(axis=1, initial=0)
        squares = (residuals**2).sum(axis=1) / np.maximum(seeds[row, some] - 1, 1)
        variances[row, some] = np.where(spreads > ROUNDING, squares, 0)
    return seeds, differences, variances


def _testable(seeds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pairs of different methods share seeds enough."""
    return np.logical_and(seeds >= MINIMUM_SHARED, ~np.eye(len(seeds), dtype=bool))


def _floors(variances: Array, weights: NDArray[np.int64]) -> Array:
    """(K, K): the sum of the variances of both methods, each at least the root mean square of the board's.

    A method that is far less stable than all others, such as one with a collapsed run, does not count in these.
    """
    size = len(variances)
    members: NDArray[np.bool_] = np.any(weights > 0, axis=1)
    if not members.any():
        return np.zeros((size, size))
    own, floor = _variances(variances, weights, members)
    if members.sum() > 3:
        worst = int(np.argmax(own))
        others = members & (np.arange(size) != worst)
        without, lower = _variances(variances, weights, others)
        # The 99 % quantile of a squared t statistic: the fewer the seeds, the likelier is an extreme by luck.
        if without[worst] > stdtrit(weights[worst].max(), 0.995) ** 2 * lower:
            own, floor = without, lower
    own = np.maximum(own, floor)
    floors: Array = own[:, None] + own[None, :]
    return floors


def _variances(variances: Array, weights: NDArray[np.int64], members: NDArray[np.bool_]) -> tuple[Array, float]:
    """Variance of each method, from its differences with members, and the root mean square over these.

    The variance of a difference is the sum of two, so a method's mean over n - 1 other members is its own and theirs.
    """
    number = int(members.sum())
    weights = weights * members[None, :]
    average = (weights * variances)[members].sum() / max(weights[members].sum(), 1) / 2
    means = (weights * variances).sum(axis=1) / np.maximum(weights.sum(axis=1), 1)
    own = means - average
    if number > 2:
        own[members] = ((number - 1) * means - number * average)[members] / (number - 2)
    own = np.maximum(own, 0)
    return own, math.sqrt((own[members] ** 2).mean())


def _ranks(better: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """First and last rank of each method; methods that are not separated get a rank in common (see ``Family.rank``)."""
    first, last = 1 + better.sum(axis=0), len(better) - better.sum(axis=1)
    separated = better | better.T
    widest_first = np.where(separated, len(better), last[None, :]).min(axis=1, initial=len(better))
    widest_last = np.where(separated, 1, first[None, :]).max(axis=1, initial=1)
    ends = np.minimum(first, widest_first).tolist(), np.maximum(last, widest_last).tolist()
    return tuple(zip(*ends, strict=True))


@lru_cache(maxsize=1)
def _table() -> tuple[Array, Array, Array, Array]:
    """Numbers of methods, numbers of seeds, levels, and critical values (methods, seeds, levels)."""
    content = json.loads(VALUES_FILE.read_text(encoding="utf-8"))
    values = content["values"]
    numbers = [int(methods) for methods in values]
    return np.array(numbers), np.array(content["seeds"]), np.array(content["levels"]), np.array([*values.values()])


@lru_cache(maxsize=1_000)
def _quantiles(methods: int, seeds: int) -> Array:
    """Critical values at all levels.

    Logarithms are interpolated in the logarithm of the number of methods, beyond the table as well, and in the inverse
    number of seeds, where the last value holds for more.
    """
    table_methods, table_seeds, _, values = _table()
    at = int(np.clip(np.searchsorted(table_methods, methods) - 1, 0, len(table_methods) - 2))
    ends = np.log(table_methods[at : at + 2])
    share = (math.log(methods) - ends[0]) / (ends[1] - ends[0])
    logarithms = (1 - share) * np.log(values[at]) + share * np.log(values[at + 1])
    inverse = 1 / table_seeds[::-1]
    quantiles = [math.exp(np.interp(1 / seeds, inverse, level[::-1])) for level in logarithms.T]
    return np.array([round(quantile, 3) for quantile in quantiles])


@lru_cache(maxsize=1_000)
def _critical(methods: int, seeds: int) -> float:
    """Critical value of the statistic of a pair, at least the quantile of its own t distribution."""
    own = float(stdtrit(seeds - 1, 1 - SIGNIFICANCE / 2))
    if methods == 2:
        return own
    return max(own, float(_quantiles(methods, seeds)[_table()[2].tolist().index(SIGNIFICANCE)]))


def _p_values(statistics: Array, methods: int, seeds: int) -> Array:
    """Adjusted p values: logarithms interpolated between the levels, at least the smallest, and at least its own."""
    own: Array = 2 * stdtr(seeds - 1, -statistics)
    if methods == 2:
        return own
    knots = np.concatenate([[0], _quantiles(methods, seeds)])
    levels = np.log(np.concatenate([[1], _table()[2]]))
    adjusted: Array = np.maximum(own, np.exp(np.interp(statistics, knots, levels)))
    return adjusted
