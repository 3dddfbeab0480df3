"""The page of all boards: complete tables and plots without script, sorting and filters with it."""

from collections.abc import Sequence
from pathlib import Path

from kd_bench.results.leaderboard.aggregates import Aggregate
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.columns import Column, columns_of
from kd_bench.results.leaderboard.pages.board import TITLE_LIMIT, board_section
from kd_bench.results.leaderboard.pages.costs import cost_sections
from kd_bench.results.leaderboard.pages.data_sets import data_set_style, data_set_tabs, data_sets
from kd_bench.results.leaderboard.pages.filters import column_chooser, column_style, filter_form
from kd_bench.results.leaderboard.pages.html import BASE_STYLE, document, legend, scroll, section, table
from kd_bench.results.leaderboard.pages.more import Surroundings
from kd_bench.results.leaderboard.pages.overview import TITLE as OVERVIEW
from kd_bench.results.leaderboard.pages.overview import overview
from kd_bench.results.leaderboard.plots.chart import SERIES
from kd_bench.results.leaderboard.plots.profile import profile_plot
from kd_bench.results.leaderboard.summary import (
    AGGREGATE_COLUMNS,
    AGGREGATES_EXPLAINED,
    EMPTY,
    EXPLANATIONS,
    LEAD,
    TITLE,
    aggregate_rows,
    aggregate_title,
    header,
    listings,
)
from kd_bench.results.text.escape import for_html

STYLE = BASE_STYLE + Path(__file__).with_name("index.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("index.js").read_text(encoding="utf-8")


def html_page(leaderboard: Leaderboard, run_pages: bool = True, method_pages: str = "") -> str:
    """Return the whole page, in one file.

    Args:
        run_pages: whether every run has a page to lead to.
        method_pages: address of a folder with a page for each shipped method, if there is one.
    """
    boards, names = leaderboard.boards, data_sets(leaderboard.boards)
    surroundings = Surroundings(run_pages, leaderboard.tiers, method_pages)
    columns = columns_of([row for board in boards for row in board.rows])
    body = [
        f'<header><h1>{for_html(TITLE)}</h1><p>{for_html(LEAD)} <a href="#how">How to read'
        f' this</a></p><p class="counts">{header(leaderboard)}</p>{filter_form(boards)}',
        f"{column_chooser(columns) if boards else ''}{_contents(boards)}</header>",
        "<main>",
        "" if boards else f"<p>{EMPTY}</p>",
        overview(boards),
        data_set_tabs(boards),
        *(board_section(board, columns, surroundings, names.index(board.dataset.name)) for board in boards),
        *cost_sections(boards),
        *(_aggregate(index, aggregate) for index, aggregate in enumerate(leaderboard.aggregates)),
        *(section(each.title, table(each.caption, each.columns, each.rows)) for each in listings(leaderboard)),
        _explanations(columns),
        "</main>",
    ]
    return document(TITLE, body, f"{STYLE}{column_style(columns)}\n{data_set_style(boards)}\n", SCRIPT)


def _contents(boards: Sequence[Board]) -> str:
    if len(boards) < 2:
        return ""
    targets = [("overview", OVERVIEW), *((board.identifier, board.title) for board in boards)]
    targets += [("cost-0", "Accuracy against cost"), ("how", "How to read this")]
    links = [f'<li><a href="#{target}">{for_html(title, TITLE_LIMIT)}</a></li>' for target, title in targets]
    return f'<nav aria-label="Boards"><ul class="contents">{"".join(links)}</ul></nav>'


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
    paragraphs = "".join(f"<p>{for_html(text)}</p>" for text in EXPLANATIONS)
    terms = "".join(f"<dt>{for_html(c.title)}</dt><dd>{for_html(c.explanation)}</dd>" for c in columns)
    return f'<section id="how"><h2>How to read this</h2>{paragraphs}<dl>{terms}</dl></section>'
