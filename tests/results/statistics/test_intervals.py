"""Each formula against scipy, or against a slow one written out here."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_bench.results.statistics.intervals import Estimate, clipped, estimate, mean, sampling_half_width, t_interval
from kd_bench.results.statistics.multiplicity import holm
from kd_bench.results.statistics.paired import paired_differences, paired_estimate, paired_p_value
from kd_bench.results.statistics.ranking import evidence, gap_closed

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=60)
accuracies = st.lists(st.integers(0, 10_000).map(lambda correct: correct / 10_000), min_size=2, max_size=12)


@pytest.mark.parametrize("confidence", [0.95, 0.8])
@reproducible
@given(values=accuracies)
def test_t_interval_is_scipys(values, confidence):
    if len(set(values)) == 1:
        assert t_interval(values, confidence) == pytest.approx((values[0], values[0]), rel=1e-12)
        return
    expected = stats.t.interval(confidence, len(values) - 1, loc=sum(values) / len(values), scale=stats.sem(values))
    assert t_interval(values, confidence) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_t_interval_of_a_textbook_example():
    """Three values, t(0.975, 2) = 4.302653, s = 1, standard error 1 / sqrt(3)."""
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx((2 - 2.4841377, 2 + 2.4841377), abs=1e-6)


@pytest.mark.parametrize("values", [[], [0.7]])
def test_no_interval_below_two_values(values):
    assert t_interval(values) is None


def test_estimate_of_one_value_has_no_interval_and_excludes_nothing():
    single = estimate([0.7])
    assert (single.mean, single.low, single.high, single.n, single.half_width) == (0.7, None, None, 1, None)
    assert single.contains_zero


def test_estimate_of_no_values_is_an_error():
    with pytest.raises(ValueError, match="no values"):
        estimate([])


@pytest.mark.parametrize(("low", "high", "contains"), [(-1, 1, True), (0, 1, True), (-1, 0, True), (0.1, 1, False)])
def test_contains_zero_includes_the_ends(low, high, contains):
    assert Estimate(0.0, low, high, 3).contains_zero is contains


def test_mean_does_not_depend_on_the_order_and_does_not_overflow():
    values = [random.Random(seed).random() for seed in range(100)]
    assert mean(values) == mean(values[::-1]) == pytest.approx(sum(values) / 100)
    assert mean([1.5e308, 1.5e308]) == 1.5e308


def test_paired_estimate_uses_shared_seeds_only():
    scores, baseline = {0: 0.72, 1: 0.75, 2: 0.74, 7: 0.1}, {2: 0.70, 0: 0.70, 1: 0.71, 9: 0.9}
    result = paired_estimate(scores, baseline)
    expected = stats.ttest_rel([0.72, 0.75, 0.74], [0.70, 0.71, 0.70]).confidence_interval(0.95)
    assert result.n == 3
    assert result.mean == pytest.approx((0.02 + 0.04 + 0.04) / 3)
    assert (result.low, result.high) == pytest.approx((expected.low, expected.high))


def test_paired_estimate_without_shared_seeds():
    assert paired_estimate({0: 0.7}, {1: 0.7}) is None
    assert paired_estimate({0: 0.7}, {0: 0.6}).low is None


@reproducible
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=3, max_size=10))
def test_paired_p_value_is_scipys(pairs):
    differences = [round(first - second, 6) for first, second in pairs]
    if max(differences) - min(differences) < 1e-5:
        return
    expected = stats.ttest_1samp(differences, 0.0).pvalue
    p_value = paired_p_value(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    assert p_value == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_paired_p_value_at_its_limits():
    zeros = {0: 0.0, 1: 0.0, 2: 0.0}
    assert paired_p_value(zeros, zeros) == 1.0
    assert paired_p_value({0: 0.5}, {0: 0.25}) is None
    assert paired_p_value({0: 0.5, 1: 0.6}, {0: 0.25, 1: 0.3}) is None


def test_seeds_that_differ_by_the_same_number_of_images_claim_nothing():
    """4 of 719 images on each of three seeds, whose differences are equal up to the last bit of their arithmetic."""
    worse = {seed: right / 719 for seed, right in enumerate((703, 697, 703))}
    better = {seed: right / 719 for seed, right in enumerate((707, 701, 707))}
    assert len(set(paired_differences(better, worse))) == 2
    assert paired_estimate(better, worse) == Estimate(pytest.approx(4 / 719), None, None, 3)
    assert paired_p_value(better, worse) is None
    far = {seed: value - 0.3 for seed, value in worse.items()}
    assert paired_p_value(worse, far) is None


def test_interval_and_p_value_agree_at_five_percent():
    generator = random.Random(3)
    for _ in range(200):
        scores = {seed: generator.gauss(0.3, 1.0) for seed in range(5)}
        zero = dict.fromkeys(scores, 0.0)
        assert paired_estimate(scores, zero).contains_zero == (paired_p_value(scores, zero) >= 0.05)


def test_t_interval_covers_the_truth_as_often_as_it_says():
    generator = random.Random(11)
    hits = 0
    for _ in range(2000):
        low, high = t_interval([generator.gauss(0, 1) for _ in range(3)])
        hits += low <= 0 <= high
    assert hits / 2000 == pytest.approx(0.95, abs=0.015)


def test_holm_of_a_published_example():
    """Raw 0.01, 0.04, 0.03, 0.005 (p.adjust of R gives 0.03, 0.06, 0.06, 0.02)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@reproducible
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=8))
def test_holm_is_the_slow_definition(p_values):
    known = [value for value in p_values if value is not None]

    def slow(value):
        at_most = sorted(other for other in known if other <= value)
        return min(1.0, max((len(known) - index) * other for index, other in enumerate(at_most)))

    expected = [None if value is None else slow(value) for value in p_values]
    for actual, wanted in zip(holm(p_values), expected, strict=True):
        assert (actual is None) == (wanted is None)
        assert actual is None or actual == pytest.approx(wanted)


def test_gap_closed():
    scratch = [0.70, 0.71, 0.72]
    assert gap_closed(0.75, scratch, 0.79) == pytest.approx((0.75 - 0.71) / (0.79 - 0.71))
    assert gap_closed(0.70, scratch, 0.79) == pytest.approx(-0.125)
    assert gap_closed(0.83, scratch, 0.79) == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("scratch", "teacher"),
    [
        ([0.70, 0.71, 0.72], 0.71),  # no advantage
        ([0.70, 0.71, 0.72], 0.60),  # worse than scratch
        ([0.70, 0.71, 0.72], 0.73),  # 0.02 better, but the interval is ± 0.0248
        ([0.70], 0.90),  # the noise of one seed is unknown
        ([], 0.90),
    ],
)
def test_gap_closed_is_undefined(scratch, teacher):
    assert gap_closed(0.75, scratch, teacher) is None


def test_gap_closed_just_outside_the_noise():
    assert gap_closed(0.75, [0.70, 0.71, 0.72], 0.735) == pytest.approx(0.04 / 0.025)


@pytest.mark.parametrize(
    ("n", "label"),
    [
        (0, "no runs"),
        (1, "single run"),
        (2, "too few runs"),
        (3, "preliminary"),
        (4, "preliminary"),
        (5, "ranked"),
        (50, "ranked"),
    ],
)
def test_evidence(n, label):
    assert evidence(n) == label


def test_intervals_are_cut_to_what_is_possible():
    assert clipped(Estimate(0.9, 0.7, 1.1, 3), 0, 1) == Estimate(0.9, 0.7, 1, 3)
    assert clipped(Estimate(0.1, -0.1, 0.3, 3), 0, 1) == Estimate(0.1, 0, 0.3, 3)
    assert clipped(Estimate(0.1, None, None, 1), 0, 1) == Estimate(0.1, None, None, 1)


def test_sampling_half_width_of_the_specification():
    """0.84 points at 76 % on 10,000 images."""
    assert sampling_half_width(0.76, 10_000) == pytest.approx(0.0084, abs=5e-5)
    assert sampling_half_width(0.76, 10_000) == pytest.approx(stats.norm.ppf(0.975) * math.sqrt(0.76 * 0.24 / 10_000))
    assert sampling_half_width(0.76, 0) is None
