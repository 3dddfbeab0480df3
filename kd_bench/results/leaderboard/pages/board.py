"""A board on the page: its table, the dots of every seed, and the seeds as a table that leads to their runs."""

from collections.abc import Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import Cell, Column
from kd_bench.results.leaderboard.pages.html import details, full, mark, scroll, unbroken, with_links
from kd_bench.results.leaderboard.pages.matrix import win_matrix
from kd_bench.results.leaderboard.plots.dots import dot_plot
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
RUN_FOLDER = "run-pages"


def row_names(board: Board) -> list[str]:
    """Return names of the rows that are unique on the page."""
    return [f"{board.identifier}-{index}" for index in range(len(board.rows))]


def board_section(board: Board, columns: Sequence[Column], run_pages: bool) -> str:
    """Return the section of a board; with ``run_pages`` its seeds are links."""
    names = row_names(board)
    title = for_html(board.title, TITLE_LIMIT)
    notes = "".join(f"<li{full(note, TITLE_LIMIT)}>{for_html(note, TITLE_LIMIT)}</li>" for note in board.notes)
    head = "".join(_column_header(column) for column in columns)
    rows = "\n".join(_row(row, name, columns, _kind(board, row)) for row, name in zip(board.rows, names, strict=True))
    results = (
        f'<table class="rows"><caption class="visually-hidden">Results: {title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody>{_teacher_row(board, columns)}</table>"
    )
    figure = (
        f"<figure>{scroll('Plot of every seed', dot_plot(board, names))}"
        f"<figcaption>{PLOT_CAPTION}</figcaption></figure>"
    )
    return (
        f'<section class="board" id="{board.identifier}" {_filters(board)}>'
        f"<h2{full(board.title, TITLE_LIMIT)}>{title}</h2>\n"
        f'<p class="facts">{unbroken(for_html(" ".join(facts(board))))}</p>\n{scroll("Results", results)}\n'
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + figure
        + win_matrix(board)
        + details("Test top-1 % of every seed", _seed_table(board, run_pages))
        + "</section>"
    )


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


def _teacher_row(board: Board, columns: Sequence[Column]) -> str:
    """Return the foot of a table, with what is known of the teacher; empty without one."""
    if board.teacher is None:
        return ""
    known = {"top1": percent(board.teacher.test_top1), "parameters": count(board.teacher.parameters)}
    known |= {"macs": count(board.teacher.macs)}
    cells = []
    for column in columns:
        kind = f'class="in-{column.key} {"number" if column.numeric else "text"} reference"'
        if column.key == "method":
            name = for_html(f"teacher {board.teacher.name}", CELL_LIMIT)
            cells.append(f'<th scope="row" {kind}>{name}</th>')
        else:
            note = ' <span class="note"></span>' if column.key in ALIGNED_COLUMNS else ""
            cells.append(f"<td {kind}>{known.get(column.key, '')}{note}</td>")
    return f"<tfoot><tr>{''.join(cells)}</tr></tfoot>"


def _row(row: Row, name: str, columns: Sequence[Column], kind: str) -> str:
    method = row.entry.latest.method
    words = visible(" ".join((row.entry.label, method.family, method.paper, row.evidence)).lower(), SEARCH_LIMIT)
    cells = "".join(_cell(column, row) for column in columns)
    parameters = row.entry.latest.student.parameters
    return (
        f'<tr class="{kind}" data-row="{name}" data-family="{for_html(method.family)}" data-evidence="{row.evidence}"'
        f' data-parameters="{parameters}" data-finished="{row.entry.finished_on}" data-search="{for_html(words)}">'
        f"{cells}</tr>"
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
