"""Accuracy against cost on the page of all boards: a section a data set, a plot a cost."""

from collections.abc import Iterator, Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.pages.board import TITLE_LIMIT, pair_name, row_names
from kd_bench.results.leaderboard.pages.data_sets import data_sets
from kd_bench.results.leaderboard.pages.html import details, scroll, table
from kd_bench.results.leaderboard.plots.pareto import (
    MARKS,
    WITH_TEACHER,
    Point,
    cost_text,
    cost_title,
    front,
    measured_costs,
    pareto_plot,
)
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.statistics.intervals import mean
from kd_bench.results.text.escape import for_html
from kd_bench.results.text.formats import percent

FRONT_COLUMNS = ("Method", "Pair", "Test top-1 %", "Cost")
FRONT_EXPLAINED = (
    "Every row of every board of this data set by its mean test top-1. The line joins the rows that no cheaper row"
    " reaches; rows that the filters hide are left out of it. Squares are teachers. Bars are 95 % t intervals of means"
    " of three seeds or more, cut to 0 to 100 %. A scratch far below the others stands at the lower edge, with ▾."
)
TIMES_EXPLAINED = (
    " Rows with the same network at test time share the mean of their latencies. Milliseconds are compared on one"
    " machine only, ratios to one teacher only."
)
TIMES = ("p50_ms", "latency_ratio")


def cost_sections(boards: Sequence[Board]) -> list[str]:
    """Return a section of each data set (by content)."""
    datasets: dict[str, list[Board]] = {}
    for board in boards:
        datasets.setdefault(board.dataset.content_sha256, []).append(board)
    names = data_sets(boards)
    return [
        _cost_section(f"cost-{index}", found, names.index(found[0].dataset.name))
        for index, found in enumerate(datasets.values())
    ]


def _cost_section(name: str, boards: Sequence[Board], data_set: int) -> str:
    points, teachers = row_points(boards), _teachers(boards)
    pairs = {row_name: pair_name(board) for board in boards for row_name in row_names(board)}
    tabs, costs = [], measured_costs(points)
    for position, cost in enumerate(costs):
        title, text = cost_title(cost), cost_text(cost)
        best = [(p.label, pairs[p.row_name], percent(p.top1), text(p.costs[cost])) for p in front(points, cost)]
        plot = scroll(
            f"Plot over {title}", pareto_plot(f"{name}-{cost}", f"Top-1 over {title}", points, teachers, cost)
        )
        checked = " checked" if position == 0 else ""
        tabs.append(
            f'<input type="radio" name="{name}" id="{name}-by-{cost}" value="{cost}"{checked}>'
            f'<label for="{name}-by-{cost}">{for_html(title)}</label><div class="tab"><figure>{plot}</figure>'
            f"{details('The front as a table', table(f'Front over {title}', FRONT_COLUMNS, best, row_headers=True))}"
            "</div>"
        )
    if not tabs:
        return ""
    heading = f"Accuracy against cost · {boards[0].dataset.name}"
    explained = FRONT_EXPLAINED + (TIMES_EXPLAINED if set(costs) & set(TIMES) else "")
    return (
        f'<section class="cost" id="{name}" data-set="{data_set}"'
        f' data-dataset="{for_html(boards[0].dataset.name)}"><h2>{for_html(heading, TITLE_LIMIT)}</h2>'
        f'<p class="facts">{for_html(explained)}</p><div class="tabs">{"".join(tabs)}</div>'
        f"{_legend(_families(boards))}</section>"
    )


def _families(boards: Sequence[Board]) -> list[str]:
    return sorted({row.entry.latest.method.family for _, row in _rows(boards)})


def _legend(families: Sequence[str]) -> str:
    """Return the mark of each family; those beyond the last mark share it."""
    last = len(MARKS) - 1
    names = [*families[:last], ", ".join(families[last:])] if len(families) > last else families
    items = (
        f'<li><svg class="chart key shape" viewBox="0 0 14 14" aria-hidden="true"><g class="point f{index}"><path'
        f' class="mark" d="M7 7{MARKS[index]}"/></g></svg>{for_html(name, TITLE_LIMIT)}</li>'
        for index, name in enumerate(names)
    )
    return f'<ul class="legend" aria-label="Families">{"".join(items)}</ul>'


def row_points(boards: Sequence[Board]) -> list[Point]:
    """Return every row as a point, with the costs in which rows of several boards may be compared."""
    left_out = _incomparable(boards)
    teachers_timed = any(row.metrics["teacher_train_seconds"] for _, row in _rows(boards))
    shared: dict[tuple[str, str], list[float]] = {}
    for board, row in _rows(boards):
        for cost in TIMES:
            if (value := row.metrics[cost]) is not None:
                shared.setdefault((cost, _network(board, row)), []).append(float(value.mean))
    families, points = _families(boards), []
    for board in boards:
        for row, name in zip(board.rows, row_names(board), strict=True):
            costs = {key: float(each.mean) for key, each in row.metrics.items() if each is not None}
            costs |= {cost: mean(shared[cost, _network(board, row)]) for cost in TIMES if cost in costs}
            costs |= _with_teacher(row, costs) if teachers_timed else {}
            kept = {cost: value for cost, value in costs.items() if cost not in left_out}
            points.append(_point(board, row, name, kept, families))
    return points


def _point(board: Board, row: Row, name: str, costs: dict[str, float], families: Sequence[str]) -> Point:
    low, high = row.top1.low, row.top1.high
    interval = (low, high) if row.rank and low is not None and high is not None else None
    mark = min(families.index(row.entry.latest.method.family), len(MARKS) - 1)
    return Point(row.entry.label, name, row.top1.mean, costs, interval, mark, row is board.scratch)


def _with_teacher(row: Row, costs: dict[str, float]) -> dict[str, float]:
    """Return the seconds with the teacher's; a method without one trains for itself alone."""
    alone = row.entry.latest.teacher is None
    if "train_seconds" not in costs or not (alone or "teacher_train_seconds" in costs):
        return {}
    return {WITH_TEACHER: costs["train_seconds"] + costs.get("teacher_train_seconds", 0.0)}


def _rows(boards: Sequence[Board]) -> Iterator[tuple[Board, Row]]:
    return ((board, row) for board in boards for row in board.rows)


def _network(board: Board, row: Row) -> str:
    """Return a key that rows with the same network at test time share."""
    student = row.entry.latest.student
    return repr((board.student, student.parameters, student.macs, student.input_size))


def _incomparable(boards: Sequence[Board]) -> set[str]:
    machines = {machine for _, row in _rows(boards) for machine in row.entry.machines}
    teachers = {board.teacher.weights_sha256 for board in boards if board.teacher is not None}
    numbers = {"p50_ms": len(machines), "latency_ratio": len(teachers)}
    return {cost for cost, number in numbers.items() if number > 1}


def _teachers(boards: Sequence[Board]) -> list[Point]:
    """Return each teacher once, by its weights: two boards may share one. A teacher takes as long as itself."""
    found = {}
    for board in boards:
        if board.teacher is not None:
            costs = {"parameters": float(board.teacher.parameters), "macs": float(board.teacher.macs)}
            sha256 = board.teacher.weights_sha256
            found[sha256] = Point(
                f"teacher {board.teacher.name}", sha256, board.teacher.test_top1, costs | {"latency_ratio": 1.0}
            )
    return list(found.values())
