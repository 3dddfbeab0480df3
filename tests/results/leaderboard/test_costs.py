"""Accuracy against cost: what is compared, and where the names stand."""

import re
from itertools import pairwise

import pytest
from support.records import measured_content, record_content, seeds_of

from kd_bench.results.leaderboard.pages.costs import cost_sections, row_points
from kd_bench.results.leaderboard.plots.pareto import BOTTOM, MARKS, WITH_TEACHER, Point, accuracies, front, pareto_plot
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


def trained(method, seconds, teacher_seconds, **changes):
    content = record_content(method, seconds=seconds, **changes)
    content["times"]["teacher_train_seconds"] = teacher_seconds
    return Record.model_validate(content, strict=False)


def test_the_teachers_training_counts_once_where_it_was_recorded():
    found = costs(trained("kd", 10.0, 340.0), trained("at", 20.0, None), trained("scratch", 5.0, None, teacher=None))
    assert {name: each.get(WITH_TEACHER) for name, each in found.items()} == {"kd": 350.0, "at": None, "scratch": 5.0}
    records = trained("kd", 10.0, None), trained("scratch", 5.0, None, teacher=None)
    assert not any(WITH_TEACHER in each for each in costs(*records).values())
    (text,) = cost_sections(leaderboard_of([trained("kd", 10.0, 340.0)]).boards)
    assert "Train s with the teacher&#x27;s" in text


def test_bars_are_the_t_intervals_of_ranked_rows():
    kd, at = row_points(leaderboard_of(seeds_of("kd", (0.7, 0.72, 0.74)), seeds_of("at", (0.7, 0.72))).boards)
    half = 4.302653 * 0.02 / 3**0.5  # t of two degrees of freedom, standard deviation 0.02
    assert kd.interval == pytest.approx((0.72 - half, 0.72 + half), abs=1e-6)
    assert at.interval is None
    plot = pareto_plot("p", "t", [kd, at], [], "macs")
    ((low, high),) = re.findall(r'class="error" d="M[\d.]+ ([\d.]+)V([\d.]+)"', plot)
    axis = accuracies([kd, at], [])
    assert (float(low), float(high)) == pytest.approx((axis.at(0.72 - half), axis.at(0.72 + half)), abs=0.06)
    (certain,) = row_points(leaderboard_of(seeds_of("kd", (0.98, 1.0, 1.0))).boards)
    assert certain.interval[1] == 1.0


def test_families_have_shapes_and_the_legend_names_them():
    records = [record_content(name, family=name) for name in "ihgfedcba"]
    (text,) = cost_sections(leaderboard_of([Record.model_validate(each, strict=False) for each in records]).boards)
    legend = text[text.index('aria-label="Families"') :]
    assert re.findall(r"</svg>([^<]*)</li>", legend) == [*"abcdefg", "h, i"]
    assert len(set(re.findall(r'd="M7 7([^"]*)"', legend))) == len(MARKS) == 8
    assert set(re.findall(r'class="point f(\d)" data-row', text)) == set("01234567")


def test_a_far_lower_scratch_stands_at_the_edge_and_says_so():
    points = row_points(
        leaderboard_of(seeds_of("kd", (0.7, 0.72, 0.74)), seeds_of("scratch", (0.1, 0.1, 0.11), teacher=None)).boards
    )
    assert accuracies(points, []).low > 0.6
    plot = pareto_plot("p", "t", points, [], "macs")
    assert f'data-y="{BOTTOM}.0"' in plot
    assert ">▾ scratch<" in plot


@pytest.mark.parametrize("macs", [[1500.0], [100.0, 130.0], [1.0, 1e9]])
def test_both_axes_have_several_ticks(macs):
    points = [Point(str(index), str(index), 0.7 + 0.01 * index, {"macs": each}) for index, each in enumerate(macs)]
    plot = pareto_plot("p", "t", points, [], "macs")
    assert plot.count('class="tick"') - 1 >= 3  # less the name of the axis
    assert plot.count('class="left"') >= 3


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
