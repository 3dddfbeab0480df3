"""Boards as LaTeX tables in the style of booktabs, to be copied or ``\\input``. Any LaTeX engine takes them.

They need ``\\usepackage{booktabs}``, and ``longtable`` for boards of 30 rows or more. Bold is a row of rank 1.
"""

from collections.abc import Iterable, Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.columns import Column, columns_of
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.text.escape import for_latex
from kd_bench.results.text.formats import percent

LONG = 30  # rows, from which a table is broken over pages
MARKS = {"▲": "$\\bigtriangleup$", "▼": "$\\bigtriangledown$", "≈": "$\\approx$"}
NAME_LIMIT = 40
TITLE_LIMIT = 160
FLOATS = 10
EMPTY = "% There are no finished student runs to rank.\n"


def latex(leaderboard: Leaderboard) -> str:
    """Return a ``table`` of each board; a comment where there is none."""
    head = "% Made by kd-bench leaderboard. Needs \\usepackage{booktabs,longtable}.\n"
    tables = [_table(board) for board in leaderboard.boards]
    # LaTeX gives up on a hundred tables that nothing separates.
    parts = ["\n".join(tables[start : start + FLOATS]) for start in range(0, len(tables), FLOATS)]
    return head + ("\n\\clearpage\n".join(parts) or EMPTY)


def _table(board: Board) -> str:
    columns = [column for column in columns_of(board.rows) if column.shown]
    alignment = f"{{@{{}}{''.join('r' if column.numeric else 'l' for column in columns)}@{{}}}}"
    head = ["\\toprule", _line(for_latex(column.title) for column in columns), "\\midrule"]
    rows = [latex_row(columns, row) for row in board.rows]
    caption = f"\\caption{{{_caption(board)}}}"
    if len(rows) < LONG:
        start = ["\\begin{table}[htbp]", "\\centering\\footnotesize", caption, f"\\begin{{tabular}}{alignment}", *head]
        return "\n".join([*start, *rows, "\\bottomrule", "\\end{tabular}", "\\end{table}", ""])
    start = ["{\\footnotesize", f"\\begin{{longtable}}{alignment}", f"{caption}\\\\", *head, "\\endhead"]
    return "\n".join([*start, *rows, "\\bottomrule", "\\end{longtable}", "}", ""])


def latex_row(columns: Sequence[Column], row: Row) -> str:
    """Return the line of a row."""
    return _line(_cell(column, row) for column in columns)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    text, note = for_latex(cell.text, NAME_LIMIT), for_latex(cell.note)
    if row.best and column.key in ("method", "top1"):
        text = f"\\textbf{{{text}}}"
    # A row that starts with a bracket would be read as the length of the line break before it.
    return " ".join(part for part in (MARKS.get(cell.mark, ""), f"{{{text}}}", note) if part)


def _caption(board: Board) -> str:
    parts = [for_latex(board.title, TITLE_LIMIT) + "."]
    if board.teacher:
        parts.append(f"Teacher {percent(board.teacher.test_top1)}\\,\\%.")
    parts.append(
        "Test top-1 with half of its 95\\,\\% t interval over seeds; differences to KD in points, with simultaneous"
        " 95\\,\\% intervals and adjusted p values:"
        f" {MARKS['▲']} better, {MARKS['▼']} worse, {MARKS['≈']} not separated."
    )
    parts.append(for_latex(board.family.power()))
    if any(row.best for row in board.rows):
        parts.append("Bold: shown better than all others.")
    if any(row.evidence != "ranked" for row in board.rows):
        parts.append("Fewer than 5 seeds are preliminary; fewer than 3 are not ranked.")
    return " ".join(parts)
