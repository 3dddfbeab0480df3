"""A board on the page: its table, the plots of seeds and ranks, and the seeds as a table that leads to their runs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import Cell, Column, columns_of
from kd_bench.results.leaderboard.pages.html import details, full, mark, scroll, unbroken, with_links
from kd_bench.results.leaderboard.pages.matrix import win_matrix
from kd_bench.results.leaderboard.pages.more import HEADER as MORE
from kd_bench.results.leaderboard.pages.more import Surroundings, more_cell
from kd_bench.results.leaderboard.pages.ties import HEADER as TIES
from kd_bench.results.leaderboard.pages.ties import tie_cells
from kd_bench.results.leaderboard.plots.chart import Axis
from kd_bench.results.leaderboard.plots.dots import axis_of, dot_plot, inline_dots
from kd_bench.results.leaderboard.plots.ranks import rank_plot
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.summary import facts
from kd_bench.results.text.escape import for_html, visible
from kd_bench.results.text.formats import MISSING, count, percent

CELL_LIMIT = 90
PAPER_LIMIT = 64
TITLE_LIMIT = 160
SEARCH_LIMIT = 300
# Notes in these columns have a fixed width, also where there is none, so that the numbers before them line up.
ALIGNED_COLUMNS = frozenset({"top1", "scratch_difference", "kd_difference"})
PLOT_CAPTION = (
    "Circles are seeds, the tick is their mean, the bar its 95 % t interval, cut at the edges; the dashed line is the"
    " mean of scratch."
)
RANK_CAPTION = (
    "Every rank that a row can have, by the comparisons of the board; rows whose bars share no rank are separated."
)
RUN_FOLDER = "run-pages"
MANY = 20  # rows, from which dots stand in the table instead of a plot below it


def row_names(board: Board) -> list[str]:
    """Return names of the rows that are unique on the page."""
    return [f"{board.identifier}-{index}" for index in range(len(board.rows))]


def board_section(board: Board, columns: Sequence[Column], surroundings: Surroundings, data_set: int = 0) -> str:
    """Return the section of a board; ``data_set`` is the number of the tab that it belongs to."""
    names = row_names(board)
    title = for_html(board.title, TITLE_LIMIT)
    results = scroll("Results", _results(board, columns, surroundings))
    notes = "".join(f"<li{full(note, TITLE_LIMIT)}>{for_html(note, TITLE_LIMIT)}</li>" for note in board.notes)
    return (
        f'<section class="board" id="{board.identifier}" data-set="{data_set}" {_filters(board)}>'
        f"<h2{full(board.title, TITLE_LIMIT)}>{title}</h2>\n"
        f'<p class="facts">{unbroken(for_html(" ".join(facts(board))))}</p>\n{results}\n'
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + _figures(board, names)
        + win_matrix(board)
        + details("Test top-1 % of every seed", _seed_table(board, surroundings.run_pages))
        + "</section>"
    )


def _results(board: Board, columns: Sequence[Column], surroundings: Surroundings) -> str:
    """Return the table; cells that are no columns of other outputs stand beside the columns that they belong to."""
    axis = axis_of(board) if len(board.rows) >= MANY else None
    extra = {"rank": TIES} | ({"top1": _dots_header(axis)} if axis else {})
    head = _joined(columns, _column_header, extra)
    rows, ties, shown = [], tie_cells(board), columns_of(board.rows)
    for row, name, tie in zip(board.rows, row_names(board), ties, strict=True):
        dots = {"top1": f'<td class="in-top1 in-dots">{inline_dots(row, axis)}</td>'} if axis else {}
        cells = _joined(columns, partial(_cell, row=row), {"rank": tie} | dots)
        more = more_cell(row, name, shown, surroundings)
        rows.append(f"{_row_start(row, name, _kind(board, row))}{cells}{more}</tr>")
    lines = "\n".join(rows)
    return (
        f'<table class="rows"><caption class="visually-hidden">Results: {for_html(board.title, TITLE_LIMIT)}</caption>'
        f"<thead><tr>{head}{MORE}</tr></thead><tbody>\n{lines}\n</tbody>{_teacher_row(board, columns, extra)}</table>"
    )


def _joined(columns: Sequence[Column], make: Callable[[Column], str], extra: Mapping[str, str]) -> str:
    """Join the cells of columns, each with the further cell that stands behind it."""
    return "".join(make(column) + extra.get(column.key, "") for column in columns)


def _dots_header(axis: Axis) -> str:
    ends = f"{percent(axis.low)} to {percent(axis.high)} %"
    return f'<th scope="col" class="in-top1 in-dots" title="{PLOT_CAPTION}">Seeds, {unbroken(ends)}</th>'


def _figures(board: Board, names: list[str]) -> str:
    """Return the plots of seeds and ranks; of many rows the latter alone, and folded."""
    ranks = rank_plot(board)
    if ranks:
        ranks = f"<figure>{ranks}<figcaption>{RANK_CAPTION}</figcaption></figure>"
    if len(board.rows) >= MANY:
        return details("Rank intervals", ranks)
    dots = scroll("Plot of every seed", dot_plot(board, names))
    return f'<div class="figures"><figure>{dots}<figcaption>{PLOT_CAPTION}</figcaption></figure>{ranks}</div>'


def pair_name(board: Board) -> str:
    """Return teacher and student as the filter and the plots name them."""
    return f"{board.teacher.name if board.teacher else 'no teacher'} → {board.student}"


def _filters(board: Board) -> str:
    """Return the attributes that the filters read, for all rows of the board."""
    values = {"dataset": board.dataset.name, "pair": pair_name(board), "recipe": board.recipe}
    words = visible(" ".join((board.title, board.recipe)).lower(), SEARCH_LIMIT)
    attributes = [f'data-{name}="{for_html(value)}"' for name, value in values.items()]
    return " ".join([*attributes, f'data-search="{for_html(words)}"'])


def _column_header(column: Column) -> str:
    kind = f' class="{"number " if column.numeric else ""}in-{column.key}"'
    sort = ' aria-sort="ascending"' if column.key == "rank" else ""
    return (
        f'<th scope="col"{kind}{sort} data-key="{column.key}" data-first="{column.first}"'
        f' title="{for_html(column.explanation)}">{unbroken(for_html(column.title))}</th>'
    )


def _kind(board: Board, row: Row) -> str:
    """Return the classes of a row: a baseline of the differences, and one that may be the first."""
    kinds = ("baseline", row in (board.kd, board.scratch)), ("leading", row.rank is not None and row.rank[0] == 1)
    return " ".join(kind for kind, holds in kinds if holds)


def _teacher_row(board: Board, columns: Sequence[Column], extra: Mapping[str, str]) -> str:
    """Return the foot of a table, with what is known of the teacher; empty without one."""
    if board.teacher is None:
        return ""
    known = {"top1": percent(board.teacher.test_top1), "parameters": count(board.teacher.parameters)}
    known |= {"macs": count(board.teacher.macs)}
    label = for_html(f"teacher {board.teacher.name}", CELL_LIMIT)
    further = dict.fromkeys(extra, "<td></td>")

    def cell(column: Column) -> str:
        kind = f'class="in-{column.key} {"number" if column.numeric else "text"} reference"'
        if column.key == "method":
            return f'<th scope="row" {kind}>{label}</th>'
        note = ' <span class="note"></span>' if column.key in ALIGNED_COLUMNS else ""
        return f"<td {kind}>{known.get(column.key, '')}{note}</td>"

    return f"<tfoot><tr>{_joined(columns, cell, further)}<td></td></tr></tfoot>"


def _row_start(row: Row, name: str, kind: str) -> str:
    method = row.entry.latest.method
    words = visible(" ".join((row.entry.label, method.family, method.paper, row.evidence)).lower(), SEARCH_LIMIT)
    parameters = row.entry.latest.student.parameters
    return (
        f'<tr class="{kind}" data-row="{name}" data-family="{for_html(method.family)}" data-evidence="{row.evidence}"'
        f' data-parameters="{parameters}" data-finished="{row.entry.finished_on}" data-search="{for_html(words)}">'
    )


def _cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    key = column.key
    classes = f"in-{key}"
    classes += " number" if column.numeric else " text"
    classes += " unclear" if cell.unclear else ""
    classes += " missing" if cell.text == MISSING else ""
    classes += " best" if row.best and key in ("method", "top1") else ""
    limit = PAPER_LIMIT if key == "paper" else CELL_LIMIT
    text = for_html(cell.text, limit)
    if key == "paper":
        text = with_links(text)
    if cell.mark:
        text = f"{mark(cell.mark, cell.meaning)} {text}"
    note = f' <span class="note">{for_html(cell.note)}</span>' if cell.note or key in ALIGNED_COLUMNS else ""
    tag, scope = ("th", ' scope="row"') if key == "method" else ("td", "")
    return f'<{tag}{scope} class="{classes}"{_sort_value(column, cell)}{full(cell.text, limit)}>{text}{note}</{tag}>'


def _sort_value(column: Column, cell: Cell) -> str:
    """Return the attribute that the script sorts by: a number, or an empty one for text; none where it is missing."""
    if column.numeric:
        return "" if cell.value is None else f' data-value="{cell.value!r}"'
    return "" if cell.text in ("", MISSING) else ' data-value=""'


def _seed_table(board: Board, run_pages: bool) -> str:
    seeds = sorted({seed for row in board.rows for seed in row.entry.scores})
    head = "".join(f'<th scope="col" class="number">seed {seed}</th>' for seed in seeds)
    lines = []
    for row in board.rows:
        runs = {run.seed: run.run_id for run in row.entry.runs}
        scores = row.entry.scores
        values = [_seed_cell(scores.get(seed), runs.get(seed, "") if run_pages else "") for seed in seeds]
        lines.append(
            f'<tr><th scope="row" class="text">{for_html(row.entry.label, CELL_LIMIT)}</th>{"".join(values)}</tr>'
        )
    return scroll(
        "Every seed",
        f"<table><caption>Test top-1 % of every run{'; a number leads to its page' if run_pages else ''}.</caption>"
        f'<thead><tr><th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>',
    )


def _seed_cell(score: float | None, run_id: str) -> str:
    if score is None:
        return f'<td class="number missing">{MISSING}</td>'
    text = percent(score)
    return f'<td class="number">{f"""<a href="{RUN_FOLDER}/{run_id}.html">{text}</a>""" if run_id else text}</td>'
