"""Performance profiles of methods over several boards (Agarwal et al. 2021)."""

from kd_bench.results.leaderboard.aggregates import THRESHOLDS, Aggregate
from kd_bench.results.leaderboard.plots.chart import SERIES, Axis, drawing, frame, hundredfold, line

WIDTH, HEIGHT = 760, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 740, 30, 310


def profile_plot(name: str, aggregate: Aggregate) -> str:
    """Draw the share of runs that gain more than a part of the teacher's advantage, for the first methods."""
    horizontal = Axis(THRESHOLDS[0], THRESHOLDS[-1], LEFT, RIGHT)
    vertical = Axis(0.0, 1.0, BOTTOM, TOP)
    lines = "".join(
        line(
            [(horizontal.at(at), vertical.at(share)) for at, share in zip(THRESHOLDS, method.profile, strict=True)],
            f"series s{index}",
        )
        for index, method in enumerate(aggregate.methods[:SERIES])
    )
    axes = frame(horizontal, vertical, ("gap closed %, more than", "runs %"), (hundredfold, hundredfold))
    title = f"Performance profile over {len(aggregate.boards)} boards"
    description = "The share of runs above each value of gap closed. The table has the same numbers in steps."
    return drawing(name, (WIDTH, HEIGHT), title, description, axes + lines)
