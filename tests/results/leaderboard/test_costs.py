"""Accuracy against cost: what is compared, and where the names stand."""

import re
from itertools import pairwise

import pytest
from support.records import measured_content, record_content

from kd_bench.results.leaderboard.pages.costs import cost_sections, row_points
from kd_bench.results.leaderboard.plots.pareto import Point, front, pareto_plot
from kd_bench.results.records.record import Record

from .test_text import leaderboard_of


def timed(method, milliseconds, ratio=0.25, machine="one", parameters=1500, seed=0, **changes):
    content = measured_content(record_content(method, seed, **changes))
    content["student"]["parameters"] = parameters
    latency = content["full"]["latency"]
    latency["machine"] = machine
    latency["student"]["p50_ms"] = milliseconds
    latency["p50_ratio"]["mean"] = ratio
    return Record.model_validate(content, strict=False)


def costs(*records):
    return {point.label: point.costs for point in row_points(leaderboard_of(records).boards)}


def test_rows_with_one_network_share_the_mean_of_their_latencies():
    found = costs(timed("kd", 1.0, 0.2), timed("at", 3.0, 0.3), timed("large", 9.0, 0.9, parameters=99))
    assert {name: each["p50_ms"] for name, each in found.items()} == {"kd": 2.0, "at": 2.0, "large": 9.0}
    assert {name: each["latency_ratio"] for name, each in found.items()} == {
        "kd": pytest.approx(0.25),
        "at": pytest.approx(0.25),
        "large": 0.9,
    }
    assert {name: each["parameters"] for name, each in found.items()} == {"kd": 1500, "at": 1500, "large": 99}


def test_milliseconds_of_two_machines_and_ratios_to_two_teachers_are_not_compared():
    machines = leaderboard_of([timed("kd", 1.0), timed("at", 3.0, machine="two")])
    assert {"p50_ms", "latency_ratio"} & row_points(machines.boards)[0].costs.keys() == {"latency_ratio"}
    (note,) = [note for note in machines.boards[0].notes if "machines" in note]
    assert note == "Latencies were measured on 2 machines: only the ratio to the teacher's can be compared."
    teachers = leaderboard_of([timed("kd", 1.0), timed("kd", 3.0, teacher_weights=1)])
    assert {"p50_ms", "latency_ratio"} & row_points(teachers.boards)[0].costs.keys() == {"p50_ms"}


def test_the_teacher_is_on_the_plot_of_its_ratio_at_one():
    (text,) = cost_sections(leaderboard_of([timed("kd", 1.0, 0.5), timed("at", 1.0, 0.25, parameters=9)]).boards)
    by_ratio = text[text.index("by-latency_ratio") : text.index("by-p50_ms")]
    assert 'class="teacher"' in by_ratio
    assert "Rows with the same network at test time share" in text
    assert text.index("by-latency_ratio") < text.index("by-parameters")


def boxes(plot):
    """Left end, right end and height of each name, at 6 units a letter as the font has it."""
    found = re.findall(r'<text class="beside" text-anchor="(\w+)" x="([\d.]+)" y="([\d.]+)">([^<]*)<', plot)
    for anchor, x, y, text in found:
        width = 6 * len(text)
        left = float(x) if anchor == "start" else float(x) - width
        yield left, left + width, float(y)


def test_names_do_not_cover_each_other_nor_the_front():
    points = [
        Point(f"method {index}", str(index), 0.5 + 0.01 * index, {"macs": 1000.0 + 40 * index}) for index in range(8)
    ]
    plot = pareto_plot("p", "t", points, [], "macs")
    placed = list(boxes(plot))
    assert len(placed) >= 4
    for index, (left, right, y) in enumerate(placed):
        for other_left, other_right, other_y in placed[:index]:
            assert abs(y - other_y) >= 12 or right <= other_left or other_right <= left
    line = [tuple(map(float, each.split(","))) for each in re.search(r'points="([^"]*)"', plot)[1].split(" ")]
    assert len(line) == len(front(points, "macs")) == 8
    for (x1, y1), (x2, y2) in pairwise(line):
        for step in range(11):
            x, y = x1 + (x2 - x1) * step / 10, y1 + (y2 - y1) * step / 10
            assert not any(left < x < right and base - 9 < y < base for left, right, base in placed)
