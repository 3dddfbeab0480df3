"""How often boards separate methods that are equal, and what differences they show.

    nohup python benchmarks/false_separations.py &     # 10 minutes on two cores, writes false_separations.json

Boards of K methods and n seeds are drawn with normal noise of 0.25 points; on at most 5 % of them may equal methods be
separated. The family of ``statistics/simultaneous.py`` is compared with rank bands and with paired t tests of all
pairs, neither corrected for the number of comparisons. Prints Markdown tables.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import Pool
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, t

from kd_bench.results.statistics.intervals import t_interval
from kd_bench.results.statistics.paired import paired_estimate
from kd_bench.results.statistics.simultaneous import compare_all

RESULT = Path(__file__).with_suffix(".json")
METHODS, SEEDS, CORRELATIONS = (2, 5, 20, 50), (3, 5, 10), (0.0, 0.5)
MEAN, SD = 0.76, 0.0025
EFFECT = 2 * SD  # whose power is reported
UNCORRECTED_BOARDS = 400  # for the procedures that are far from 5 %

Array = NDArray[np.float64]
Random = np.random.Generator


@dataclass(frozen=True)
class Setting:
    """How boards are drawn: the methods' deviations in units of ``SD``, the test images, missing seeds, better ones."""

    deviations: Callable[[int, Random], Array] = lambda methods, random: np.ones(methods)
    images: int | None = None
    unequal_seeds: bool = False
    better: float = 0.0


def first_half(methods: int, random: Random) -> Array:
    return np.where(np.arange(methods) < methods // 2, 3.0, 1.0)


def first(methods: int, random: Random) -> Array:
    return np.where(np.arange(methods) < 1, 10.0, 1.0)


SETTINGS = {
    "equal": Setting(),
    "half with 3 times the SD": Setting(first_half),
    "one with 10 times the SD": Setting(first),
    "log-normal SDs (0.5)": Setting(lambda methods, random: np.exp(random.normal(0, 0.5, methods))),
    "log-normal SDs (1)": Setting(lambda methods, random: np.exp(random.normal(0, 1, methods))),
    "719 test images": Setting(images=719),
    "10,000 test images": Setting(images=10_000),
    "a third with half of the seeds": Setting(unequal_seeds=True),
    "the same, half with 3 times the SD": Setting(first_half, unequal_seeds=True),
    "a third better by 3 points": Setting(better=0.03),
    "the same, half with 3 times the SD and 719 images": Setting(first_half, images=719, better=0.03),
}


@dataclass(frozen=True)
class Cell:
    """Boards with a false separation in one setting, and what true differences would have been shown."""

    setting: str
    correlation: float
    methods: int
    seeds: int
    boards: int
    false: int
    share: float
    low: float
    high: float
    half_width: float | None  # median, in units of SD
    power: float
    rank_bands: float  # shares, uncorrected
    paired_t: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--boards", type=int, default=2_000, help="of each cell")
    parser.add_argument("--tables", action="store_true", help="print the tables of the last result, simulate nothing")
    options = parser.parse_args()
    if options.tables:
        cells = [Cell(**cell) for cell in json.loads(RESULT.read_text())]
        print(*level_table(cells), "", *power_table(cells), sep="\n")
        return
    grid = [(*case, options.boards) for case in itertools.product(SETTINGS, CORRELATIONS, METHODS[::-1], SEEDS)]
    started = time.perf_counter()
    cells = []
    with Pool(2) as pool:
        for cell in pool.imap(simulate, grid, chunksize=1):
            cells.append(cell)
            print(f"{time.perf_counter() - started:.0f} s: {cell}", flush=True)
    order = {name: position for position, name in enumerate(SETTINGS)}
    cells.sort(key=lambda cell: (order[cell.setting], cell.correlation, cell.methods, cell.seeds))
    lines = ",\n".join(f"  {json.dumps(asdict(cell))}" for cell in cells)
    RESULT.write_text(f"[\n{lines}\n]\n")
    print(*level_table(cells), "", *power_table(cells), sep="\n")


def simulate(case: tuple[str, float, int, int, int]) -> Cell:
    name, correlation, methods, seeds, boards = case
    random = np.random.default_rng([list(SETTINGS).index(name), int(10 * correlation), methods, seeds])
    setting = SETTINGS[name]
    equal = np.arange(methods) < methods // 3 if setting.better else np.zeros(methods, dtype=bool)
    pairs = (equal[:, None] == equal[None, :]) & ~np.eye(methods, dtype=bool)
    false, half_widths, shown, bands, tests = 0, [], [], 0, 0
    for board in range(boards):
        values = draw(setting, correlation, methods, seeds, random)
        scores = {f"{row:03}": scores_of(line) for row, line in enumerate(values)}
        family = compare_all(scores)
        false += bool(family.better[pairs].any())
        half_widths += [] if family.smallest_difference is None else [family.smallest_difference / SD]
        shown.append((family.differences + EFFECT > family.half_widths)[pairs].mean())
        if board < UNCORRECTED_BOARDS:
            bands += bands_differ(list(scores.values()), pairs)
            tests += bool(paired_t_rejects(values)[pairs].any())
    interval = binomtest(false, boards).proportion_ci()
    uncorrected = min(boards, UNCORRECTED_BOARDS)
    return Cell(
        setting=name,
        correlation=correlation,
        methods=methods,
        seeds=seeds,
        boards=boards,
        false=false,
        share=false / boards,
        low=round(interval.low, 4),
        high=round(interval.high, 4),
        half_width=round(median(half_widths), 3) if half_widths else None,
        power=round(float(np.mean(shown)), 3),
        rank_bands=bands / uncorrected,
        paired_t=tests / uncorrected,
    )


def draw(setting: Setting, correlation: float, methods: int, seeds: int, random: Random) -> Array:
    """Accuracies (methods, seeds), NaN where a seed is missing; methods share a part of each seed's noise."""
    shared = np.sqrt(correlation) * random.standard_normal(seeds)
    noise = shared + np.sqrt(1 - correlation) * random.standard_normal((methods, seeds))
    means = MEAN + np.where(np.arange(methods) < methods // 3, setting.better, 0.0)[:, None]
    values = means + SD * setting.deviations(methods, random)[:, None] * noise
    if setting.images:
        values = np.round(values * setting.images) / setting.images
    if setting.unequal_seeds:
        values[::3, (seeds + 1) // 2 :] = np.nan
    return np.clip(values, 0, 1)


def scores_of(values: Array) -> dict[int, float]:
    return {seed: value for seed, value in enumerate(values.tolist()) if value == value}


def rank_bands(scores: Sequence[dict[int, float]]) -> list[tuple[int, int]]:
    """Return the bands of former boards: a method joins while its paired t interval to the band's leader contains 0.

    ``scores`` come by descending mean. Where no paired interval can be made, the t intervals of the means decide.
    """
    leaders: list[int] = []
    for position, candidate in enumerate(scores):
        if not leaders or not indistinguishable(scores[leaders[-1]], candidate):
            leaders.append(position)
    ends = [*leaders[1:], len(scores)]
    return [(start + 1, end) for start, end in zip(leaders, ends, strict=True) for _ in range(start, end)]


def indistinguishable(first: dict[int, float], second: dict[int, float]) -> bool:
    paired = paired_estimate(first, second)
    if paired is not None and paired.n >= 3 and paired.low is not None:
        return paired.contains_zero
    one, other = t_interval(list(first.values())), t_interval(list(second.values()))
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


def bands_differ(scores: Sequence[dict[int, float]], pairs: NDArray[np.bool_]) -> bool:
    """Whether two of the equal methods stand in different rank bands."""
    means = [sum(each.values()) / len(each) for each in scores]
    order = sorted(range(len(scores)), key=lambda row: -means[row])
    starts = np.zeros(len(scores), dtype=int)
    starts[order] = [start for start, _ in rank_bands([scores[row] for row in order])]
    return bool((starts[:, None] != starts[None, :])[pairs].any())


def paired_t_rejects(values: Array) -> NDArray[np.bool_]:
    """(K, K): which paired t tests on three or more shared seeds reject at 5 %; equal differences never do."""
    by_seed = values[:, None] - values[None]
    shared = ~np.isnan(by_seed)
    seeds = np.maximum(shared.sum(axis=2), 2)
    means = np.nansum(by_seed, axis=2) / seeds
    squares = np.where(shared, by_seed - means[:, :, None], 0) ** 2
    errors = np.sqrt(squares.sum(axis=2) / (seeds - 1) / seeds)
    found: NDArray[np.bool_] = (np.abs(means) > t.ppf(0.975, seeds - 1) * errors) & (seeds > 2) & (errors > 1e-12)
    return found


def level_table(cells: Iterable[Cell]) -> list[str]:
    """Shares of boards with a false separation in percent, for 3 / 5 / 10 seeds."""
    shares = {(cell.setting, cell.correlation, cell.methods, cell.seeds): cell.share for cell in cells}
    heads = " | ".join(f"{methods} methods" for methods in METHODS)
    lines = [
        f"| false separations, % of boards with 3 / 5 / 10 seeds | correlation | {heads} |",
        "|---|---|" + "---|" * 4,
    ]
    for setting, correlation in itertools.product(SETTINGS, CORRELATIONS):
        found = [
            " / ".join(f"{100 * shares[setting, correlation, methods, seeds]:.1f}" for seeds in SEEDS)
            for methods in METHODS
        ]
        lines.append(f"| {setting} | {correlation:g} | {' | '.join(found)} |")
    return lines


def power_table(cells: Iterable[Cell]) -> list[str]:
    """Half widths and power between equal, uncorrelated methods, and false separations without correction."""
    lines = [
        "| methods | seeds | smallest difference that can be shown, in SDs | a true difference of 2 SDs is shown"
        " | false separations, % of boards | with rank bands | with paired t tests |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        if cell.setting == "equal" and not cell.correlation:
            lines.append(
                f"| {cell.methods} | {cell.seeds} | {cell.half_width:.2f} | {100 * cell.power:.0f} % |"
                f" {100 * cell.share:.1f} | {100 * cell.rank_bands:.0f} | {100 * cell.paired_t:.0f} |"
            )
    return lines


if __name__ == "__main__":
    main()
