"""Comparisons on the same test samples, and corrections, against scipy and simulations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kd_bench.results.records.measured import Exemplars
from kd_bench.results.statistics.exemplars import Exemplar, compression_identified
from kd_bench.results.statistics.multiplicity import benjamini_hochberg
from kd_bench.results.statistics.paired import bootstrap_interval, mcnemar_p_value

reproducible = settings(derandomize=True, database=None, deadline=None, max_examples=80)
counts = st.integers(0, 300)


@reproducible
@given(negative=counts, positive=counts)
def test_mcnemar_is_scipys_binomial_test_of_the_discordant_pairs(negative, positive):
    total = negative + positive
    expected = stats.binomtest(negative, total).pvalue if total else 1.0
    assert mcnemar_p_value(negative, positive) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_keeps_its_level():
    """Two classifiers equally good, with mistakes of their own: fewer than 5 % of the tests reject."""
    random = np.random.default_rng(0)
    right = random.random((2000, 2, 300)) < 0.7
    negative, positive = (right[:, 0] & ~right[:, 1]).sum(1), (~right[:, 0] & right[:, 1]).sum(1)
    rejected = [mcnemar_p_value(*flips) <= 0.05 for flips in zip(negative.tolist(), positive.tolist(), strict=True)]
    assert 0.02 < np.mean(rejected) <= 0.05


@reproducible
@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys(p_values):
    assert benjamini_hochberg(p_values) == pytest.approx(stats.false_discovery_control(p_values, method="bh"))


def test_benjamini_hochberg_of_a_textbook_example():
    """Benjamini & Hochberg 1995, section 3.2: of 15 p values the first four are rejected at 5 %."""
    p_values = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p_values += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert [value <= 0.05 for value in benjamini_hochberg(p_values)] == [True] * 4 + [False] * 11
    assert benjamini_hochberg([]) == []


def test_bootstrap_of_samples_is_scipys_percentile_bootstrap():
    differences = np.random.default_rng(0).normal(0.2, 1, 200)
    low, high = bootstrap_interval(differences)
    expected = stats.bootstrap((differences,), np.mean, n_resamples=10_000, method="percentile", rng=1)
    assert (low, high) == pytest.approx(tuple(expected.confidence_interval), abs=0.01)
    assert bootstrap_interval(differences) == (low, high)


def test_bootstrap_of_flips_has_the_width_of_the_normal_approximation():
    """10,000 samples, 300 gained and 200 lost."""
    differences = [1.0] * 300 + [-1.0] * 200 + [0.0] * 9_500
    half = stats.norm.ppf(0.975) * np.std(differences) / 100
    assert bootstrap_interval(differences) == pytest.approx((0.01 - half, 0.01 + half), abs=2e-4)
    narrow = bootstrap_interval(differences, confidence=0.5)
    assert 0 < narrow[1] - narrow[0] < half


def test_bootstrap_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(0)
    covered = 0
    for seed in range(400):
        differences = random.choice([-1.0, 0.0, 1.0], size=500, p=[0.1, 0.75, 0.15])
        low, high = bootstrap_interval(differences, draws=500, seed=seed)
        covered += low <= 0.05 <= high
    assert covered / 400 == pytest.approx(0.95, abs=0.025)


def test_bootstrap_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="no differences"):
        bootstrap_interval([])


# --- Compression-identified exemplars ---


def listing(rows: list[tuple[int, int, int, int, float]], total: int | None = None) -> Exemplars:
    """From (index, target, teacher, student, confidence), in the order of lists."""
    columns = [list(column) for column in zip(*rows, strict=True)] or [[], [], [], [], []]
    names = ("index", "target", "teacher", "student", "teacher_confidence")
    return Exemplars(total=len(rows) if total is None else total, **dict(zip(names, columns, strict=True)))


def slow_exemplars(students: np.ndarray, teacher: np.ndarray) -> list[tuple[int, int]]:
    """Hooker et al. 2019: index and mode of the students' predictions (S, N), where it is not the teacher's (N,)."""
    found = []
    for index, ours in enumerate(students.T):
        labels, votes = np.unique(ours, return_counts=True)
        if teacher[index] not in labels[votes == votes.max()]:
            found.append((index, int(labels[votes.argmax()])))
    return found


@pytest.mark.parametrize(("seeds", "cut"), [(1, None), (3, None), (5, None), (5, 12)])
def test_exemplars_are_the_slow_mode_over_all_predictions(seeds, cut):
    random = np.random.default_rng(seeds)
    teacher, targets = random.integers(0, 4, 200), random.integers(0, 4, 200)
    confidence = random.permutation(200) / 200
    students = np.where(random.random((seeds, 200)) < 0.6, teacher, random.integers(0, 4, (seeds, 200)))
    lists, ends = [], []
    for own in students:
        different = sorted(np.flatnonzero(own != teacher), key=lambda index: -confidence[index])[:cut]
        rows = [(int(i), int(targets[i]), int(teacher[i]), int(own[i]), float(confidence[i])) for i in different]
        lists.append(listing(rows, total=int((own != teacher).sum())))
        ends.append(confidence[different[-1]] if cut else -1)
    expected = [pair for pair in slow_exemplars(students, teacher) if confidence[pair[0]] >= max(ends)]
    found = compression_identified(lists)
    assert sorted((each.index, each.student) for each in found) == expected
    assert [confidence[each.index] for each in found] == sorted((confidence[i] for i, _ in expected), reverse=True)
    assert all(each.votes == (students[:, each.index] == each.student).sum() for each in found)
    assert 0 < len(found) < 200


def test_one_dissenter_among_three_makes_no_exemplar_and_two_do():
    first = listing([(4, 0, 0, 1, 0.9), (7, 2, 0, 2, 0.8)])
    second = listing([(7, 2, 0, 2, 0.8)])
    assert compression_identified([first, second, listing([])]) == [Exemplar(7, 2, 0, 2, votes=2)]


def test_of_equally_frequent_classes_the_teachers_counts():
    assert compression_identified([listing([(4, 0, 0, 1, 0.9)]), listing([])]) == []
    assert compression_identified([]) == []
