"""The rank intervals of a board: a bar a ranked row, as the comparisons of the board have it."""

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import rank_text
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.text.escape import for_html

LABELS, END = 38.0, 97.0  # percent of the width: names end here, and the last rank does
LINE_HEIGHT = 18
BAR = 8
AXIS = 40
MOST_TICKS = 8
LABEL_LIMIT = 20
TITLE_LIMIT = 160


def rank_plot(board: Board) -> str:
    """Draw the plot as an ``svg`` element whose text keeps its size at every width; empty below two ranked rows.

    Every rank has a slot of its own, so that a bar covers the slots of all ranks that its row can have.
    """
    rows = [(index, row) for index, row in enumerate(board.rows) if row.rank]
    if len(rows) < 2:
        return ""
    name, bottom = f"ranks-{board.identifier}", LINE_HEIGHT * len(rows)
    content = _grid(len(rows), bottom) + "".join(
        _line(row, f"{board.identifier}-{index}", position, len(rows), row in (board.kd, board.scratch))
        for position, (index, row) in enumerate(rows)
    )
    listed = ", ".join(f"{row.entry.label[:LABEL_LIMIT]} {rank_text(row.rank)}" for _, row in rows)
    return (
        f'<svg class="chart ranks" style="height:{bottom + AXIS}px" role="img" aria-labelledby="{name}-title'
        f' {name}-text"><title id="{name}-title">Rank intervals: {for_html(board.title, TITLE_LIMIT)}</title>'
        f'<desc id="{name}-text">{for_html(f"In the order of the table: {listed}.")}</desc>{content}</svg>'
    )


def place(rank: int, rows: int) -> float:
    """Return where the slot of a rank begins, in percent of the width; that of the rank after the last is the end."""
    return LABELS + (END - LABELS) * (rank - 1) / rows


def _ticks(rows: int) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, rows) if rows / step <= MOST_TICKS)
    return sorted({1, *range(step, rows + 1, step)})


def _grid(rows: int, bottom: int) -> str:
    parts = []
    for rank in _ticks(rows):
        x = f"{(place(rank, rows) + place(rank + 1, rows)) / 2:.2f}%"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="0" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 16}">{rank}</text>')
    return "".join(parts) + f'<text class="tick" x="{(LABELS + END) / 2:g}%" y="{bottom + 34}">rank</text>'


def _line(row: Row, row_name: str, position: int, rows: int, baseline: bool) -> str:
    assert row.rank is not None
    first, last = row.rank
    y, start = LINE_HEIGHT * position, place(first, rows)
    kind = ' class="baseline"' if baseline else ""
    return (
        f'<g data-row="{row_name}"{kind}><title>{for_html(row.entry.label, TITLE_LIMIT)}: rank'
        f' {rank_text(row.rank)}</title><rect class="band" x="0" y="{y}" width="100%" height="{LINE_HEIGHT}"/>'
        f'<text class="label" x="{LABELS - 2:g}%" y="{y + 13}">{for_html(row.entry.label, LABEL_LIMIT)}</text>'
        f'<rect class="ranked" x="{start:.2f}%" y="{y + (LINE_HEIGHT - BAR) / 2:g}"'
        f' width="{place(last + 1, rows) - start:.2f}%" height="{BAR}" rx="2"/></g>'
    )
