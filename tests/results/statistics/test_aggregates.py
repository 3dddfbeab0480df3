"""Aggregates over pairs, power and equivalence, against scipy and the published formulas written out here."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_bench.results.statistics.aggregates import (
    gap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from kd_bench.results.statistics.power import Spread, equivalence

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=60)


@st.composite
def score_arrays(draw):
    seeds, pairs = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    values = st.integers(-20, 20).map(lambda value: value / 10)  # with ties
    return np.array(draw(st.lists(st.lists(values, min_size=pairs, max_size=pairs), min_size=seeds, max_size=seeds)))


# --- As rliable publishes them: scores are (runs, tasks) ---


@reproducible
@given(scores=score_arrays())
def test_interquartile_mean_is_scipys_trimmed_mean_of_all_runs_on_all_tasks(scores):
    assert interquartile_mean(scores) == pytest.approx(stats.trim_mean(scores, 0.25, axis=None), abs=1e-12)


def test_interquartile_mean_does_not_see_an_outlier():
    scores = [[0.4, 0.5], [0.5, 0.6], [0.6, 0.7], [0.5, 1000.0]]
    assert interquartile_mean(scores) == pytest.approx((0.5 + 0.5 + 0.6 + 0.6) / 4)


@reproducible
@given(scores=score_arrays())
def test_profile_and_optimality_gap_are_the_slow_counts(scores):
    values = scores.flatten().tolist()
    thresholds = [-1.0, 0.0, 0.35, 2.0]
    expected = [sum(value > threshold for value in values) / len(values) for threshold in thresholds]
    assert performance_profile(scores, thresholds) == pytest.approx(expected)
    missing = [1 - min(value, 1) for value in values]
    assert optimality_gap(scores) == pytest.approx(sum(missing) / len(missing), abs=1e-12)


@reproducible
@given(scores=score_arrays(), seed=st.integers(0, 100), seeds=st.integers(1, 6))
def test_probability_of_improvement_is_the_mean_mann_whitney_statistic(scores, seed, seeds):
    baseline = np.random.default_rng(seed).integers(-20, 20, (seeds, scores.shape[1])) / 10
    expected = [
        stats.mannwhitneyu(ours, theirs).statistic / (len(ours) * len(theirs))
        for ours, theirs in zip(scores.T, baseline.T, strict=True)
    ]
    assert probability_of_improvement(scores, baseline) == pytest.approx(np.mean(expected))
    assert probability_of_improvement(baseline, scores) == pytest.approx(1 - np.mean(expected))


def test_probability_of_improvement_counts_ties_one_half():
    assert probability_of_improvement([[1.0], [2.0]], [[1.0]]) == 0.75
    assert probability_of_improvement([[1.0]], [[1.0]]) == 0.5


@pytest.mark.parametrize("bad", [[], [[]], [1.0, 2.0], [[math.nan]], [[0.1, math.inf]]])
def test_what_is_no_table_of_finite_scores_is_refused(bad):
    for aggregate in (interquartile_mean, optimality_gap, lambda scores: stratified_interval(np.mean, scores)):
        with pytest.raises(ValueError, match="scores should be finite numbers"):
            aggregate(bad)
    with pytest.raises(ValueError, match="2 and 1 pairs"):
        probability_of_improvement([[1.0, 2.0]], [[1.0]])


# --- Stratified bootstrap ---


def test_stratified_interval_is_the_widened_percentile_interval_of_seeds_drawn_pair_by_pair():
    scores = np.random.default_rng(0).normal([0.2, 0.5, 0.9], 0.1, (5, 3))
    random = np.random.default_rng(1)
    drawn = [np.mean([random.choice(scores[:, pair], 5, replace=True) for pair in range(3)]) for _ in range(20_000)]
    center, wider = scores.mean(), math.sqrt(5 / 4) * stats.t.ppf(0.975, 12) / stats.norm.ppf(0.975)
    low, high = (center + wider * (end - center) for end in np.quantile(drawn, [0.025, 0.975]))
    assert stratified_interval(lambda s: float(s.mean()), scores) == pytest.approx((low, high), abs=0.004)


def test_stratified_interval_of_a_mean_has_the_width_of_its_standard_error():
    """Widened, it is a t interval by the unbiased variance: s^2 / n summed over the pairs."""
    scores = np.random.default_rng(0).normal([0.2, 0.5, 0.9], 0.1, (5, 3))
    low, high = stratified_interval(lambda s: float(s.mean()), scores, draws=20_000)
    error = math.sqrt((scores.var(axis=0, ddof=1) / 5).sum()) / 3
    assert (high - low) / 2 == pytest.approx(stats.t.ppf(0.975, 12) * error, rel=0.04)


def test_stratified_interval_of_two_methods_draws_both():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(0.6, 0.1, (5, 4)), random.normal(0.5, 0.1, (4, 4))
    low, high = stratified_interval(probability_of_improvement, ours, theirs)
    assert low < probability_of_improvement(ours, theirs) < high
    assert stratified_interval(probability_of_improvement, ours, theirs) == (low, high)


def test_one_seed_has_no_interval():
    assert stratified_interval(interquartile_mean, [[0.5, 0.6]]) is None


@pytest.mark.parametrize(("seeds", "least"), [(3, 0.89), (5, 0.91)])
def test_intervals_of_the_interquartile_mean_cover_the_truth_better_than_percentiles(seeds, least):
    """Ten pairs; unwidened percentiles cover about 86 and 90 %."""
    random = np.random.default_rng(0)
    pairs = random.normal(0.4, 0.3, 10)
    truth = np.mean([interquartile_mean(random.normal(pairs, 0.15, (5_000, 10))) for _ in range(4)])
    widened = plain = 0
    for seed in range(200):
        scores = random.normal(pairs, 0.15, (seeds, 10))
        low, high = stratified_interval(interquartile_mean, scores, draws=200, seed=seed)
        widened += low <= truth <= high
        center, narrow = interquartile_mean(scores), math.sqrt((seeds - 1) / seeds)
        plain += center + narrow * (low - center) <= truth <= center + narrow * (high - center)
    assert least < widened / 200 < 0.98
    assert plain < widened


# --- Noise of scratch ---


def boards_of_equal_noise(random, seeds, pairs, boards, correlation):
    """Accuracies of a method and of scratch, (boards, seeds, pairs), with a part of the noise of a seed in common."""
    scratch = random.uniform(0.6, 0.7, pairs)
    teachers = scratch + random.uniform(0.04, 0.1, pairs)
    means = scratch + random.normal(0.5, 0.25, pairs) * (teachers - scratch)
    common, *own = random.normal(0, 0.004, (3, boards, seeds, pairs))
    noise = [math.sqrt(correlation) * common + math.sqrt(1 - correlation) * each for each in own]
    return means + noise[0], scratch + noise[1], scratch, teachers


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize(("seeds", "pairs"), [(3, 2), (3, 4), (3, 10), (5, 4), (5, 10)])
def test_intervals_of_the_gap_closed_cover_the_truth_with_the_noise_of_scratch(seeds, pairs, correlation):
    """Without that noise they cover 0.82 to 0.93 where it is not shared; where it is shared they may be too wide."""
    random = np.random.default_rng(0)
    methods, scratches, zeros, teachers = boards_of_equal_noise(random, seeds, pairs, 1400, correlation)
    truth = np.mean([interquartile_mean((each - zeros) / (teachers - zeros)) for each in methods])
    hits = 0
    for each, zero in zip(methods[:400], scratches[:400], strict=True):
        gaps = (each - zero.mean(axis=0)) / (teachers - zero.mean(axis=0))
        low, high = gap_interval(gaps, zero.T.tolist(), teachers, draws=300)
        hits += low <= truth <= high
    assert hits / 400 > 0.93


def test_without_noise_of_scratch_the_interval_is_the_stratified_one():
    gaps = np.random.default_rng(0).normal(0.5, 0.2, (5, 3))
    still = gap_interval(gaps, [[0.6] * 4, [0.7] * 4, [0.5] * 4], [0.8, 0.9, 0.7], draws=4000)
    expected = np.subtract(stratified_interval(interquartile_mean, gaps, draws=4000), interquartile_mean(gaps))
    # The fewest seeds are the 4 of scratch.
    wider = math.sqrt((4 / 3) / (5 / 4)) * stats.t.ppf(0.975, 9) / stats.t.ppf(0.975, 12)
    assert np.subtract(still, interquartile_mean(gaps)) == pytest.approx(wider * expected, rel=1e-9)
    noisy = gap_interval(gaps, [[0.58, 0.62] * 2, [0.68, 0.72] * 2, [0.48, 0.52] * 2], [0.8, 0.9, 0.7], draws=4000)
    assert noisy[0] < still[0] < still[1] < noisy[1]
    assert gap_interval(gaps, [[0.6]] * 3, [0.8] * 3) is None


# --- Reproduced? ---


@reproducible
@given(
    values=st.lists(st.integers(7000, 7600).map(lambda x: x / 10_000), min_size=2, max_size=10, unique=True),
    published=st.sampled_from([0.72, 0.73, 0.74]),
)
def test_equivalence_is_two_one_sided_t_tests_of_scipy(values, published):
    tolerance = 0.015
    p_value = max(
        stats.ttest_1samp(values, published - tolerance, alternative="greater").pvalue,
        stats.ttest_1samp(values, published + tolerance, alternative="less").pvalue,
    )
    found = equivalence(values, published, tolerance)
    assert found.p_value == pytest.approx(p_value, rel=1e-6, abs=1e-12)
    assert (found.verdict == "reproduced") == (p_value < 0.05)
    assert found.difference.mean == pytest.approx(np.mean(values) - published)
    low, high = stats.ttest_1samp(values, published).confidence_interval(0.90)
    assert (found.difference.low, found.difference.high) == pytest.approx((low - published, high - published))


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.7305, 0.7310, 0.7295, 0.7302, 0.7299], "reproduced"),
        ([0.7205, 0.7210, 0.7195, 0.7202, 0.7199], "below"),
        ([0.7405, 0.7410, 0.7395, 0.7402, 0.7399], "above"),
        ([0.7200, 0.7400, 0.7310, 0.7250, 0.7350], "inconclusive"),  # too much noise
        ([0.7352, 0.7349, 0.7351, 0.7350, 0.7348], "inconclusive"),  # on the edge of the band
        ([0.7300], "inconclusive"),
        ([0.7300, 0.7300], "reproduced"),
    ],
)
def test_verdicts_at_half_a_point(values, verdict):
    assert equivalence(values, 0.73, 0.005).verdict == verdict


def test_of_one_value_nothing_is_known():
    found = equivalence([0.73], 0.73, 0.005)
    assert (found.p_value, found.difference.low) == (None, None)


def test_equivalence_keeps_its_level_at_the_edge_of_the_band():
    """A method that is exactly the tolerance off is called reproduced in at most 5 % of the cases."""
    random = np.random.default_rng(0)
    verdicts = [equivalence(random.normal(0.735, 0.002, 5).tolist(), 0.73, 0.005).verdict for _ in range(2000)]
    assert 0.03 < verdicts.count("reproduced") / 2000 < 0.07
    assert 0.03 < verdicts.count("above") / 2000 < 0.07


@reproducible
@given(
    values=st.lists(st.integers(7000, 7600).map(lambda x: x / 10_000), min_size=2, max_size=10, unique=True),
    deviation=st.integers(1, 60).map(lambda x: x / 10_000),
    seeds=st.integers(2, 8),
)
def test_equivalence_with_a_published_spread_is_two_welch_tests_of_scipy(values, deviation, seeds):
    published, tolerance = 0.73, 0.015
    own = (np.mean(values), np.std(values, ddof=1), len(values))

    def against(bound, alternative):
        theirs = (published + bound, deviation, seeds)
        return stats.ttest_ind_from_stats(*own, *theirs, equal_var=False, alternative=alternative).pvalue

    p_value = max(against(-tolerance, "greater"), against(tolerance, "less"))
    found = equivalence(values, published, tolerance, spread=Spread(deviation, seeds))
    assert found.p_value == pytest.approx(p_value, rel=1e-6, abs=1e-12)
    assert (found.verdict == "reproduced") == (p_value < 0.05)
