"""Parts that the plots share: axes, ticks, the frame of a chart, lines."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from kd_bench.results.text.escape import for_html

FEWEST_TICKS, MOST_TICKS = 3, 7
SERIES = 6  # lines that can be told apart, by dashes as well as by colour


@dataclass(frozen=True)
class Axis:
    """An axis of values from ``low`` to ``high``, drawn from ``start`` to ``end``, which may be the smaller one."""

    low: float
    high: float
    start: float = 0.0
    end: float = 1.0
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the position of a value; that of the end for values beyond it."""
        if self.logarithmic:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * min(1.0, max(0.0, share))

    def ticks(self) -> list[float]:
        """Return multiples of 1, 2 or 5 times a power of ten, at most ``MOST_TICKS``; powers where they suffice.

        A logarithmic axis that has fewer than three of these is ticked like a linear one.
        """
        if self.logarithmic:
            found = self._logarithmic_ticks()
            return found if len(found) >= FEWEST_TICKS else Axis(self.low, self.high).ticks()
        power = math.floor(math.log10(self.high - self.low)) - 1
        steps = (factor * 10.0**exponent for exponent in (power, power + 1) for factor in (1, 2, 5))
        step = next(step for step in steps if (self.high - self.low) / step <= MOST_TICKS - 1)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [index * step for index in range(first, last + 1)]

    def _logarithmic_ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.floor(math.log10(self.high)) + 1)
        found: list[float] = []
        for factors in ((1,), (1, 3), (1, 2, 5)):
            ticks = [factor * 10.0**power for power in powers for factor in factors]
            finer = [tick for tick in ticks if self.low <= tick <= self.high]
            if len(finer) > MOST_TICKS and found:
                return found
            found = finer[:: math.ceil(len(finer) / MOST_TICKS)] if finer else found
        return found


def spanning(values: Iterable[float], start: float, end: float, margin: float = 0.05) -> Axis:
    """Return a linear axis that holds all values with a margin at either end."""
    known = list(values)
    low, high = min(known), max(known)
    pad = margin * (high - low) or abs(high) * margin or 1.0
    return Axis(low - pad, high + pad, start, end)


def spanning_powers(values: Iterable[float], start: float, end: float) -> Axis:
    """Return a logarithmic axis that holds all values, which are positive, with a margin at either end."""
    known = list(values)
    low, high = min(known), max(known)
    pad = max((high / low) ** 0.08, 1.15)
    return Axis(low / pad, high * pad, start, end, logarithmic=True)


def frame(horizontal: Axis, vertical: Axis, labels: tuple[str, str], texts: tuple[Callable[[float], str], ...]) -> str:
    """Draw grid lines, ticks and the names of both axes; ``texts`` write the numbers of each axis."""
    parts = []
    for tick in horizontal.ticks():
        x = f"{horizontal.at(tick):.0f}"
        parts.append(f'<path class="grid" d="M{x} {vertical.start:.0f}V{vertical.end:.0f}"/>')
        parts.append(f'<text class="tick" x="{x}" y="{vertical.start + 16:.0f}">{texts[0](tick)}</text>')
    for tick in vertical.ticks():
        y = vertical.at(tick)
        parts.append(f'<path class="grid" d="M{horizontal.start:.0f} {y:.0f}H{horizontal.end:.0f}"/>')
        parts.append(f'<text class="left" x="{horizontal.start - 6:.0f}" y="{y + 4:.0f}">{texts[1](tick)}</text>')
    middle = (horizontal.start + horizontal.end) / 2
    parts.append(f'<text class="tick" x="{middle:.0f}" y="{vertical.start + 34:.0f}">{for_html(labels[0])}</text>')
    parts.append(
        f'<text class="name" x="{horizontal.start - 40:.0f}" y="{vertical.end - 10:.0f}">{for_html(labels[1])}</text>'
    )
    return "".join(parts)


def line(points: Sequence[tuple[float, float]], kind: str) -> str:
    """Draw a line through points in the class ``kind``."""
    return f'<polyline class="{kind}" points="{" ".join(f"{x:.0f},{y:.0f}" for x, y in points)}"/>'


def drawing(name: str, size: tuple[int, int], title: str, description: str, content: str, kind: str = "chart") -> str:
    """Return an ``svg`` element that says what it shows; ``name`` is unique on its page."""
    width, height = size
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-labelledby="{name}-title {name}-text">'
        f'<title id="{name}-title">{for_html(title)}</title><desc id="{name}-text">{for_html(description)}</desc>'
        f"{content}</svg>"
    )


def plain(value: float) -> str:
    """Format a tick's number without the noise of its arithmetic."""
    return f"{value:.6g}"


def hundredfold(value: float) -> str:
    """Format a tick's fraction in percent."""
    return f"{100 * value:.6g}"
