"""Methods over several boards: the same recipe on other pairs or data sets.

A score is the share of the teacher's advantage that a run gains, (run - scratch) / (teacher - scratch), so that boards
are comparable. Nothing is imputed: boards without it and methods that lack a board or a seed are left out, with a note.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kd_bench.results.leaderboard.board import KD, Board
from kd_bench.results.leaderboard.entries import options_text
from kd_bench.results.statistics.aggregates import (
    gap_interval,
    interquartile_mean,
    optimality_gap,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.ranking import MINIMUM_RANKED, gap_closed

MINIMUM_BOARDS = 2
# Boards with fewer of the methods are side questions: they would leave nothing that is on every board.
MINIMUM_SHARE = 0.5
DRAWS = 500
THRESHOLDS = tuple(round(-0.5 + 0.1 * step, 1) for step in range(21))

Matrix = list[list[float]]  # seeds by boards


@dataclass(frozen=True)
class MethodAggregate:
    """A method over the boards: interquartile mean of its scores with a bootstrap interval over seeds.

    ``profile`` is the share of scores above each of ``THRESHOLDS``. ``improvement`` is the probability that a run is
    better than one of KD on a random board, None for KD itself and where KD is not among the methods.
    """

    label: str
    seeds: int
    score: Estimate
    optimality_gap: float
    improvement: Estimate | None
    profile: tuple[float, ...]


@dataclass(frozen=True)
class Aggregate:
    """Methods that can be compared over ``boards``, by descending interquartile mean."""

    recipe: str
    boards: tuple[Board, ...]
    methods: tuple[MethodAggregate, ...]
    notes: tuple[str, ...]


def build_aggregates(boards: Sequence[Board]) -> tuple[Aggregate, ...]:
    """Build an aggregate of each recipe that has at least two boards with at least one method in common."""
    by_recipe: dict[str, list[Board]] = {}
    for board in boards:
        by_recipe.setdefault(board.recipe + options_text(board.options), []).append(board)
    found = (_aggregate(recipe, group) for recipe, group in sorted(by_recipe.items()) if len(group) >= MINIMUM_BOARDS)
    return tuple(aggregate for aggregate in found if aggregate is not None)


def _aggregate(recipe: str, boards: Sequence[Board]) -> Aggregate | None:
    scores = [(board, _scores(board)) for board in boards]
    most = max(len(found) for _, found in scores)
    kept = [(board, found) for board, found in scores if found and len(found) >= MINIMUM_SHARE * most]
    if len(kept) < MINIMUM_BOARDS:
        return None
    notes = [f"{board.title}: left out, {_reason(found)}." for board, found in scores if (board, found) not in kept]
    matrices: dict[str, Matrix] = {}
    for label in sorted({label for _, found in kept for label in found}):
        matrix = _matrix([found.get(label, {}) for _, found in kept])
        if matrix:
            matrices[label] = matrix
        else:
            notes.append(f"{label}: left out, no {MINIMUM_RANKED} seeds that it has on every board.")
    if not matrices:
        return None
    scales = [_scale(board) for board, _ in kept]
    methods = [_method(label, matrix, matrices.get(KD), scales) for label, matrix in matrices.items()]
    methods.sort(key=lambda method: (-method.score.mean, method.label))
    return Aggregate(recipe, tuple(board for board, _ in kept), tuple(methods), tuple(notes))


def _reason(found: dict[str, dict[int, float]]) -> str:
    return "it has fewer than half of the methods" if found else "its teacher is not clearly better than scratch"


def _scores(board: Board) -> dict[str, dict[int, float]]:
    """Return scores by method and seed; empty where the board has no scale. Scratch is its zero."""
    scratch, kd = board.scratch, board.kd
    if board.teacher is None or scratch is None:
        return {}
    zero, teacher = _scale(board)
    found: dict[str, dict[int, float]] = {}
    for row in board.rows:
        gains = {seed: gap_closed(value, zero, teacher) for seed, value in row.entry.scores.items()}
        known = {seed: gain for seed, gain in gains.items() if gain is not None}
        if known and row is not scratch:
            label = row.entry.label
            found[KD if row is kd else f"{label}, not as it ships" if label == KD else label] = known
    return found


def _matrix(columns: Iterable[dict[int, float]]) -> Matrix:
    """Return the scores of the seeds that every board has; empty with fewer than three."""
    by_board = list(columns)
    seeds = sorted(set.intersection(*(set(column) for column in by_board)))
    return [[column[seed] for column in by_board] for seed in seeds] if len(seeds) >= MINIMUM_RANKED else []


def _scale(board: Board) -> tuple[list[float], float]:
    """Return the accuracies of scratch, whose mean is the zero of the scale, and that of the teacher, its one."""
    assert board.scratch is not None and board.teacher is not None  # noqa: PT018, as the board has scores
    return list(board.scratch.entry.scores.values()), board.teacher.test_top1


def _method(
    label: str, matrix: Matrix, kd: Matrix | None, scales: Sequence[tuple[list[float], float]]
) -> MethodAggregate:
    improvement = None
    if kd is not None and matrix is not kd:
        ends = stratified_interval(probability_of_improvement, matrix, kd, draws=DRAWS)
        low, high = (None, None) if ends is None else (max(0.0, ends[0]), min(1.0, ends[1]))
        improvement = Estimate(probability_of_improvement(matrix, kd), low, high, len(matrix))
    scratch, teachers = [zero for zero, _ in scales], [one for _, one in scales]
    low, high = gap_interval(matrix, scratch, teachers, draws=DRAWS) or (None, None)
    return MethodAggregate(
        label,
        len(matrix),
        Estimate(interquartile_mean(matrix), low, high, len(matrix)),
        optimality_gap(matrix),
        improvement,
        tuple(performance_profile(matrix, THRESHOLDS)),
    )
