"""Compression-identified exemplars as CSV: test images whose most frequent class over a row's seeds is not the
teacher's."""

import csv
import io
from collections.abc import Iterator

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.entries import options_text
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.spreadsheet import Value, cell_text
from kd_bench.results.statistics import MINIMUM_RANKED, compression_identified

COLUMNS = (
    *("board", "dataset", "teacher", "student", "recipe", "method", "generation", "method_options", "seeds"),
    *("test_image", "class", "teacher_predicts", "students_predict", "students_that_do"),
)


def exemplars_text(leaderboard: Leaderboard) -> str:
    """A line an image and row, those first that the teacher is surest of; the header is there without any, too.

    ``test_image`` is a position in the test split. Of one or two seeds nothing is said, since one student's list is
    mostly noise, and of a row nothing where a run lacks its list.
    """
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for board in leaderboard.boards:
        for row in board.rows:
            writer.writerows([cell_text(value) for value in line] for line in _lines(board, row))
    return buffer.getvalue()


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
    """Anybody may write a record with other labels than its classes."""
    return names[label] if label < len(names) else str(label)
