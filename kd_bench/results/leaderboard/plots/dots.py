"""Dots of seeds, with the mean and its interval: the plot of a board, or a small one in every row of its table."""

from dataclasses import replace

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.plots.chart import Axis, hundredfold
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.text.escape import for_html
from kd_bench.results.text.formats import percent

# In percent of the width, so that text keeps its size at every width: names end, the axis begins, it ends, means end.
LABEL_END, LEFT, RIGHT, MEANS_END = 28.0, 31.0, 87.0, 99.0
LINE_HEIGHT = 24
TOP = 22
BOTTOM = 42
LABEL_LIMIT = 20
TOOLTIP_LIMIT = 300
MARGIN = 0.06
SMALLEST_PAD = 0.001
INLINE_WIDTH, INLINE_HEIGHT, INLINE_PAD = 132, 14, 4


def axis_of(board: Board) -> Axis:
    """Return an axis of all seeds and the intervals of ranked rows, without scratch where there are others.

    A far lower scratch, like a wide interval, would squeeze all the rest; what lies beyond is drawn at the edge.
    """
    rows = [row for row in board.rows if row is not board.scratch] or board.rows
    values = [score for row in rows for score in row.entry.scores.values()]
    for row in rows:
        if row.rank and row.top1.low is not None and row.top1.high is not None:
            values += [row.top1.low, row.top1.high]
    low, high = min(values), max(values)
    pad = max((high - low) * MARGIN, SMALLEST_PAD)
    return Axis(max(0.0, low - pad), min(1.0, high + pad), LEFT, RIGHT)


def dot_plot(board: Board, row_names: list[str]) -> str:
    """Draw the plot of a board as an ``svg`` element; ``row_names`` become ``data-row`` of each line."""
    axis = axis_of(board)
    bottom = TOP + LINE_HEIGHT * len(board.rows)
    lines = [
        _line(row, row_name, index, axis)
        for index, (row, row_name) in enumerate(zip(board.rows, row_names, strict=True))
    ]
    content = f"{_grid(axis, bottom)}{_scratch_line(board, axis, bottom)}{''.join(lines)}"
    title = f"Test top-1 of every seed: {board.title[:TOOLTIP_LIMIT]}"
    name = f"plot-{board.identifier}"
    return (
        f'<svg class="chart dots" style="height:{bottom + BOTTOM}px" role="img" aria-labelledby="{name}-title'
        f' {name}-text"><title id="{name}-title">{for_html(title)}</title><desc id="{name}-text">'
        f"{for_html(_description(board))}</desc>{content}</svg>"
    )


def inline_dots(row: Row, axis: Axis) -> str:
    """Draw the dots of a row alone, on the axis of its board; its numbers stand beside them."""
    axis = replace(axis, start=INLINE_PAD, end=INLINE_WIDTH - INLINE_PAD)
    y = INLINE_HEIGHT / 2
    dots = "".join(f'<circle cx="{axis.at(score):.1f}" cy="{y:g}" r="2.5"/>' for score in row.entry.scores.values())
    return (
        f'<svg class="chart inline" viewBox="0 0 {INLINE_WIDTH} {INLINE_HEIGHT}" aria-hidden="true">'
        f'{_interval(row, y, axis, "")}{dots}<path class="mean" d="M{axis.at(row.top1.mean):.1f} 2v10"/></svg>'
    )


def _description(board: Board) -> str:
    means = ", ".join(f"{row.entry.label[:LABEL_LIMIT]} {percent(row.top1.mean)}" for row in board.rows)
    return f"One line a method, in the order of the table. Mean test top-1 in percent: {means}."


def _grid(axis: Axis, bottom: int) -> str:
    parts = []
    for tick in axis.ticks():
        x = f"{axis.at(tick):.2f}%"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 16}">{hundredfold(tick)}</text>')
    middle = (LEFT + RIGHT) / 2
    return "".join(parts) + f'<text class="tick" x="{middle:g}%" y="{bottom + 34}">test top-1 %</text>'


def _scratch_line(board: Board, axis: Axis, bottom: int) -> str:
    if board.scratch is None:
        return ""
    x = f"{axis.at(board.scratch.top1.mean):.2f}%"
    name = "◂ scratch" if board.scratch.top1.mean < axis.low else "scratch"
    return (
        f'<line class="reference" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>'
        f'<text class="tick" x="{x}" y="{TOP - 9}">{name}</text>'
    )


def _line(row: Row, row_name: str, index: int, axis: Axis) -> str:
    y = TOP + LINE_HEIGHT * index + LINE_HEIGHT / 2
    scores = row.entry.scores
    dots = "".join(f'<circle cx="{axis.at(score):.2f}%" cy="{y:g}" r="3.5"/>' for score in scores.values())
    x = f"{axis.at(row.top1.mean):.2f}%"
    seeds = ", ".join(f"seed {seed}: {percent(score)}" for seed, score in scores.items())
    tooltip = f"{row.entry.label[:TOOLTIP_LIMIT]}, mean {percent(row.top1.mean)}. {seeds}"
    return (
        f'<g data-row="{row_name}"><title>{for_html(tooltip)}</title>'
        f'<rect class="band" x="0" y="{y - LINE_HEIGHT / 2:g}" width="100%" height="{LINE_HEIGHT}"/>'
        f'<text class="label" x="{LABEL_END:g}%" y="{y + 4:g}">{for_html(row.entry.label, LABEL_LIMIT)}</text>'
        f'{_interval(row, y, axis, "%")}{dots}<line class="mean" x1="{x}" x2="{x}" y1="{y - 7:g}" y2="{y + 7:g}"/>'
        f'<text class="left" x="{MEANS_END:g}%" y="{y + 4:g}">{percent(row.top1.mean)}</text></g>'
    )


def _interval(row: Row, y: float, axis: Axis, unit: str) -> str:
    if row.top1.low is None or row.top1.high is None:
        return ""
    ends = (f"{axis.at(end):.2f}{unit}" for end in (row.top1.low, row.top1.high))
    return '<line class="interval" x1="{}" x2="{}" y1="{y:g}" y2="{y:g}"/>'.format(*ends, y=y)
