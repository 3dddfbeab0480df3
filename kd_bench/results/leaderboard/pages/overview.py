"""The overview of several boards: methods by pairs, each cell the difference to KD on its board."""

from collections.abc import Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import COLUMNS, MARKS_EXPLAINED
from kd_bench.results.leaderboard.pages.board import TITLE_LIMIT, row_names
from kd_bench.results.leaderboard.pages.html import mark, scroll
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.text.escape import for_html

NAME_LIMIT = 60
TITLE = "Overview"
CAPTION = (
    "Difference to KD in points of test top-1, on the seeds shared with KD; "
    f"{MARKS_EXPLAINED}, by the comparisons of each board. Cells without a sign were not tested, empty ones not run."
    " Rows join methods by name, as boards write it; settings may differ between boards."
)
DIFFERENCE = next(column for column in COLUMNS if column.key == "kd_difference")


def overview(boards: Sequence[Board]) -> str:
    """Return the table of all methods, by name, and all boards; empty for fewer than two boards."""
    if len(boards) < 2:
        return ""
    found = [
        {row.entry.label: (row, name) for row, name in zip(board.rows, row_names(board), strict=True)}
        for board in boards
    ]
    head = "".join(
        f'<th scope="col" class="number"><a href="#{board.identifier}">{for_html(board.title, TITLE_LIMIT)}</a></th>'
        for board in boards
    )
    lines = []
    for label in sorted(set().union(*found)):
        cells = "".join(_cell(board, *rows.get(label, (None, ""))) for board, rows in zip(boards, found, strict=True))
        lines.append(f'<tr><th scope="row" class="text">{for_html(label, NAME_LIMIT)}</th>{cells}</tr>')
    table = (
        f'<table class="overview"><caption class="visually-hidden">{TITLE}: {CAPTION}</caption><thead><tr>'
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )
    return f'<div id="overview"><h2>{TITLE}</h2><p class="facts">{CAPTION}</p>{scroll(TITLE, table)}</div>'


def _cell(board: Board, row: Row | None, name: str) -> str:
    """Return the cell of a method on a board; the script hides it with the row of this name."""
    if row is None:
        return "<td></td>"
    if row is board.kd:
        return f'<td class="number note" data-row="{name}">baseline</td>'
    cell = DIFFERENCE.cell(row)
    sign = f"{mark(cell.mark, cell.meaning)} " if cell.mark else ""
    kind = "number unclear" if cell.unclear else "number"
    return f'<td class="{kind}" data-row="{name}">{sign}{for_html(cell.text)}</td>'
