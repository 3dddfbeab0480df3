"""One family of comparisons: its statistic, its claims, their agreement, and how often it is wrong."""

import itertools
import json
import math
import random
import statistics
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t, ttest_rel

from kd_bench.config.paths import CHECKOUT
from kd_bench.results.statistics.simultaneous import VALUES_FILE, Comparison, compare_all

TABLE = json.loads(VALUES_FILE.read_text(encoding="utf-8"))


def board(methods, seeds, seed=0, deviations=None, decimals=15):
    """Accuracies of equal methods about 76 % with a standard deviation of 0.25 points, or that times a deviation."""
    generator = random.Random(seed)
    deviations = deviations or [1.0] * methods
    return {
        f"m{row:02}": {
            each: round(0.76 + 0.0025 * deviation * generator.gauss(0, 1), decimals) for each in range(seeds)
        }
        for row, deviation in enumerate(deviations)
    }


def pairs(family):
    return [(pair, family.compare(*pair)) for pair in itertools.permutations(family.names, 2)]


def critical_value(methods, seeds, level=0.05):
    """Straight from the table, for numbers that stand in it."""
    row = TABLE["values"][str(methods)][TABLE["seeds"].index(seeds)]
    return row[TABLE["levels"].index(level)]


def slow_error(scores, first, second):
    """Standard error of a difference on a board without missing seeds, by Grubbs' formula from two-way residuals."""

    def grubbs(names):
        columns = {seed: statistics.mean(scores[name][seed] for name in names) for seed in seeds}
        grand = statistics.mean(columns.values())
        squares = {}
        for name in names:
            own = statistics.mean(scores[name].values())
            squares[name] = sum((scores[name][seed] - own - columns[seed] + grand) ** 2 for seed in seeds)
        number, degrees = len(names), len(seeds) - 1
        common = sum(squares.values()) / (number * (number - 1) * degrees)
        return {name: max(0, number / (number - 2) * (squares[name] / degrees - common)) for name in names}

    def root_mean_square(values):
        return math.sqrt(statistics.mean(value**2 for value in values))

    def of_difference(one, other):
        return statistics.variance(scores[one][seed] - scores[other][seed] for seed in seeds)

    names, seeds = list(scores), list(scores[first])
    own = grubbs(names)
    floor = root_mean_square(own.values())
    worst = max(names, key=lambda name: own[name])
    rest = [name for name in names if name != worst]
    without = grubbs(rest)
    total = statistics.mean(of_difference(worst, name) for name in rest)
    extreme = total - statistics.mean(of_difference(*pair) for pair in itertools.combinations(rest, 2)) / 2
    if extreme > t.ppf(0.995, len(seeds) - 1) ** 2 * root_mean_square(without.values()):
        own, floor = {**without, worst: extreme}, root_mean_square(without.values())
    both = max(own[first], floor) + max(own[second], floor)
    return math.sqrt(max(both, of_difference(first, second)) / len(seeds))


def test_two_methods_are_compared_by_the_paired_t_test():
    for seeds in (3, 5, 10):
        scores = board(2, seeds, seed=seeds)
        found = compare_all(scores).compare("m00", "m01")
        expected = ttest_rel(list(scores["m00"].values()), list(scores["m01"].values()))
        assert found.p_value == pytest.approx(expected.pvalue, rel=1e-8)
        assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()), abs=1e-10)
        assert found.claim == ("not separated" if expected.pvalue >= 0.05 else "worse" if found.high < 0 else "better")


@pytest.mark.parametrize("deviations", [[1.0] * 5, [1, 3, 1, 3, 1], [1, 1, 40, 1, 1]])
@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_and_p_values_follow_the_slow_formulas(seeds, deviations):
    scores = board(5, seeds, seed=4, deviations=deviations)
    values = scores["m01"]
    scores["m01"] = {seed: value + 0.012 for seed, value in values.items()}
    family = compare_all(scores)
    levels = [1.0, *TABLE["levels"]]
    knots = [0.0, *TABLE["values"]["5"][TABLE["seeds"].index(seeds)]]
    for (first, second), found in pairs(family):
        differences = [scores[first][seed] - scores[second][seed] for seed in range(seeds)]
        error = slow_error(scores, first, second)
        half = max(critical_value(5, seeds), t.ppf(0.975, seeds - 1)) * error
        mean = statistics.mean(differences)
        assert found.difference == pytest.approx(mean, abs=1e-11)
        assert found.high == pytest.approx(min(1, mean + half), rel=1e-8)
        assert found.low == pytest.approx(max(-1, mean - half), rel=1e-8)
        statistic = abs(mean) / error
        own = 2 * t.sf(statistic, seeds - 1)
        adjusted = math.exp(np.interp(statistic, knots, np.log(levels)))
        assert found.p_value == pytest.approx(max(own, adjusted), rel=1e-6)


def test_values_of_a_board_are_the_same_on_every_machine():
    scores = {
        "ab": dict(enumerate((0.7632, 0.7636, 0.7602, 0.7581, 0.7573))),
        "at": dict(enumerate((0.7601, 0.7574, 0.7564, 0.7605, 0.7603))),
        "kd": dict(enumerate((0.7614, 0.7577, 0.7600, 0.7598, 0.7562))),
        "dkd": dict(enumerate((0.7713, 0.7708, 0.7760, 0.7705, 0.7696))),
    }
    family = compare_all(scores)
    assert family.compare("dkd", "ab") == Comparison(
        0.01116, 5, 0.006053250155, 0.016266749845, 0.002576557621, "better"
    )
    assert family.compare("at", "kd") == Comparison(
        -0.00008, 5, -0.005637400851, 0.005477400851, 0.976091812586, "not separated"
    )
    assert family.names == ("ab", "at", "dkd", "kd")
    assert family.ranks == ((2, 4), (2, 4), (1, 1), (2, 4))


def test_swapped_methods_and_other_orders_change_nothing_but_the_sign():
    scores = board(7, 4, seed=2)
    scores["m06"] = {seed: value + 0.03 for seed, value in scores["m06"].items() if seed != 1}
    family = compare_all(scores)
    opposite = {"better": "worse", "worse": "better", "not separated": "not separated"}
    for (first, second), found in pairs(family):
        swapped = family.compare(second, first)
        assert (swapped.difference, swapped.low, swapped.high) == (-found.difference, -found.high, -found.low)
        assert (swapped.seeds, swapped.p_value) == (found.seeds, found.p_value)
        assert swapped.claim == opposite[found.claim]
    names = list(scores)
    random.Random(0).shuffle(names)
    again = compare_all({name: dict(sorted(scores[name].items(), reverse=True)) for name in names})
    assert again == family
    assert again != compare_all(board(7, 4, seed=3))
    assert family != "family"


def test_fewer_than_three_shared_seeds_show_nothing():
    scores = board(4, 5, seed=5)
    scores["few"] = {0: 0.9, 1: 0.9001}
    scores["other"] = {7: 0.9, 8: 0.91, 9: 0.92}
    family = compare_all(scores)
    assert family.compare("few", "m00") == Comparison(
        family.compare("few", "m00").difference, 2, None, None, None, "not separated"
    )
    assert family.compare("few", "m00").difference > 0.1
    assert family.compare("other", "m00") == Comparison(None, 0, None, None, None, "not separated")
    assert family.rank("few") == family.rank("other") == (1, 6)
    without = {name: scores[name] for name in scores if name.startswith("m")}
    for pair, found in pairs(compare_all(without)):  # what cannot be compared is no part of the family
        assert family.compare(*pair) == found


@pytest.mark.parametrize("spread", [0.0, 1e-14])
def test_equal_differences_show_nothing(spread):
    scores = board(4, 5, seed=6)
    scores["shifted"] = {seed: value + 0.1 + spread * (seed % 2) for seed, value in scores["m00"].items()}
    family = compare_all(scores)
    found = family.compare("shifted", "m00")
    assert (found.difference, found.seeds) == (pytest.approx(0.1), 5)
    assert (found.low, found.high, found.p_value, found.claim) == (None, None, None, "not separated")
    assert family.compare("shifted", "m01").claim == "better"
    constant = compare_all({"a": dict.fromkeys(range(5), 0.7), "b": dict.fromkeys(range(5), 0.8), "c": {}})
    assert [found.claim for _, found in pairs(constant)] == ["not separated"] * 6
    assert constant.ranks == ((1, 3),) * 3
    assert constant.smallest_difference is None
    assert constant.seeds_needed(0.01) is None
    assert constant.power() == "No difference can be shown: it takes two methods with 3 shared seeds and a spread."


def test_a_pair_is_held_to_the_critical_value_of_its_own_seeds():
    """The interval of a pair is that of a board on which all have its number of seeds, but for the spread."""
    scores = board(5, 10, seed=7)
    scores["m04"] = {seed: value for seed, value in scores["m04"].items() if seed < 5}
    family = compare_all(scores)
    least = statistics.variance(scores["m04"][seed] - scores["m00"][seed] for seed in range(5))
    for seeds, pair in ((10, ("m00", "m01")), (5, ("m00", "m04"))):
        found = family.compare(*pair)
        assert found.seeds == seeds
        width = (found.high - found.low) / 2 / critical_value(5, seeds) * math.sqrt(seeds)
        assert 0.0025 < width < 0.01
        assert seeds == 10 or width >= math.sqrt(least) * (1 - 1e-9)


def test_one_collapsed_run_does_not_hide_what_others_show():
    """The others' intervals are those of the board without it, but for the critical value of one method more."""
    scores = board(9, 5, seed=8)
    before = compare_all(scores)
    family = compare_all({**scores, "unstable": {0: 0.76, 1: 0.1, 2: 0.75, 3: 0.76, 4: 0.74}})
    ratios = [
        (found.high - found.low) / (before.compare(*pair).high - before.compare(*pair).low)
        for pair, found in pairs(family)
        if "unstable" not in pair
    ]
    assert max(ratios) == pytest.approx(min(ratios), rel=1e-6)
    assert 1 < ratios[0] < 1.1
    assert family.compare("unstable", "m00").claim == "not separated"


@st.composite
def boards(draw):
    """Up to seven methods with levels far and near, spreads large and small, and seeds missing here and there."""
    numbers = st.integers(0, 40)
    scores = {}
    for row in range(draw(st.integers(1, 7))):
        level, spread = draw(numbers), draw(st.sampled_from((0, 1, 1, 1, 10)))
        seeds = draw(st.sets(st.integers(0, 6), max_size=7)) if draw(st.booleans()) else range(6)
        scores[f"m{row}"] = {seed: 0.3 + 0.01 * level + 0.0001 * spread * draw(numbers) for seed in seeds}
    return scores


@settings(max_examples=300, deadline=None)
@given(boards())
def test_interval_p_value_claim_and_rank_agree(scores):
    family = compare_all(scores)
    claims = {pair: found.claim for pair, found in pairs(family)}
    for (first, second), found in pairs(family):
        assert found.seeds == len(scores[first].keys() & scores[second].keys())
        if found.p_value is None:
            assert (found.low, found.high, found.claim) == (None, None, "not separated")
        else:
            assert found.seeds >= 3
            assert -1 <= found.low <= found.difference <= found.high <= 1
            assert 0 < found.p_value <= 1
            assert (found.low > 0) == (found.claim == "better")
            assert (found.high < 0) == (found.claim == "worse")
            assert (found.p_value < 0.05) == (found.claim != "not separated")
    complete = all(len(each) == 6 for each in scores.values()) and all(
        found.p_value is not None for _, found in pairs(family)
    )
    for name in scores:
        low, high = family.rank(name)
        better = sum(claims[other, name] == "better" for other in scores if other != name)
        worse = sum(claims[other, name] == "worse" for other in scores if other != name)
        assert 1 <= low <= 1 + better <= len(scores) - worse <= high <= len(scores)
        if complete:
            assert (low, high) == (1 + better, len(scores) - worse)
    for (first, second), claim in claims.items():
        if claim == "not separated":
            assert max(family.rank(first)[0], family.rank(second)[0]) <= min(
                family.rank(first)[1], family.rank(second)[1]
            )


def test_methods_without_shared_seeds_have_a_rank_in_common():
    """The best and the worst of five share no seed: nothing is claimed of the two, and the ranks say so."""
    middle = board(3, 10, seed=9)
    best = {seed: 0.9 + 0.001 * (seed % 2) for seed in range(5)}
    worst = {seed: 0.6 + 0.001 * (seed % 2) for seed in range(5, 10)}
    family = compare_all({**middle, "best": best, "worst": worst})
    assert [family.compare("best", name).claim for name in middle] == ["better"] * 3
    assert [family.compare("worst", name).claim for name in middle] == ["worse"] * 3
    assert family.compare("best", "worst").claim == "not separated"
    assert (family.rank("best"), family.rank("worst")) == ((1, 4), (2, 5))


def test_the_power_of_a_board_in_words():
    scores = board(20, 5, seed=10)
    family = compare_all(scores)
    halves = [(found.high - found.low) / 2 for _, found in pairs(family)]
    assert family.smallest_difference == pytest.approx(statistics.median(halves))
    smallest = family.smallest_difference
    seeds = family.seeds_needed(smallest / 2)
    typical = smallest / critical_value(20, 5) * math.sqrt(5)
    assert critical_value(20, 20) * typical / 20**0.5 < smallest / 2 < critical_value(20, 15) * typical / 15**0.5
    assert 15 < seeds <= 20
    assert family.seeds_needed(smallest * 1.000001) == 5
    assert family.seeds_needed(smallest / 100) == math.ceil((critical_value(20, 30) * typical * 100 / smallest) ** 2)
    assert family.power() == (
        f"With 5 seeds and 20 methods a difference under {100 * smallest:.2f} points cannot be shown (median over "
        f"pairs); half of that would need about {seeds} seeds."
    )
    scores["m00"] = {seed: value for seed, value in scores["m00"].items() if seed < 3}
    assert compare_all(scores).power().startswith("With 3 to 5 seeds and 20 methods a difference under 0.")


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.1, float("inf")])
def test_what_is_no_accuracy_is_refused(value):
    with pytest.raises(ValueError, match="accuracies"):
        compare_all({"kd": {0: value}})


def test_boards_without_a_pair():
    assert compare_all({}).ranks == ()
    assert compare_all({"kd": {0: 0.5}}).rank("kd") == (1, 1)
    assert compare_all({"kd": {}, "at": {}}).compare("kd", "at") == Comparison(
        None, 0, None, None, None, "not separated"
    )


def test_the_table_grows_with_methods_and_confidence_and_falls_with_seeds():
    values = np.array(list(TABLE["values"].values()))
    assert values.shape == (len(TABLE["values"]), len(TABLE["seeds"]), len(TABLE["levels"]))
    assert (np.diff(values, axis=2) > 0).all()
    at_five_percent = values[:, :, TABLE["levels"].index(0.05)]
    assert (np.diff(at_five_percent, axis=1) < 0.05).all()
    # With three and four seeds four methods are harder than five: an extreme one is judged by the three others.
    assert (np.diff(at_five_percent[:, 2:], axis=0) >= 0).all()
    for methods, row in zip(map(int, TABLE["values"]), at_five_percent, strict=True):
        bonferroni = t.isf(0.025 / math.comb(methods, 2), np.array(TABLE["seeds"]) - 1)
        assert (row < bonferroni).all()


@pytest.mark.parametrize(("methods", "seeds"), [(17, 7), (150, 4), (20, 100)])
def test_critical_values_between_and_beyond_those_of_the_table(methods, seeds):
    """They lie between their neighbours; more seeds than the table has are held to its last value."""
    family = compare_all(board(methods, seeds))
    known = [int(each) for each in TABLE["values"]]
    above = [each for each in known if each >= methods][:1] or [known[-1]]
    below = [each for each in known if each <= methods][-1]
    fewer = [each for each in TABLE["seeds"] if each <= seeds][-1]
    more = ([each for each in TABLE["seeds"] if each >= seeds] or [TABLE["seeds"][-1]])[0]
    error = 0.0025 * math.sqrt(2 / seeds)
    widths = [critical_value(below, more) * error, critical_value(above[0], fewer) * error]
    assert 0.9 * widths[0] < family.smallest_difference < 1.3 * widths[1]


def test_statistics_without_scipy_stats():
    code = "import sys, kd_bench.results.statistics.simultaneous; sys.exit('scipy.stats' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_board_of_fifty_rows_takes_a_twentieth_of_a_second_at_most():
    many = [board(50, 5, seed=seed) for seed in range(20)]
    started = time.process_time()
    for scores in many:
        compare_all(scores)
    assert time.process_time() - started < 1


def simulated(methods, seeds, number, correlation=0.0, deviations=1.0, images=None, missing=False):
    generator = np.random.default_rng([methods, seeds])
    for _ in range(number):
        noise = correlation**0.5 * generator.standard_normal(seeds)
        noise = noise + (1 - correlation) ** 0.5 * generator.standard_normal((methods, seeds))
        values = 0.76 + 0.0025 * np.reshape(deviations, (-1, 1)) * noise
        values = np.round(values * images) / images if images else values
        counts = [(seeds + 1) // 2 if missing and row % 3 == 0 else seeds for row in range(methods)]
        yield {f"m{row:02}": dict(enumerate(values[row, :count].tolist())) for row, count in enumerate(counts)}


HALF, ONE = [3.0] * 10 + [1.0] * 10, [10.0] + [1.0] * 19


@pytest.mark.slow
@pytest.mark.parametrize(
    ("methods", "seeds", "options"),
    [
        (2, 3, {"correlation": 0.5}),
        (5, 3, {}),
        (5, 10, {"images": 719}),
        (20, 3, {"deviations": HALF}),
        (20, 5, {"deviations": HALF, "correlation": 0.5}),
        (20, 3, {"deviations": ONE}),
        (20, 10, {"missing": True, "deviations": HALF}),
        (50, 5, {"images": 10_000, "correlation": 0.5}),
    ],
)
def test_equal_methods_are_rarely_separated(methods, seeds, options):
    number = 300
    false = sum(compare_all(scores).better.any() for scores in simulated(methods, seeds, number, **options))
    assert false / number <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / number)


def test_the_tables_of_the_documentation_are_those_of_the_benchmark():
    script, page = (CHECKOUT / path for path in ("benchmarks/false_separations.py", "docs/leaderboard.md"))
    shown = subprocess.run([sys.executable, script, "--tables"], capture_output=True, text=True, timeout=60, check=True)
    for table in shown.stdout.strip().split("\n\n"):
        assert table in page.read_text(encoding="utf-8"), f"put the output of {script.name} --tables into {page}"
