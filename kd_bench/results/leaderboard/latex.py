"""Boards as LaTeX tables in the style of booktabs, to be copied or ``\\input``. Any LaTeX engine takes them.

``\\usepackage{booktabs}`` is all that they need. Bold are significantly best rows, and nothing else.
"""

from collections.abc import Iterable

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.columns import COLUMNS, Column, measured
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.text.escape import for_latex
from kd_bench.results.text.formats import percent

# A page of a paper has room for these columns.
SHOWN = ("method", "seeds", "top1", "scratch_difference", "kd_difference", "kd_p", "teacher_agreement", "ece")
NAME_LIMIT = 40
TITLE_LIMIT = 160
FLOATS = 10
EMPTY = "% There are no finished student runs to rank.\n"


def latex(leaderboard: Leaderboard) -> str:
    """Return a ``table`` of each board; a comment where there is none."""
    head = "% Made by kd-bench leaderboard. Needs \\usepackage{booktabs}.\n"
    tables = [_table(board) for board in leaderboard.boards]
    # LaTeX gives up on a hundred tables that nothing separates.
    parts = ["\n".join(tables[start : start + FLOATS]) for start in range(0, len(tables), FLOATS)]
    return head + ("\n\\clearpage\n".join(parts) or EMPTY)


def _table(board: Board) -> str:
    known = measured(board.rows)
    columns = [column for column in COLUMNS if column.key in SHOWN and column.key in known]
    alignment = "".join("r" if column.numeric else "l" for column in columns)
    lines = [
        "\\begin{table}[htbp]",
        "\\centering\\footnotesize",
        f"\\caption{{{_caption(board)}}}",
        f"\\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        "\\toprule",
        _line(for_latex(column.title) for column in columns),
        "\\midrule",
        *(_line(_cell(column, row) for column in columns) for row in board.rows),
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table}",
        "",
    ]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _cell(column: Column, row: Row) -> str:
    cell = column.cell(row)
    text, note = for_latex(cell.text, NAME_LIMIT), for_latex(cell.note)
    if row.best and column.key in ("method", "top1"):
        text = f"\\textbf{{{text}}}"
    # A row that starts with a bracket would be read as the length of the line break before it.
    return " ".join(part for part in (f"{{{text}}}", note) if part)


def _caption(board: Board) -> str:
    parts = [for_latex(board.title, TITLE_LIMIT) + "."]
    if board.teacher:
        parts.append(f"Teacher {percent(board.teacher.test_top1)}\\,\\%.")
    parts.append("Test top-1 with half of its 95\\,\\% t interval over seeds; differences in points, paired by seed.")
    if any(row.best for row in board.rows):
        parts.append("Bold: significantly better than all rows below.")
    if any(row.evidence != "ranked" for row in board.rows):
        parts.append("Fewer than 5 seeds are preliminary; fewer than 3 are not ranked.")
    return " ".join(parts)
