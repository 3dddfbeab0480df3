"""The leaderboard as Markdown, and a board as a plain table for a terminal."""

import textwrap
from collections.abc import Iterable, Sequence

from kd_bench.leaderboard.board import Board, Leaderboard
from kd_bench.leaderboard.columns import (
    COLUMNS,
    INTERVALS_EXPLAINED,
    MISSING,
    RANKS_EXPLAINED,
    SCOPE_EXPLAINED,
    Cell,
    count,
    half_width,
    percent,
    points,
    rank_text,
    seconds,
)
from kd_bench.leaderboard.escape import ELLIPSIS, for_markdown, visible
from kd_bench.leaderboard.rows import Row
from kd_bench.leaderboard.summary import (
    EMPTY,
    NUMERIC_COLUMNS,
    REJECTED_COLUMNS,
    STATE_COLUMNS,
    TEACHER_COLUMNS,
    TITLE,
    VERSION_LINE,
    facts,
    header,
    rejected_rows,
    state_rows,
    teacher_rows,
)
from kd_bench.statistics import Estimate

CELL_LIMIT = 120
TITLE_LIMIT = 200
REASON_LIMIT = 400
METHOD_WIDTHS = (8, 40)
METHOD_LINES = 3
TERMINAL_GAP = "  "
TERMINAL_TITLES = (
    "rank",
    "method",
    "seeds",
    "test top-1 %",
    "Δ scratch",
    "Δ KD",
    "retention",
    "ECE",
    "params",
    "train s",
)


def markdown(leaderboard: Leaderboard) -> str:
    """The whole leaderboard as one Markdown page."""
    lines = [f"# {for_markdown(TITLE)}", "", f"{header(leaderboard)}.", ""]
    for board in leaderboard.boards:
        lines += _markdown_board(board)
    if not leaderboard.boards:
        lines += [EMPTY, ""]
    lines += _section("Teachers", TEACHER_COLUMNS, teacher_rows(leaderboard))
    lines += _section("Failed and unfinished runs", STATE_COLUMNS, state_rows(leaderboard))
    lines += _section("Rejected files", REJECTED_COLUMNS, rejected_rows(leaderboard))
    lines += ["## How to read this", ""]
    for explanation in (SCOPE_EXPLAINED, RANKS_EXPLAINED, INTERVALS_EXPLAINED):
        lines += [explanation, ""]
    lines += [f"- {column.title}: {column.explanation}" for column in COLUMNS]
    return "\n".join([*lines, "", for_markdown(VERSION_LINE), ""])


def _markdown_board(board: Board) -> list[str]:
    lines = [f"## {for_markdown(board.title, TITLE_LIMIT)}", ""]
    lines += [for_markdown(" ".join(facts(board))), ""]
    rows = [[_markdown_cell(column.cell(row), _bold(column.key, row)) for column in COLUMNS] for row in board.rows]
    lines += [*_table([(column.title, column.numeric) for column in COLUMNS], rows), ""]
    notes = [f"- {for_markdown(note, TITLE_LIMIT)}" for note in board.notes]
    return [*lines, *notes, ""] if notes else lines


def _bold(key: str, row: Row) -> bool:
    return row.best and key in ("method", "top1")


def _markdown_cell(cell: Cell, bold: bool) -> str:
    text = for_markdown(cell.text, CELL_LIMIT)
    return " ".join(part for part in (f"**{text}**" if bold else text, cell.note) if part)


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    cells = [[for_markdown(text, REASON_LIMIT) for text in row] for row in rows]
    return [f"## {title}", "", *_table([(name, name in NUMERIC_COLUMNS) for name in columns], cells), ""]


def _table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> list[str]:
    yielded = [[name for name, _ in columns], ["---:" if numeric else "---" for _, numeric in columns], *rows]
    return [f"| {' | '.join(cells)} |" for cells in yielded]


def terminal_table(boards: Sequence[Board], width: int = 110) -> str:
    """The boards as plain text for the end of a command.

    Long names of methods are broken to fit ``width`` columns; 100 are enough unless ranks or counts have many digits.
    """
    return "\n\n".join(_terminal_board(board, width) for board in boards) or EMPTY


def _terminal_board(board: Board, width: int) -> str:
    cells = [_terminal_cells(row) for row in board.rows]
    widths = [max(len(line[position]) for line in (TERMINAL_TITLES, *cells)) for position in range(len(cells[0]))]
    least, most = METHOD_WIDTHS
    free = width - (sum(widths) - widths[1]) - len(TERMINAL_GAP) * (len(widths) - 1)
    widths[1] = max(least, min(most, widths[1], free))
    lines = [visible(board.title, width)]
    for line in (TERMINAL_TITLES, ["─" * size for size in widths], *cells):
        lines += _terminal_lines(line, widths)
    return "\n".join([*lines, *_footnotes(board, width)])


def _terminal_cells(row: Row) -> list[str]:
    evidence = "" if row.evidence == "ranked" else "*" if row.evidence == "preliminary" else "!"
    without = f" ({row.failed + row.unfinished})" if row.failed + row.unfinished else ""
    return [
        rank_text(row.rank) + evidence,
        visible(row.entry.label) + ("†" if row.entry.selection != "last" else ""),
        f"{row.top1.n}{without}",
        f"{percent(row.top1.mean)} {half_width(row.top1)}"
        if row.top1.half_width is not None
        else percent(row.top1.mean),
        _terminal_difference(row.scratch_difference),
        _terminal_difference(row.kd_difference),
        MISSING if row.retention is None else percent(row.retention),
        f"{row.ece:.3f}",
        count(row.parameters),
        seconds(row.train_seconds),
    ]


def _terminal_difference(value: Estimate | None) -> str:
    if value is None:
        return MISSING
    return points(value.mean) if value.half_width is None else f"{points(value.mean)} {half_width(value)}"


def _terminal_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """One row, of several lines where the method's name has to be broken."""
    first, *rest = textwrap.wrap(cells[1], widths[1], max_lines=METHOD_LINES, placeholder=ELLIPSIS) or [""]
    aligned = [cell.rjust(size) for cell, size in zip(cells, widths, strict=True)]
    aligned[1] = first.ljust(widths[1])
    indent = " " * (widths[0] + len(TERMINAL_GAP))
    return [TERMINAL_GAP.join(aligned).rstrip(), *(indent + line for line in rest)]


def _footnotes(board: Board, width: int) -> list[str]:
    rows = board.rows
    possible = (
        (True, "± half of the 95 % t interval; Δ in points, paired by seed; retention in %."),
        (any(row.evidence == "preliminary" for row in rows), "* preliminary: 3 or 4 seeds."),
        (any(row.rank is None for row in rows), "! single run or too few runs (below 3 seeds): no rank."),
        (any(row.failed + row.unfinished for row in rows), "(n): runs of the method that failed or are unfinished."),
        (any(row.entry.selection != "last" for row in rows), "† selected on validation."),
    )
    return [*(text for shown, text in possible if shown), *(visible(note, width) for note in board.notes)]
