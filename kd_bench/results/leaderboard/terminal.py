"""Boards as plain tables for a terminal."""

import textwrap
from collections.abc import Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import MARKS_EXPLAINED, SELECTION_MARKS, Column, columns_of
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.summary import EMPTY
from kd_bench.results.text.escape import ELLIPSIS, visible

METHOD_WIDTHS = (8, 40)
METHOD_LINES = 3
EVIDENCE_SIGNS = {"ranked": "", "preliminary": "*"}
SELECTION_SIGNS = {"last": "", "best_on_validation": "†", "best_on_test": "‡", "ema": "§"}
TERMINAL_GAP = "  "


def terminal_table(boards: Sequence[Board], width: int = 110) -> str:
    """Return the boards as plain text for the end of a command.

    Long names of methods are broken to fit ``width`` columns; 100 are enough unless ranks or counts have many digits.
    """
    return "\n\n".join(_terminal_board(board, width) for board in boards) or EMPTY


def _terminal_board(board: Board, width: int) -> str:
    columns = [column for column in columns_of(board.rows) if column.shown]
    titles = [column.title for column in columns]
    cells = [[_terminal_cell(column, row) for column in columns] for row in board.rows]
    widths = [max(len(line[position]) for line in (titles, *cells)) for position in range(len(titles))]
    least, most = METHOD_WIDTHS
    free = width - (sum(widths) - widths[1]) - len(TERMINAL_GAP) * (len(widths) - 1)
    widths[1] = max(least, min(most, widths[1], free))
    lines = [visible(board.title, width)]
    for line in (titles, ["─" * size for size in widths], *cells):
        lines += _terminal_lines(line, widths)
    return "\n".join([*lines, *_footnotes(board, width)])


def _terminal_cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    if column.key == "rank":
        return cell.text + EVIDENCE_SIGNS.get(row.evidence, "!")
    if column.key == "method":
        return visible(cell.text) + SELECTION_SIGNS[row.entry.selection]
    if column.key == "seeds":
        return f"{cell.text} ({row.failed + row.unfinished})" if row.failed + row.unfinished else cell.text
    return f"{cell.marked} {cell.note}".rstrip()


def _terminal_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the lines of a row, several where the method's name has to be broken."""
    first, *rest = textwrap.wrap(cells[1], widths[1], max_lines=METHOD_LINES, placeholder=ELLIPSIS) or [""]
    aligned = [cell.rjust(size) for cell, size in zip(cells, widths, strict=True)]
    aligned[1] = first.ljust(widths[1])
    indent = " " * (widths[0] + len(TERMINAL_GAP))
    return [TERMINAL_GAP.join(aligned).rstrip(), *(indent + line for line in rest)]


def _footnotes(board: Board, width: int) -> list[str]:
    rows = board.rows
    selections = {row.entry.selection for row in rows}
    possible = (
        (True, "± half of the 95 % t interval; Δ in points, with its simultaneous 95 % interval:"),
        (True, f"{MARKS_EXPLAINED}."),
        (any(row.evidence == "preliminary" for row in rows), "* preliminary: 3 or 4 seeds."),
        (any(row.rank is None for row in rows), "! no rank: fewer than 3 seeds."),
        (any(row.failed + row.unfinished for row in rows), "(n): runs of the method that failed or are unfinished."),
        ("best_on_validation" in selections, f"† {SELECTION_MARKS['best_on_validation']}."),
        ("best_on_test" in selections, f"‡ {SELECTION_MARKS['best_on_test']}."),
        ("ema" in selections, f"§ {SELECTION_MARKS['ema']}."),
    )
    power = textwrap.wrap(board.family.power(), width)
    return [*power, *(text for shown, text in possible if shown), *(visible(note, width) for note in board.notes)]
