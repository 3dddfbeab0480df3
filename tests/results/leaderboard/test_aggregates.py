"""Methods over several boards, against scipy."""

import numpy as np
import pytest
from scipy import stats
from support.records import seeds_of

from kd_bench.results.leaderboard.aggregates import THRESHOLDS
from kd_bench.results.leaderboard.markdown import markdown

from .test_text import leaderboard_of

SCRATCH = (0.50, 0.51, 0.52)
STUDENTS = ("narrow", "slim", "tiny")
SCORES = {
    "kd": {"narrow": (0.55, 0.56, 0.57), "slim": (0.60, 0.61, 0.59), "tiny": (0.52, 0.53, 0.55)},
    "dkd": {"narrow": (0.58, 0.57, 0.59), "slim": (0.60, 0.62, 0.64), "tiny": (0.51, 0.55, 0.56)},
}


def groups(students=STUDENTS, **more):
    found = [seeds_of("scratch", SCRATCH, student=student) for student in students]
    for method, by_student in {**SCORES, **more}.items():
        found += [
            seeds_of(method, by_student[student], student=student) for student in students if student in by_student
        ]
    return found


def gaps(method):
    return np.array([[(value - 0.51) / (0.8 - 0.51) for value in SCORES[method][student]] for student in STUDENTS]).T


def test_interquartile_means_and_probabilities_are_scipys():
    (aggregate,) = leaderboard_of(*groups()).aggregates
    found = {method.label: method for method in aggregate.methods}
    assert [method.label for method in aggregate.methods] == ["dkd", "kd"]
    for name, method in found.items():
        assert method.score.mean == pytest.approx(stats.trim_mean(gaps(name), 0.25, axis=None))
        assert method.score.low < method.score.mean < method.score.high
        assert method.optimality_gap == pytest.approx(1 - np.minimum(gaps(name), 1).mean())
        assert method.profile == pytest.approx([(gaps(name) > threshold).mean() for threshold in THRESHOLDS])
    wins = [stats.mannwhitneyu(gaps("dkd")[:, i], gaps("kd")[:, i]).statistic / 9 for i in range(3)]
    assert found["dkd"].improvement.mean == pytest.approx(np.mean(wins))
    assert found["kd"].improvement is None


def test_what_is_not_on_every_board_is_left_out_with_a_note():
    (aggregate,) = leaderboard_of(*groups(rkd={"narrow": (0.6, 0.6, 0.6), "slim": (0.6, 0.6, 0.6)})).aggregates
    assert {method.label for method in aggregate.methods} == {"kd", "dkd"}
    assert aggregate.notes == ("rkd: left out, no 3 seeds that it has on every board.",)


def test_a_board_without_a_scale_is_left_out_with_a_note():
    noisy = [seeds_of("scratch", (0.3, 0.9, 0.5), student="wild"), seeds_of("kd", (0.6, 0.6, 0.6), student="wild")]
    leaderboard = leaderboard_of(*groups(), *noisy)
    (aggregate,) = leaderboard.aggregates
    assert [board.student for board in aggregate.boards] == ["narrow", "slim", "tiny"]
    assert aggregate.notes == (
        "shapes · wide → wild · short: left out, its teacher is not clearly better than scratch.",
    )
    assert "| dkd | 3 | " in markdown(leaderboard)


@pytest.mark.parametrize("students", [STUDENTS[:1], ()])
def test_one_board_is_no_aggregate(students):
    assert leaderboard_of(*groups(students)).aggregates == ()


def test_recipes_are_not_mixed():
    other = [seeds_of(method, (0.6, 0.61, 0.62), recipe="long") for method in ("scratch", "kd")]
    (aggregate,) = leaderboard_of(*groups(), *other).aggregates
    assert aggregate.recipe == "short"
    assert len(aggregate.boards) == 3
