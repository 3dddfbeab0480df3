"""The plot of a profile: the latency of each network in each runtime, on a logarithmic axis."""

from kd_bench.deploy.profile_report import Network, Profile
from kd_bench.results.leaderboard.plots.chart import Axis, drawing, plain, spanning_powers
from kd_bench.results.text.escape import for_html

WIDTH, LABEL_END, LEFT, RIGHT = 760, 138, 150, 740
TOP, ROW_HEIGHT, BOTTOM = 16, 26, 40
STYLE = """<style>
svg { background: #fdfdfc; font-family: system-ui, sans-serif; }
text { font-size: 12px; fill: #1d2125; }
.label { text-anchor: end; }
.tick { text-anchor: middle; fill: #656d76; font-size: 11px; }
.grid { stroke: #e2e4e3; }
.tail { stroke-width: 5; stroke-linecap: round; opacity: 0.3; }
.student { stroke: #0b6e6e; fill: #0b6e6e; }
.teacher { stroke: #a8480f; fill: #a8480f; }
</style>"""


def plot(profile: Profile) -> str:
    """Return an SVG file: a dot at the median of each network and a bar from there to its 99th percentile."""
    ends = [value for each in profile.networks for value in (each.p50_ms, each.p99_ms)]
    axis = spanning_powers(ends, LEFT, RIGHT)
    bottom = TOP + ROW_HEIGHT * len(profile.networks)
    rows = [_row(each, axis, TOP + ROW_HEIGHT * (position + 0.5)) for position, each in enumerate(profile.networks)]
    content = "".join([STYLE, _scale(axis, bottom), *rows])
    title = f"Latency of a single image on {profile.hardware.processor}"
    text = "; ".join(f"{each.role}, {each.runtime}: {each.p50_ms:.3g} ms" for each in profile.networks)
    drawn = drawing("profile", (WIDTH, bottom + BOTTOM), title, text, content)
    return drawn.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1) + "\n"


def _scale(axis: Axis, bottom: float) -> str:
    ticks = [
        f'<path class="grid" d="M{axis.at(tick):.0f} {TOP}V{bottom}"/>'
        f'<text class="tick" x="{axis.at(tick):.0f}" y="{bottom + 16}">{plain(tick)}</text>'
        for tick in axis.ticks()
    ]
    name = "milliseconds an image, median to 99th percentile"
    return f'{"".join(ticks)}<text class="tick" x="{(LEFT + RIGHT) / 2:.0f}" y="{bottom + 34}">{name}</text>'


def _row(each: Network, axis: Axis, y: float) -> str:
    start, end = axis.at(each.p50_ms), axis.at(each.p99_ms)
    return (
        f'<text class="label" x="{LABEL_END}" y="{y + 4:g}">{for_html(f"{each.role}, {each.runtime}")}</text>'
        f'<path class="tail {each.role}" d="M{start:.1f} {y:g}H{end:.1f}"/>'
        f'<circle class="{each.role}" cx="{start:.1f}" cy="{y:g}" r="4"/>'
    )
