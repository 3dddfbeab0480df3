"""Accuracy against a cost: every row of every board of one data set, and the rows that no other one beats in both."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.plots.chart import (
    Axis,
    drawing,
    frame,
    hundredfold,
    line,
    spanning,
    spanning_powers,
)
from kd_bench.results.text.escape import for_html, visible
from kd_bench.results.text.formats import FORMATS, percent

WITH_TEACHER = "seconds_with_teacher"  # the training of the student and that of its teacher
COSTS = ("latency_ratio", "p50_ms", "parameters", "macs", "train_seconds", WITH_TEACHER)
MARKS = (  # shapes around a point, one a family; the square is the teachers'
    "m-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z",
    "m0-5.5l5 9.5h-10z",
    "m0-6l5 6-5 6-5-6z",
    "m0 5.5l5-9.5h-10z",
    "m-4.5-4.5l9 9m0-9l-9 9",
    "m-5.5 0h11m-5.5-5.5v11",
    "m0-5.5v11m-4.8-8.2l9.6 5.4m0-5.4l-9.6 5.4",
    "m5.5 0l-9.5-5v10z",
)
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 740, 30, 350
LABEL_LIMIT = 60
NAME_LIMIT = 24
MOST_NAMES = 8
CHARACTER_WIDTH = 6.0  # of the names, about
LINE_HEIGHT = 13


@dataclass(frozen=True, eq=False)
class Point:
    """A row: its name, the name of its row in a table, mean test top-1 and means of the costs that were measured.

    ``interval`` is the 95 % t interval of the mean, ``mark`` the position of its family in ``MARKS``.
    """

    label: str
    row_name: str
    top1: float
    costs: dict[str, float]
    interval: tuple[float, float] | None = None
    mark: int = 0
    scratch: bool = False


def front(points: Sequence[Point], cost: str) -> list[Point]:
    """Return, by ascending cost, the points with more accuracy than every cheaper one."""
    found: list[Point] = []
    ordered = sorted((p for p in points if cost in p.costs), key=lambda p: (p.costs[cost], -p.top1, p.label))
    for point in ordered:
        if not found or point.top1 > found[-1].top1:
            found.append(point)
    return found


def measured_costs(points: Sequence[Point]) -> list[str]:
    """Return the costs that some row has, those first in which rows differ."""
    values = {cost: {point.costs[cost] for point in points if point.costs.get(cost, 0) > 0} for cost in COSTS}
    return sorted((cost for cost in COSTS if values[cost]), key=lambda cost: len(values[cost]) < 2)


def cost_title(cost: str) -> str:
    """Return the name of a cost as axes and tabs have it."""
    return "Train s with the teacher's" if cost == WITH_TEACHER else METRICS[cost].title


def cost_text(cost: str) -> Callable[[float], str]:
    """Return the format of a cost's numbers."""
    return FORMATS["seconds" if cost == WITH_TEACHER else METRICS[cost].unit]


def pareto_plot(name: str, title: str, points: Sequence[Point], teachers: Sequence[Point], cost: str) -> str:
    """Draw the plot over a cost, on a logarithmic axis, as an ``svg`` element; teachers are squares and on no front."""
    shown = [point for point in points if point.costs.get(cost, 0) > 0]
    squares = [point for point in teachers if point.costs.get(cost, 0) > 0]
    horizontal = spanning_powers((point.costs[cost] for point in [*shown, *squares]), LEFT, RIGHT)
    vertical, text = accuracies(shown, squares), cost_text(cost)
    places = {p.row_name: (horizontal.at(p.costs[cost]), vertical.at(p.top1)) for p in [*shown, *squares]}
    best = front(shown, cost)
    marks = "".join(_mark(point, *places[point.row_name], vertical, text(point.costs[cost])) for point in shown)
    steps = line([places[point.row_name] for point in best], "front")
    below = [point for point in shown if point.top1 < vertical.low]
    named = [*below, *best[-MOST_NAMES:], *squares[:MOST_NAMES], *(shown if len(shown) <= MOST_NAMES else ())]
    names = _names([("▾ " * (point in below) + point.label, *places[point.row_name]) for point in dict.fromkeys(named)])
    teacher = "".join(_square(*places[point.row_name]) for point in squares)
    axes = frame(horizontal, vertical, (cost_title(cost), "test top-1 %"), (text, hundredfold))
    content = axes + steps + teacher + marks + names
    listed = ", ".join(f"{visible(p.label, LABEL_LIMIT)} {percent(p.top1)} at {text(p.costs[cost])}" for p in best)
    description = f"{len(shown)} rows. On the front, by ascending {cost_title(cost)}: {listed}."
    return drawing(name, (WIDTH, HEIGHT), title, description, content, "chart pareto")


def accuracies(points: Sequence[Point], teachers: Sequence[Point]) -> Axis:
    """Return an axis of means and intervals but scratch's, which would squeeze the rest and is drawn at the edge."""
    kept = [point for point in points if not point.scratch] or points
    values = [point.top1 for point in [*kept, *teachers]] + [end for point in kept for end in point.interval or ()]
    axis = spanning(values, BOTTOM, TOP)
    return replace(axis, low=max(0.0, axis.low), high=min(1.0, axis.high))


def _mark(point: Point, x: float, y: float, vertical: Axis, cost: str) -> str:
    """Draw a point in the shape of its family, and its interval; the script reads its place."""
    bar, interval = "", ""
    if point.interval is not None:
        low, high = point.interval
        bar = f'<path class="error" d="M{x:.1f} {vertical.at(low):.1f}V{vertical.at(high):.1f}"/>'
        interval = f" [{percent(low)}, {percent(high)}]"
    return (
        f'<g class="point f{point.mark}" data-row="{point.row_name}" data-x="{x:.1f}" data-y="{y:.1f}">'
        f"<title>{for_html(point.label, LABEL_LIMIT)}: {percent(point.top1)}{interval} %, {cost}</title>"
        f'{bar}<path class="mark" d="M{x:.1f} {y:.1f}{MARKS[point.mark]}"/></g>'
    )


def _square(x: float, y: float) -> str:
    return f'<path class="teacher" d="M{x - 4:.1f} {y - 4:.1f}h8v8h-8z"/>'


def _names(points: Sequence[tuple[str, float, float]]) -> str:
    """Draw texts beside points, except those that would cover one before.

    They stand where there is room, to the lower right or the upper left: the front rises, so neither is on its line.
    """
    taken: list[tuple[float, float, float]] = []  # both ends and the height of each text
    texts = []
    for label, x, y in points:
        text = visible(label, NAME_LIMIT)
        width = CHARACTER_WIDTH * len(text)
        low = y + LINE_HEIGHT > BOTTOM  # ticks stand below
        right = x - 8 - width < LEFT if low else x < (LEFT + RIGHT) / 2
        start, base = (x + 8, y - 6 if low else y + 14) if right else (x - 8 - width, y - 6)
        end = start + width
        if any(abs(base - y2) < LINE_HEIGHT and start < right2 and left2 < end for left2, right2, y2 in taken):
            continue
        taken.append((start, end, base))
        anchor, at = ("start", x + 8) if right else ("end", x - 8)
        texts.append(f'<text class="beside" text-anchor="{anchor}" x="{at:.1f}" y="{base:.1f}">{for_html(text)}</text>')
    return "".join(texts)
