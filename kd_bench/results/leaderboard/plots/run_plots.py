"""Plots of one run: learning curves, reliability, classes."""

from collections.abc import Sequence

from kd_bench.results.leaderboard.plots.chart import SERIES, Axis, drawing, frame, hundredfold, line, plain, spanning
from kd_bench.results.records.measured import ClassMetrics, Reliability
from kd_bench.results.text.escape import for_html
from kd_bench.results.text.formats import percent

MOST_POINTS = 60
NAME_LIMIT = 60
WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 508, 30, 250
SQUARE = (320, 330)

Curves = dict[str, list[tuple[float, float]]]


def curves_of(history: Sequence[dict[str, float]], names: Sequence[str]) -> Curves:
    """Points (epoch, value) of each name that the history has, thinned to ``MOST_POINTS``; the last epoch stays."""
    step = max(1, -(-len(history) // MOST_POINTS))
    rows = [row for position, row in enumerate(history) if (len(history) - 1 - position) % step == 0]
    found = {name: [(row["epoch"], row[name]) for row in rows if "epoch" in row and name in row] for name in names}
    return {name: points for name, points in found.items() if points}


def curve_plot(name: str, title: str, curves: Curves, fractions: bool) -> str:
    """Lines over epochs, numbered like the legend beside them. Fractions are shown in percent."""
    horizontal = spanning((epoch for points in curves.values() for epoch, _ in points), LEFT, RIGHT, 0.01)
    vertical = spanning((value for points in curves.values() for _, value in points), BOTTOM, TOP)
    lines = "".join(
        line([(horizontal.at(epoch), vertical.at(value)) for epoch, value in points], f"series s{index % SERIES}")
        for index, points in enumerate(curves.values())
    )
    text = hundredfold if fractions else plain
    content = frame(horizontal, vertical, ("epoch", "%" if fractions else ""), (plain, text)) + lines
    last = ", ".join(f"{key} {text(points[-1][1])}" for key, points in curves.items())
    return drawing(name, (WIDTH, HEIGHT), title, f"Over epochs. At the end: {last}.", content)


def reliability_plot(found: Reliability) -> str:
    """Accuracy of each bin of confidence against the confidence; the diagonal is perfect calibration."""
    horizontal, vertical = Axis(0, 1, LEFT, 308), Axis(0, 1, 280, 28)
    bins = len(found.samples)
    bars = []
    for position, (samples, correct, confidence) in enumerate(
        zip(found.samples, found.correct, found.confidence, strict=True)
    ):
        if not samples or confidence is None:
            continue
        left, right = horizontal.at(position / bins), horizontal.at((position + 1) / bins)
        top = vertical.at(correct / samples)
        tooltip = f"confidence {percent(confidence)} %, accuracy {percent(correct / samples)} %, {samples} images"
        bars.append(
            f'<g><title>{tooltip}</title><path class="bar" d="M{left:.0f} {vertical.start:.0f}V{top:.0f}H{right:.0f}'
            f'V{vertical.start:.0f}z"/>'
            f'<path class="mean" d="M{left:.0f} {vertical.at(confidence):.0f}H{right:.0f}"/></g>'
        )
    ideal = line([(horizontal.start, vertical.start), (horizontal.end, vertical.end)], "reference")
    content = (
        frame(horizontal, vertical, ("confidence %", "accuracy %"), (hundredfold, hundredfold)) + "".join(bars) + ideal
    )
    description = (
        "Bars are the accuracy in each bin of confidence, ticks the mean confidence; the table has the numbers."
    )
    return drawing("reliability", SQUARE, "Reliability of the test predictions", description, content, "chart square")


def class_gaps(classes: ClassMetrics) -> list[float | None]:
    """Per class the student's top-1 minus the teacher's, from the flips; None for a class without samples."""
    if classes.negative_flips is None or classes.positive_flips is None:
        return []
    return [
        (positive - negative) / samples if samples else None
        for samples, negative, positive in zip(
            classes.samples, classes.negative_flips, classes.positive_flips, strict=True
        )
    ]


def class_plot(classes: ClassMetrics, names: Sequence[str]) -> str:
    """Bars of the gap to the teacher, class by class from worst to best; darker where it is significant."""
    gaps = sorted((gap, position) for position, gap in enumerate(class_gaps(classes)) if gap is not None)
    significant = {*(classes.significantly_worse or ()), *(classes.significantly_better or ())}
    horizontal = Axis(0, len(gaps), LEFT, RIGHT)
    vertical = spanning([0.0, *(gap for gap, _ in gaps)], BOTTOM, TOP)
    zero = vertical.at(0)
    bars = "".join(
        f'<g><title>{for_html(names[position], NAME_LIMIT)}: {percent(gap)} points</title><path class="bar'
        f'{" significant" if position in significant else ""}" d="M{horizontal.at(rank + 0.1):.1f} {zero:.1f}'
        f'V{vertical.at(gap):.1f}H{horizontal.at(rank + 0.9):.1f}V{zero:.1f}z"/></g>'
        for rank, (gap, position) in enumerate(gaps)
    )
    axis = frame(horizontal, vertical, ("classes, from worst to best", "points"), (lambda _: "", hundredfold))
    content = f'{axis}{bars}<path class="reference" d="M{LEFT} {zero:.1f}H{RIGHT}"/>'
    description = (
        f"{len(gaps)} classes; {sum(gap < 0 for gap, _ in gaps)} are worse than the teacher's,"
        f" {len(significant)} differ significantly. The table has the numbers."
    )
    return drawing("classes", (WIDTH, HEIGHT), "Top-1 of each class minus the teacher's", description, content)
