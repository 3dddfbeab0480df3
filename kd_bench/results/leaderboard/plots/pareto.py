"""Accuracy against a cost: every row of every board of one data set, and the rows that no other one beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.plots.chart import drawing, frame, hundredfold, line, spanning, spanning_powers
from kd_bench.results.text.escape import for_html, visible
from kd_bench.results.text.formats import FORMATS, percent

COSTS = ("latency_ratio", "p50_ms", "parameters", "macs", "train_seconds")
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 56, 740, 30, 350
LABEL_LIMIT = 60
NAME_LIMIT = 24
MOST_NAMES = 8
CHARACTER_WIDTH = 6.0  # of the names, about
LINE_HEIGHT = 13


@dataclass(frozen=True, eq=False)
class Point:
    """A row: its name, the name of its row in a table, mean test top-1 and means of the costs that were measured."""

    label: str
    row_name: str
    top1: float
    costs: dict[str, float]


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


def pareto_plot(name: str, title: str, points: Sequence[Point], teachers: Sequence[Point], cost: str) -> str:
    """Draw the plot over a cost, on a logarithmic axis, as an ``svg`` element; teachers are squares and on no front."""
    shown = [point for point in points if point.costs.get(cost, 0) > 0]
    squares = [point for point in teachers if point.costs.get(cost, 0) > 0]
    metric = METRICS[cost]
    horizontal = spanning_powers((point.costs[cost] for point in [*shown, *squares]), LEFT, RIGHT)
    vertical = spanning((point.top1 for point in [*shown, *squares]), BOTTOM, TOP)
    text = FORMATS[metric.unit]
    places = {p.row_name: (horizontal.at(p.costs[cost]), vertical.at(p.top1)) for p in [*shown, *squares]}
    best = front(shown, cost)
    circles = "".join(
        f'<circle data-row="{point.row_name}" cx="{places[point.row_name][0]:.1f}" cy="{places[point.row_name][1]:.1f}"'
        f' r="4"><title>{for_html(point.label, LABEL_LIMIT)}: {percent(point.top1)} %, {text(point.costs[cost])}'
        "</title></circle>"
        for point in shown
    )
    steps = line([places[point.row_name] for point in best], "front")
    named = [*best[-MOST_NAMES:], *squares[:MOST_NAMES], *(shown if len(shown) <= MOST_NAMES else ())]
    names = _names([(point.label, *places[point.row_name]) for point in dict.fromkeys(named)])
    teacher = "".join(_square(*places[point.row_name]) for point in squares)
    axes = frame(horizontal, vertical, (metric.title, "test top-1 %"), (text, hundredfold))
    content = axes + steps + teacher + circles + names
    listed = ", ".join(f"{visible(p.label, LABEL_LIMIT)} {percent(p.top1)} at {text(p.costs[cost])}" for p in best)
    description = f"{len(shown)} rows. On the front, by ascending {metric.title}: {listed}."
    return drawing(name, (WIDTH, HEIGHT), title, description, content, "chart pareto")


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
        right = x < (LEFT + RIGHT) / 2
        start, base = (x + 8, y + 14) if right else (x - 8 - width, y - 6)
        end = start + width
        if any(abs(base - y2) < LINE_HEIGHT and start < right2 and left2 < end for left2, right2, y2 in taken):
            continue
        taken.append((start, end, base))
        anchor, at = ("start", x + 8) if right else ("end", x - 8)
        texts.append(f'<text class="beside" text-anchor="{anchor}" x="{at:.1f}" y="{base:.1f}">{for_html(text)}</text>')
    return "".join(texts)
