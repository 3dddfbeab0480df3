"""A dot plot of one board: a line a method, with every seed, the mean and its interval. Inline SVG, no script."""

import math
from dataclasses import dataclass

from kd_bench.leaderboard.board import SCRATCH, Board
from kd_bench.leaderboard.columns import percent
from kd_bench.leaderboard.escape import for_html
from kd_bench.leaderboard.rows import Row

WIDTH = 760
LABEL_END = 208
LEFT = 224
RIGHT = 684
LINE_HEIGHT = 24
TOP = 22
BOTTOM = 42
LABEL_LIMIT = 30
TOOLTIP_LIMIT = 300
MARGIN = 0.06
MOST_TICKS = 7
SMALLEST_PAD = 0.001


@dataclass(frozen=True)
class Axis:
    """Accuracies ``low`` to ``high``, as fractions, on the drawing's x from ``LEFT`` to ``RIGHT``."""

    low: float
    high: float

    def x(self, value: float) -> float:
        """Position of a value; beyond the ends, the end."""
        share = (value - self.low) / (self.high - self.low)
        return LEFT + (RIGHT - LEFT) * min(1.0, max(0.0, share))

    def ticks(self) -> list[float]:
        """Multiples of 1, 2 or 5 times a power of ten, at most ``MOST_TICKS`` of them."""
        power = math.floor(math.log10(self.high - self.low)) - 1
        steps = (factor * 10.0**exponent for exponent in (power, power + 1) for factor in (1, 2, 5))
        step = next(step for step in steps if (self.high - self.low) / step <= MOST_TICKS - 1)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [index * step for index in range(first, last + 1)]


def axis_of(board: Board) -> Axis:
    """Holds every seed and the intervals of ranked rows; those of one or two seeds would squeeze all the rest."""
    values = [score for row in board.rows for score in row.entry.scores.values()]
    for row in board.rows:
        if row.rank and row.top1.low is not None and row.top1.high is not None:
            values += [row.top1.low, row.top1.high]
    low, high = min(values), max(values)
    pad = max((high - low) * MARGIN, SMALLEST_PAD)
    return Axis(max(0.0, low - pad), min(1.0, high + pad))


def dot_plot(board: Board, row_names: list[str]) -> str:
    """The plot of a board as an ``svg`` element; ``row_names`` become ``data-row`` of each line."""
    axis = axis_of(board)
    bottom = TOP + LINE_HEIGHT * len(board.rows)
    height = bottom + BOTTOM
    name = f"plot-{board.identifier}"
    lines = [
        _line(row, row_name, index, axis)
        for index, (row, row_name) in enumerate(zip(board.rows, row_names, strict=True))
    ]
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">Test top-1 of every seed: {for_html(board.title, TOOLTIP_LIMIT)}</title>'
        f'<desc id="{name}-text">{for_html(_description(board))}</desc>'
        f"{_grid(axis, bottom)}{_scratch_line(board, axis, bottom)}{''.join(lines)}</svg>"
    )


def _description(board: Board) -> str:
    means = ", ".join(f"{row.entry.label[:LABEL_LIMIT]} {percent(row.top1.mean)}" for row in board.rows)
    return f"One line a method, in the order of the table. Mean test top-1 in percent: {means}."


def _grid(axis: Axis, bottom: int) -> str:
    ticks = axis.ticks()
    step = 100 * (ticks[1] - ticks[0]) if len(ticks) > 1 else 1.0
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = []
    for tick in ticks:
        x = f"{axis.x(tick):.1f}"
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{bottom + 16}">{100 * tick:.{digits}f}</text>')
    middle = (LEFT + RIGHT) / 2
    return "".join(parts) + f'<text class="tick" x="{middle:.1f}" y="{bottom + 34}">test top-1 %</text>'


def _scratch_line(board: Board, axis: Axis, bottom: int) -> str:
    scratch = next((row for row in board.rows if row.entry.name == SCRATCH and row.entry.generation == 0), None)
    if scratch is None:
        return ""
    x = f"{axis.x(scratch.top1.mean):.1f}"
    return (
        f'<line class="scratch" x1="{x}" x2="{x}" y1="{TOP - 4}" y2="{bottom}"/>'
        f'<text class="tick" x="{x}" y="{TOP - 9}">scratch</text>'
    )


def _line(row: Row, row_name: str, index: int, axis: Axis) -> str:
    y = TOP + LINE_HEIGHT * index + LINE_HEIGHT / 2
    scores = row.entry.scores
    dots = "".join(f'<circle class="seed" cx="{axis.x(score):.1f}" cy="{y:g}" r="3.5"/>' for score in scores.values())
    x = f"{axis.x(row.top1.mean):.1f}"
    seeds = ", ".join(f"seed {seed}: {percent(score)}" for seed, score in scores.items())
    tooltip = f"{row.entry.label[:TOOLTIP_LIMIT]}, mean {percent(row.top1.mean)}. {seeds}"
    return (
        f'<g data-row="{row_name}"><title>{for_html(tooltip)}</title>'
        f'<rect class="band" x="0" y="{y - LINE_HEIGHT / 2:g}" width="{WIDTH}" height="{LINE_HEIGHT}"/>'
        f'<text class="label" x="{LABEL_END}" y="{y + 4:g}">{for_html(row.entry.label, LABEL_LIMIT)}</text>'
        f"{_interval(row, y, axis)}{dots}"
        f'<line class="mean" x1="{x}" x2="{x}" y1="{y - 7:g}" y2="{y + 7:g}"/>'
        f'<text class="value" x="{WIDTH - 8}" y="{y + 4:g}">{percent(row.top1.mean)}</text></g>'
    )


def _interval(row: Row, y: float, axis: Axis) -> str:
    if row.top1.low is None or row.top1.high is None:
        return ""
    low, high = axis.x(row.top1.low), axis.x(row.top1.high)
    return f'<line class="interval" x1="{low:.1f}" x2="{high:.1f}" y1="{y:g}" y2="{y:g}"/>'
