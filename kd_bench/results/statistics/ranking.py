"""Claims about methods on one board: evidence, ties, rank bands, the share of the gap that is closed."""

from collections.abc import Sequence
from typing import Literal

from kd_bench.results.statistics.intervals import estimate, mean, t_interval
from kd_bench.results.statistics.paired import Scores, paired_estimate

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


def indistinguishable(first: Scores, second: Scores) -> bool:
    """Return whether two methods are tied at 95 %: nothing in their seeds tells their means apart.

    With three or more shared seeds, the paired t interval of the difference contains 0. With fewer, or where all
    differences are equal, the t intervals of the two means overlap; this is the more cautious of the two, and a method
    without an interval ties with all.
    """
    paired = paired_estimate(first, second)
    if paired is not None and paired.n >= MINIMUM_RANKED and paired.low is not None:
        return paired.contains_zero
    one, other = t_interval(list(first.values())), t_interval(list(second.values()))
    return one is None or other is None or (one[0] <= other[1] and other[0] <= one[1])


def rank_bands(scores: Sequence[Scores]) -> list[tuple[int, int]]:
    """Rank with ties: return the first and the last rank of each method's band. ``scores`` come by descending mean.

    The first method leads the first band. Each next one joins the band while it is ``indistinguishable`` from the
    band's leader; the first that is not leads the next band. So (2, 4) is one of the ranks 2 to 4. Within a band the
    order is that of the means and says nothing; the comparisons are not corrected for their number.
    """
    leaders: list[int] = []
    for position, candidate in enumerate(scores):
        if not leaders or not indistinguishable(scores[leaders[-1]], candidate):
            leaders.append(position)
    ends = [*leaders[1:], len(scores)]
    return [(start + 1, end) for start, end in zip(leaders, ends, strict=False) for _ in range(start, end)]
