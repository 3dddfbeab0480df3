"""Critical values of the simultaneous comparisons of a board, by simulation.

    python benchmarks/critical_values.py     # 8 minutes on two cores, writes critical_values.json beside the module

``kd_bench/results/statistics/simultaneous.py`` compares the largest standardised difference of a board of equal methods
with these values. One is the least favourable of several ways in which the noise of the methods may differ
(``SETTINGS``): for each the quantile of the largest statistic over all pairs is simulated, and the largest quantile
counts. Errors are normal, and all settings see the same draws.
"""

import argparse
import json
from collections.abc import Callable
from multiprocessing import Pool

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from kd_bench.results.statistics.simultaneous import VALUES_FILE

METHODS = (3, 4, 5, 7, 10, 14, 20, 30, 50, 100)
SEEDS = (3, 4, 5, 6, 8, 10, 15, 20, 30)
LEVELS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)
DRAWS = 600_000  # of methods; boards of each setting are at most 30,000
ELEMENTS = 40_000  # of matrices over pairs in one go; with single precision they stay in the processor's cache

Array = NDArray[np.floating]
Setting = Callable[[Array, np.random.RandomState], Array]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    cases = [(methods, seeds, min(30_000, DRAWS // methods)) for methods in METHODS for seeds in SEEDS]
    with Pool(2) as pool:
        found = pool.map(critical_values, cases[::-1], chunksize=1)[::-1]  # the longest first
    rows = [
        f'    "{methods}": {json.dumps(found[first * len(SEEDS) : (first + 1) * len(SEEDS)])}'
        for first, methods in enumerate(METHODS)
    ]
    head = f'{{\n  "seeds": {json.dumps(SEEDS)},\n  "levels": {json.dumps(LEVELS)},\n  "values": {{\n'
    VALUES_FILE.write_text(head + ",\n".join(rows) + "\n  }\n}\n")


def critical_values(case: tuple[int, int, int]) -> list[float]:
    """One value a level, for so many methods and seeds."""
    methods, seeds, draws = case
    random = np.random.RandomState(1000 * methods + seeds)
    chunk = max(1, ELEMENTS // methods**2)
    largest: dict[str, list[Array]] = {}
    for start in range(0, draws, chunk):
        noise = random.standard_normal((min(chunk, draws - start), methods, seeds))
        for name, setting in settings(methods).items():
            largest.setdefault(name, []).append(largest_statistics(setting(noise, random)))
    quantiles = [np.quantile(np.concatenate(parts), [1 - level for level in LEVELS]) for parts in largest.values()]
    return [round(float(value), 2) for value in np.max(quantiles, axis=0)]


def settings(methods: int) -> dict[str, Setting]:
    """How the noise of equal methods may differ: from (boards, methods, seeds) standard normal draws to errors."""

    def equal(noise: Array, random: np.random.RandomState) -> Array:
        return noise

    def log_normal(noise: Array, random: np.random.RandomState) -> Array:
        return noise * np.exp(random.standard_normal((*noise.shape[:2], 1)))

    def families(noise: Array, random: np.random.RandomState) -> Array:
        """Half of the variance is common to a half of the methods, and of opposite sign in the other half."""
        side = np.where(np.arange(noise.shape[1]) < noise.shape[1] // 2, 1.0, -1.0)[:, None]
        return noise + side * random.standard_normal((len(noise), 1, noise.shape[2]))

    def unstable(number: int, ratio: float) -> Setting:
        return lambda noise, random: noise * np.where(np.arange(noise.shape[1]) < number, ratio, 1.0)[:, None]

    groups = {(number, ratio) for number in (1, 2, 3) for ratio in (10, 1000)}
    groups |= {(methods // part, 1000) for part in (6, 4, 3, 2)} | {(3 * methods // 4, 1000)}
    found: dict[str, Setting] = {"equal": equal, "log-normal": log_normal, "families": families}
    for number, ratio in sorted(groups):
        if 0 < number < methods:
            found[f"{number} of {ratio} times the SD"] = unstable(number, ratio)
    return found


def largest_statistics(errors: Array) -> Array:
    """The largest statistic over the pairs of each board (boards, methods, seeds), without a missing seed."""
    errors = errors.astype(np.float32)
    boards, methods, seeds = errors.shape
    means = errors.mean(axis=2)
    residuals = errors - means[:, :, None]
    covariance = residuals @ residuals.transpose(0, 2, 1) / (seeds - 1)
    diagonal = np.diagonal(covariance, axis1=1, axis2=2)
    of_pairs = diagonal[:, :, None] + diagonal[:, None, :] - 2 * covariance
    members = np.ones((boards, methods), dtype=bool)
    own, floor = variances(of_pairs, members)
    if methods > 3:
        worst = np.arange(boards), own.argmax(axis=1)
        members[worst] = False
        without, lower = variances(of_pairs, members)
        extreme = (without[worst] > stdtrit(seeds - 1, 0.995) ** 2 * lower[:, 0])[:, None]
        own, floor = np.where(extreme, without, own), np.where(extreme, lower, floor)
    own = np.maximum(own, floor)
    spread = np.maximum(of_pairs, own[:, :, None] + own[:, None, :])
    statistics: Array = (means[:, :, None] - means[:, None, :]) ** 2 * seeds / spread
    return np.sqrt(statistics.max(axis=(1, 2)))


def variances(of_pairs: Array, members: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Variances of the methods (boards, methods), from differences with members, and their root mean square."""
    number = members.sum(axis=1, keepdims=True).astype(np.float32)
    sums = (of_pairs * members[:, None, :]).sum(axis=2)
    total = (sums * members).sum(axis=1, keepdims=True) / (2 * number - 2)  # of the members' variances
    own = np.maximum(np.where(members, (sums - total) / (number - 2), (sums - total) / number), 0)
    return own, np.sqrt((own**2 * members).sum(axis=1, keepdims=True) / number)


if __name__ == "__main__":
    main()
