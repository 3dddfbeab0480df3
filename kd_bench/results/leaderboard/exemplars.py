"""Compression-identified exemplars as CSV: test images whose most frequent prediction over a row's seeds is not the
teacher's."""

from collections.abc import Iterator

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.entries import options_text
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.spreadsheet import Value, csv_table
from kd_bench.results.statistics.exemplars import compression_identified
from kd_bench.results.statistics.ranking import MINIMUM_RANKED

COLUMNS = (
    *("board", "dataset", "teacher", "student", "recipe", "method", "generation", "method_options", "seeds"),
    *("test_image", "class", "teacher_predicts", "students_predict", "students_that_do"),
)


def exemplars_text(leaderboard: Leaderboard) -> str:
    """Return a line an image and row, those first that the teacher is surest of, below the header.

    ``test_image`` is a position in the test split. Rows of one or two seeds are left out, since one student's list is
    mostly noise, and so are rows of which a run lacks its list.
    """
    rows = ((board, row) for board in leaderboard.boards for row in board.rows)
    return csv_table(COLUMNS, (line for board, row in rows for line in _lines(board, row)))


def _lines(board: Board, row: Row) -> Iterator[tuple[Value, ...]]:
    entry, names = row.entry, board.dataset.class_names
    lists = [found for run in entry.runs if (found := run.headline().exemplars) is not None]
    if board.teacher is None or len(lists) < max(MINIMUM_RANKED, len(entry.runs)):
        return
    of_board = (board.identifier, board.dataset.name, board.teacher.name, board.student, board.recipe)
    of_row = (entry.name, entry.generation, options_text(entry.options).strip(), len(lists))
    for each in compression_identified(lists):
        classes = (_name(names, label) for label in (each.target, each.teacher, each.student))
        yield (*of_board, *of_row, each.index, *classes, each.votes)


def _name(names: list[str], label: int) -> str:
    """Name a class; anybody may write a record with labels that are none of its classes."""
    return names[label] if label < len(names) else str(label)
