"""The leaderboard as Markdown: a table of the usual columns a board, and one for each further group of them."""

from collections.abc import Iterable, Sequence

from kd_bench.results.leaderboard.aggregates import Aggregate
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.columns import MARKS_EXPLAINED, Cell, Column, columns_of
from kd_bench.results.leaderboard.known_metrics import GROUPS
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.summary import (
    AGGREGATE_COLUMNS,
    AGGREGATES_EXPLAINED,
    EMPTY,
    EXPLANATIONS,
    LEAD,
    NUMERIC_COLUMNS,
    TITLE,
    VERSION_LINE,
    aggregate_rows,
    aggregate_title,
    facts,
    header,
    listings,
)
from kd_bench.results.text.escape import for_markdown

CELL_LIMIT = 120
TITLE_LIMIT = 200
REASON_LIMIT = 400
GLOSSARY = "Every column is explained in the [glossary](../docs/leaderboard.md#glossary)."
FURTHER = {"about": "About the methods"}


def markdown(leaderboard: Leaderboard) -> str:
    """Return the whole leaderboard as one Markdown page."""
    lines = [f"# {for_markdown(TITLE)}", "", LEAD, "", f"{header(leaderboard)}.", ""]
    for board in leaderboard.boards:
        lines += _markdown_board(board)
    if not leaderboard.boards:
        lines += [EMPTY, ""]
    for aggregate in leaderboard.aggregates:
        lines += _markdown_aggregate(aggregate)
    for listing in listings(leaderboard):
        lines += _section(listing.title, listing.columns, listing.rows)
    lines += ["## How to read this", ""]
    for explanation in EXPLANATIONS:
        lines += [explanation, ""]
    return "\n".join([*lines, GLOSSARY, "", for_markdown(VERSION_LINE), ""])


def _markdown_board(board: Board) -> list[str]:
    columns = columns_of(board.rows)
    lines = [f"## {for_markdown(board.title, TITLE_LIMIT)}", ""]
    lines += [for_markdown(" ".join(facts(board))), ""]
    lines += [*_board_table(board, [column for column in columns if column.shown]), "", f"{MARKS_EXPLAINED}.", ""]
    lines += [f"- {for_markdown(note, TITLE_LIMIT)}" for note in board.notes]
    lines += [""] if board.notes else []
    method = next(column for column in columns if column.key == "method")
    for group in (*GROUPS, "about"):
        further = [column for column in columns if column.group == group and not column.shown]
        if further:
            lines += [f"{FURTHER.get(group, f'Further {group}')}:", "", *_board_table(board, [method, *further]), ""]
    return lines


def _board_table(board: Board, columns: Sequence[Column]) -> list[str]:
    rows = [[_markdown_cell(column.cell(row), _bold(column.key, row)) for column in columns] for row in board.rows]
    return markdown_table([(column.title, column.numeric) for column in columns], rows)


def _bold(key: str, row: Row) -> bool:
    return row.best and key in ("method", "top1")


def _markdown_cell(cell: Cell, bold: bool) -> str:
    text = for_markdown(cell.marked, CELL_LIMIT)
    return " ".join(part for part in (f"**{text}**" if bold else text, cell.note) if part)


def _markdown_aggregate(aggregate: Aggregate) -> list[str]:
    title = aggregate_title(aggregate)
    notes = [f"- {for_markdown(note, TITLE_LIMIT)}" for note in aggregate.notes]
    table = _section(for_markdown(title, TITLE_LIMIT), AGGREGATE_COLUMNS, aggregate_rows(aggregate))
    return [*table, AGGREGATES_EXPLAINED, "", *notes, *([""] if notes else [])]


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    cells = [[for_markdown(text, REASON_LIMIT) for text in row] for row in rows]
    return [f"## {title}", "", *markdown_table([(name, name in NUMERIC_COLUMNS) for name in columns], cells), ""]


def markdown_table(columns: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; ``columns`` are names, and whether they hold numbers."""
    lines = [[name for name, _ in columns], ["---:" if numeric else "---" for _, numeric in columns], *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
