"""The leaderboard as one self-contained HTML page: complete tables without script, sorting and a filter with it."""

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from kd_bench.leaderboard.board import Board, Leaderboard
from kd_bench.leaderboard.columns import (
    COLUMNS,
    INTERVALS_EXPLAINED,
    MISSING,
    RANKS_EXPLAINED,
    SCOPE_EXPLAINED,
    Cell,
    Column,
    percent,
)
from kd_bench.leaderboard.escape import for_html, visible
from kd_bench.leaderboard.plot import dot_plot
from kd_bench.leaderboard.rows import Row
from kd_bench.leaderboard.summary import (
    EMPTY,
    NUMERIC_COLUMNS,
    REJECTED_COLUMNS,
    STATE_COLUMNS,
    TEACHER_COLUMNS,
    TITLE,
    VERSION_LINE,
    facts,
    header,
    rejected_rows,
    state_rows,
    teacher_rows,
)

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
CELL_LIMIT = 90
PAPER_LIMIT = 64
TITLE_LIMIT = 160
REASON_LIMIT = 600
SEARCH_LIMIT = 600
# Their notes are shown with a fixed width, also where there is none, so that the numbers before them line up.
ALIGNED_COLUMNS = frozenset({"top1", "scratch_difference", "kd_difference", "ece"})
COLUMN_KINDS = {"Cause": "wide", "Reason": "wide", "State": "short", "Updated": "short", "Run": "short"}
PLOT_CAPTION = (
    "Circles are seeds, the tick is their mean, the bar its 95 % t interval, cut at the edges; the dashed line is the"
    " mean of scratch."
)
ARXIV = re.compile(r"(?<![\w./-])(?:arXiv:\s?)?(\d{4}\.\d{4,5})(?:v\d+)?(?![\w.-])", re.IGNORECASE | re.ASCII)


def html_page(leaderboard: Leaderboard) -> str:
    """The whole page. The policy in its head lets it load nothing from anywhere and run its own script alone."""
    script_hash = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{script_hash}'; img-src data:"
    body = [
        f"<header><h1>{for_html(TITLE)}</h1>",
        f'<p class="counts">{header(leaderboard)}</p>{_filter(leaderboard)}{_contents(leaderboard.boards)}</header>',
        "<main>",
        *(_board(board) for board in leaderboard.boards),
        "" if leaderboard.boards else f"<p>{EMPTY}</p>",
        _section("Teachers", TEACHER_COLUMNS, teacher_rows(leaderboard)),
        _section("Failed and unfinished runs", STATE_COLUMNS, state_rows(leaderboard)),
        _section("Rejected files", REJECTED_COLUMNS, rejected_rows(leaderboard)),
        _explanations(),
        f"</main><footer>{for_html(VERSION_LINE)}</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{for_html(TITLE)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def _filter(leaderboard: Leaderboard) -> str:
    """Shown by the script, because it does nothing without."""
    total = sum(len(board.rows) for board in leaderboard.boards)
    if not total:
        return ""
    return (
        '<form class="filter" role="search" hidden><label>Filter <input type="search" autocomplete="off" '
        'spellcheck="false" placeholder="method, dataset, teacher, student, family"></label>'
        f'<output aria-live="polite">showing {total} of {total} rows</output></form>'
    )


def _contents(boards: Sequence[Board]) -> str:
    if len(boards) < 2:
        return ""
    links = [f'<li><a href="#{board.identifier}">{for_html(board.title, TITLE_LIMIT)}</a></li>' for board in boards]
    return f'<nav aria-label="Boards"><ul class="contents">{"".join(links)}</ul></nav>'


def _board(board: Board) -> str:
    names = [f"{board.identifier}-{index}" for index in range(len(board.rows))]
    heading = f"<h2{_full(board.title, TITLE_LIMIT)}>{for_html(board.title, TITLE_LIMIT)}</h2>"
    notes = "".join(f"<li{_full(note, TITLE_LIMIT)}>{for_html(note, TITLE_LIMIT)}</li>" for note in board.notes)
    head = "".join(_column_header(column) for column in COLUMNS)
    rows = "\n".join(_row(row, name, board) for row, name in zip(board.rows, names, strict=True))
    return (
        f'<section class="board" id="{board.identifier}">{heading}\n'
        f'<p class="facts">{_unbroken(for_html(" ".join(facts(board))))}</p>\n'
        f'{_scroll("Results")}<table class="rows"><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>\n"
        + (f'<ul class="notes">{notes}</ul>\n' if notes else "")
        + f"<figure>{_scroll('Plot of every seed')}{dot_plot(board, names)}</div>"
        f"<figcaption>{PLOT_CAPTION}</figcaption></figure>\n{_seed_table(board)}</section>"
    )


def _scroll(label: str) -> str:
    """A region that scrolls sideways by itself, also with the keyboard, so that the page does not."""
    return f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">'


def _unbroken(text: str) -> str:
    """No line starts with a percent sign."""
    return text.replace(" %", "&nbsp;%")


def _full(text: str, limit: int) -> str:
    """A title attribute with the whole text where less of it is displayed."""
    return f' title="{for_html(text)}"' if len(text) > limit else ""


def _column_header(column: Column) -> str:
    kind = f' class="{"number " if column.numeric else ""}in-{column.key}"'
    sort = ' aria-sort="ascending"' if column.key == "rank" else ""
    return (
        f'<th scope="col"{kind}{sort} data-key="{column.key}" data-first="{column.first}"'
        f' title="{for_html(column.explanation)}">{_unbroken(for_html(column.title))}</th>'
    )


def _row(row: Row, name: str, board: Board) -> str:
    method = row.entry.latest.method
    words = (row.entry.label, method.family, method.paper, board.title, row.evidence)
    search = " ".join(visible(word, SEARCH_LIMIT) for word in words).lower()
    cells = "".join(_cell(column, row) for column in COLUMNS)
    return f'<tr data-row="{name}" data-search="{for_html(search)}">{cells}</tr>'


def _cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    classes = ["number" if column.numeric else "text", f"in-{column.key}"]
    classes += ["unclear"] if cell.unclear else []
    classes += ["missing"] if cell.text == MISSING else []
    classes += ["best"] if row.best and column.key in ("method", "top1") else []
    tag, scope = ("th", ' scope="row"') if column.key == "method" else ("td", "")
    limit = PAPER_LIMIT if column.key == "paper" else CELL_LIMIT
    text = for_html(cell.text, limit)
    if column.key == "paper":
        text = ARXIV.sub(r'<a rel="noreferrer" href="https://arxiv.org/abs/\1">\g<0></a>', text)
    note = f' <span class="note">{for_html(cell.note)}</span>' if cell.note or column.key in ALIGNED_COLUMNS else ""
    attributes = f'{scope} class="{" ".join(classes)}"{_sort_value(column, cell)}{_full(cell.text, limit)}'
    return f'<{tag}{attributes}><span class="main">{text}</span>{note}</{tag}>'


def _sort_value(column: Column, cell: Cell) -> str:
    """What the script sorts by: a number, or a mark that the cell's text counts; nothing where it is missing."""
    if column.numeric:
        return "" if cell.value is None else f' data-value="{cell.value!r}"'
    return "" if cell.text in ("", MISSING) else ' data-value=""'


def _seed_table(board: Board) -> str:
    seeds = sorted({seed for row in board.rows for seed in row.entry.scores})
    head = "".join(f'<th scope="col" class="number">seed {seed}</th>' for seed in seeds)
    lines = []
    for row in board.rows:
        runs = {run.seed: run for run in row.entry.runs}
        values = [
            f'<td class="number" title="run {runs[seed].run_id}">{percent(runs[seed].headline().test.top1)}</td>'
            if seed in runs
            else f'<td class="number missing">{MISSING}</td>'
            for seed in seeds
        ]
        lines.append(
            f'<tr><th scope="row" class="text">{for_html(row.entry.label, CELL_LIMIT)}</th>{"".join(values)}</tr>'
        )
    return (
        f"<details><summary>Test top-1 % of every seed</summary>{_scroll('Every seed')}<table><thead><tr>"
        f'<th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div></details>'
    )


def _section(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    kinds = ["number" if name in NUMERIC_COLUMNS else COLUMN_KINDS.get(name, "text") for name in columns]
    head = "".join(f'<th scope="col" class="{kind}">{name}</th>' for name, kind in zip(columns, kinds, strict=True))
    lines = []
    for row in rows:
        cells = (
            f'<td class="{kind}"{_full(text, REASON_LIMIT)}>{for_html(text, REASON_LIMIT)}</td>'
            for text, kind in zip(row, kinds, strict=True)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f"<section><h2>{title}</h2>{_scroll(title)}<table><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div></section>"
    )


def _explanations() -> str:
    paragraphs = "".join(f"<p>{for_html(text)}</p>" for text in (SCOPE_EXPLAINED, RANKS_EXPLAINED, INTERVALS_EXPLAINED))
    terms = "".join(f"<dt>{for_html(c.title)}</dt><dd>{for_html(c.explanation)}</dd>" for c in COLUMNS)
    return f'<section id="how"><h2>How to read this</h2>{paragraphs}<dl>{terms}</dl></section>'
