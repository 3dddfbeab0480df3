"""Claims that a number of seeds can carry, and the share of the gap to the teacher that a student closes."""

from collections.abc import Sequence
from typing import Literal

from kd_bench.results.statistics.intervals import estimate, mean

MINIMUM_RANKED = 3
MINIMUM_CLAIM = 5

Evidence = Literal["ranked", "preliminary", "too few runs", "single run", "no runs"]


def gap_closed(student: float, scratch: Sequence[float], teacher: float) -> float | None:
    """Return the share of the teacher's advantage that the student gains: (student - scratch) / (teacher - scratch).

    All are accuracies as fractions: the mean of the distilled student, every seed of the student trained without a
    teacher, and the teacher. 0 is no gain, 1 is the teacher, above 1 is better than the teacher, below 0 is harm.

    ``None``, "undefined", where the denominator says nothing: the teacher is no better than the mean of scratch, its
    advantage lies within the noise of scratch (the t interval of teacher - scratch contains 0), or that noise is
    unknown because scratch has fewer than two seeds.
    """
    if len(scratch) < 2:
        return None
    advantage = estimate([teacher - value for value in scratch])
    if advantage.mean <= 0 or advantage.contains_zero:
        return None
    return (student - mean(scratch)) / advantage.mean


def evidence(n: int) -> Evidence:
    """Say what ``n`` seeds can carry: from 5 a claim, 3 and 4 a preliminary one, fewer none.

    Two seeds are not a "single run", but a t interval with one degree of freedom is 12.7 standard errors to each side:
    they are labelled "too few runs" and treated alike.
    """
    if n >= MINIMUM_CLAIM:
        return "ranked"
    if n >= MINIMUM_RANKED:
        return "preliminary"
    return "too few runs" if n == 2 else "single run" if n == 1 else "no runs"
