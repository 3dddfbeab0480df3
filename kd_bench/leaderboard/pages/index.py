"""The page of all boards: complete tables and plots without script, sorting and filters with it."""

from collections.abc import Sequence
from pathlib import Path

from kd_bench.leaderboard.aggregates import Aggregate
from kd_bench.leaderboard.board import Board
from kd_bench.leaderboard.building import Leaderboard
from kd_bench.leaderboard.columns import (
    COLUMNS,
    INTERVALS_EXPLAINED,
    RANKS_EXPLAINED,
    SCOPE_EXPLAINED,
    Column,
    measured,
)
from kd_bench.leaderboard.escape import for_html
from kd_bench.leaderboard.formats import FORMATS, percent
from kd_bench.leaderboard.metrics import METRICS
from kd_bench.leaderboard.pages.board import TITLE_LIMIT, board_section, pair_name, row_names
from kd_bench.leaderboard.pages.filters import column_chooser, column_style, filter_form
from kd_bench.leaderboard.pages.html import BASE_STYLE, details, document, legend, scroll, section, table
from kd_bench.leaderboard.plots.chart import SERIES
from kd_bench.leaderboard.plots.pareto import Point, front, measured_costs, pareto_plot
from kd_bench.leaderboard.plots.profile import profile_plot
from kd_bench.leaderboard.summary import (
    AGGREGATE_COLUMNS,
    AGGREGATES_EXPLAINED,
    EMPTY,
    REJECTED_COLUMNS,
    STATE_COLUMNS,
    TEACHER_COLUMNS,
    TITLE,
    aggregate_rows,
    aggregate_title,
    header,
    rejected_rows,
    state_rows,
    teacher_rows,
)

STYLE = BASE_STYLE + Path(__file__).with_name("index.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("index.js").read_text(encoding="utf-8")
FRONT_COLUMNS = ("Method", "Pair", "Test top-1 %", "Cost")
FRONT_EXPLAINED = (
    "Every row of every board of this data set by its mean test top-1. The line joins the rows that no cheaper row"
    " reaches; rows that the filters hide are left out of it. Squares are teachers. Means carry the noise of their"
    " seeds."
)


def html_page(leaderboard: Leaderboard, run_pages: bool = True) -> str:
    """The whole page, in one file.

    Args:
        run_pages: whether every run has a page to lead to.
    """
    boards = leaderboard.boards
    known = measured(row for board in boards for row in board.rows)
    columns = [column for column in COLUMNS if column.key in known or column.group == "row"]
    body = [
        f'<header><h1>{for_html(TITLE)}</h1><p class="counts">{header(leaderboard)}</p>{filter_form(boards)}',
        f"{column_chooser(columns) if boards else ''}{_contents(boards)}</header>",
        "<main>",
        "" if boards else f"<p>{EMPTY}</p>",
        *(board_section(board, columns, run_pages) for board in boards),
        *_costs(boards),
        *(_aggregate(index, aggregate) for index, aggregate in enumerate(leaderboard.aggregates)),
        section("Teachers", table("Teachers", TEACHER_COLUMNS, teacher_rows(leaderboard))),
        section("Failed and unfinished runs", table("Runs", STATE_COLUMNS, state_rows(leaderboard))),
        section("Rejected files", table("Files", REJECTED_COLUMNS, rejected_rows(leaderboard))),
        _explanations(columns),
        "</main>",
    ]
    return document(TITLE, body, f"{STYLE}{column_style(columns)}\n", SCRIPT)


def _contents(boards: Sequence[Board]) -> str:
    if len(boards) < 2:
        return ""
    targets = [(board.identifier, board.title) for board in boards]
    targets += [("cost-0", "Accuracy against cost"), ("how", "How to read this")]
    links = [f'<li><a href="#{target}">{for_html(title, TITLE_LIMIT)}</a></li>' for target, title in targets]
    return f'<nav aria-label="Boards"><ul class="contents">{"".join(links)}</ul></nav>'


def _costs(boards: Sequence[Board]) -> list[str]:
    """Accuracy against cost, a section a data set (by content)."""
    datasets: dict[str, list[Board]] = {}
    for board in boards:
        datasets.setdefault(board.dataset.content_sha256, []).append(board)
    return [_cost_section(f"cost-{index}", found) for index, found in enumerate(datasets.values())]


def _cost_section(name: str, boards: Sequence[Board]) -> str:
    points, pairs = [], {}
    for board in boards:
        for row, row_name in zip(board.rows, row_names(board), strict=True):
            costs = {key: float(value.mean) for key, value in row.metrics.items() if value is not None}
            points.append(Point(row.entry.label, row_name, row.top1.mean, costs))
            pairs[row_name] = pair_name(board)
    teachers = _teachers(boards)
    tabs = []
    for position, cost in enumerate(measured_costs(points)):
        title, text = METRICS[cost].title, FORMATS[METRICS[cost].unit]
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
    return (
        f'<section class="cost" id="{name}"><h2>{for_html(heading, TITLE_LIMIT)}</h2>'
        f'<p class="facts">{for_html(FRONT_EXPLAINED)}</p><div class="tabs">{"".join(tabs)}</div></section>'
    )


def _teachers(boards: Sequence[Board]) -> list[Point]:
    """By their weights: two boards may share one."""
    found = {}
    for board in boards:
        if board.teacher is not None:
            costs = {"parameters": float(board.teacher.parameters), "macs": float(board.teacher.macs)}
            sha256 = board.teacher.weights_sha256
            found[sha256] = Point(f"teacher {board.teacher.name}", sha256, board.teacher.test_top1, costs)
    return list(found.values())


def _aggregate(index: int, aggregate: Aggregate) -> str:
    notes = "".join(f"<li>{for_html(note, TITLE_LIMIT)}</li>" for note in aggregate.notes)
    title = aggregate_title(aggregate)
    plot = scroll("Performance profile", profile_plot(f"profile-{index}", aggregate))
    names = [method.label for method in aggregate.methods[:SERIES]]
    return section(
        title,
        f'<p class="facts">{for_html(AGGREGATES_EXPLAINED)}</p>'
        + table(title, AGGREGATE_COLUMNS, aggregate_rows(aggregate), row_headers=True)
        + (f'<ul class="notes">{notes}</ul>' if notes else "")
        + f"<figure>{plot}{legend(names)}<figcaption>The share of runs that close more than a part of the gap, for the"
        f" first {len(names)} methods of the table.</figcaption></figure>",
    )


def _explanations(columns: Sequence[Column]) -> str:
    paragraphs = "".join(f"<p>{for_html(text)}</p>" for text in (SCOPE_EXPLAINED, RANKS_EXPLAINED, INTERVALS_EXPLAINED))
    terms = "".join(f"<dt>{for_html(c.title)}</dt><dd>{for_html(c.explanation)}</dd>" for c in columns)
    return f'<section id="how"><h2>How to read this</h2>{paragraphs}<dl>{terms}</dl></section>'
