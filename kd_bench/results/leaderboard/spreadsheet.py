"""The leaderboard as CSV: one line a row, fractions with full precision, empty where a value is missing."""

import csv
import io
from collections.abc import Callable, Iterable

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.entries import options_text
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.simultaneous import Comparison
from kd_bench.results.text.escape import for_csv

Value = str | int | float | bool | None
Getter = Callable[[Board, Row], Value]

IDENTITY: dict[str, Getter] = {
    "board": lambda board, row: board.identifier,
    "dataset": lambda board, row: board.dataset.name,
    "dataset_sha256": lambda board, row: board.dataset.content_sha256,
    "train_samples": lambda board, row: board.dataset.train_samples,
    "validation_samples": lambda board, row: board.dataset.validation_samples,
    "test_samples": lambda board, row: board.dataset.test_samples,
    "teacher": lambda board, row: board.teacher.name if board.teacher else None,
    "teacher_weights_sha256": lambda board, row: board.teacher.weights_sha256 if board.teacher else None,
    "teacher_test_top1": lambda board, row: board.teacher.test_top1 if board.teacher else None,
    "student": lambda board, row: board.student,
    "recipe": lambda board, row: board.recipe,
    "board_options": lambda board, row: options_text(board.options).strip(),
    "rank_first": lambda board, row: row.rank[0] if row.rank else None,
    "rank_last": lambda board, row: row.rank[1] if row.rank else None,
    "evidence": lambda board, row: row.evidence,
    "significantly_best": lambda board, row: row.best,
    "method": lambda board, row: row.entry.name,
    "generation": lambda board, row: row.entry.generation,
    "method_options": lambda board, row: options_text(row.entry.options).strip(),
    "family": lambda board, row: row.entry.latest.method.family,
    "paper": lambda board, row: row.entry.latest.method.paper,
    "selection": lambda board, row: row.entry.selection,
    "seeds": lambda board, row: " ".join(str(run.seed) for run in row.entry.runs),
    "runs": lambda board, row: " ".join(run.run_id for run in row.entry.runs),
    "finished_runs": lambda board, row: row.top1.n,
    "failed_runs_of_method": lambda board, row: row.failed,
    "unfinished_runs_of_method": lambda board, row: row.unfinished,
    "finished_on": lambda board, row: row.entry.finished_on,
    "commits": lambda board, row: " ".join(row.entry.commits),
    "further_runs_left_out": lambda board, row: row.entry.left_out,
}


# Parts of an estimate by the ends of their columns' names. A metric has as many seeds as its row, or is missing.
ESTIMATE = {"_mean": "mean", "_ci95_low": "low", "_ci95_high": "high", "_n": "n"}
METRIC = {"": "mean", "_ci95_low": "low", "_ci95_high": "high"}
COMPARISON = {"_mean": "difference", "_simultaneous95_low": "low", "_simultaneous95_high": "high", "_n": "seeds"}
COMPARISON |= {"_p_value": "p_value", "_claim": "claim"}


def _parts(name: str, get: Callable[[Row], Estimate | Comparison | None], parts: dict[str, str]) -> dict[str, Getter]:
    def part(attribute: str) -> Getter:
        return lambda board, row: getattr(get(row), attribute, None)

    return {name + end: part(attribute) for end, attribute in parts.items()}


def _metric(key: str) -> dict[str, Getter]:
    return _parts(key, lambda row: row.metrics[key], METRIC)


COLUMNS: dict[str, Getter] = {
    **IDENTITY,
    **_parts("test_top1", lambda row: row.top1, ESTIMATE),
    **_parts("difference_to_scratch", lambda row: row.versus_scratch, COMPARISON),
    **_parts("difference_to_kd", lambda row: row.versus_kd, COMPARISON),
    "retention": lambda board, row: row.retention,
    "retention_over_chance": lambda board, row: row.retention_over_chance,
    "gap_closed": lambda board, row: row.gap_closed,
    "ece_noise_floor": lambda board, row: row.floors["ece"],
    "scaled_ece_noise_floor": lambda board, row: row.floors["scaled_ece"],
    **{name: get for key in METRICS for name, get in _metric(key).items()},
}


def csv_text(leaderboard: Leaderboard) -> str:
    """Return all boards in one table, in the order of the page."""
    rows = ((board, row) for board in leaderboard.boards for row in board.rows)
    return csv_table(COLUMNS, ([get(board, row) for get in COLUMNS.values()] for board, row in rows))


def csv_table(columns: Iterable[str], lines: Iterable[Iterable[Value]]) -> str:
    """Return a table with a header; it is there without any line, too."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([cell_text(value) for value in line] for line in lines)
    return buffer.getvalue()


def cell_text(value: Value) -> str:
    """Return a value as the text of a CSV cell: full precision, empty where missing, never a formula."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return for_csv(value) if isinstance(value, str) else repr(value)
