"""Boards as plain tables for a terminal."""

import textwrap
from collections.abc import Callable, Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import SELECTION_MARKS, rank_text
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.summary import EMPTY
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.text.escape import ELLIPSIS, visible
from kd_bench.results.text.formats import FORMATS, MISSING, half_width, percent, points

METHOD_WIDTHS = (8, 40)
METHOD_LINES = 3
SELECTION_SIGNS = {"last": "", "best_on_validation": "†", "best_on_test": "‡"}
TERMINAL_GAP = "  "
TERMINAL_TITLES = (
    *("rank", "method", "seeds", "test top-1 %", "Δ scratch", "Δ KD", "retention", "ECE", "params", "train s"),
)
METRIC_COLUMNS = ("ece", "parameters", "train_seconds")


def terminal_table(boards: Sequence[Board], width: int = 110) -> str:
    """Return the boards as plain text for the end of a command.

    Long names of methods are broken to fit ``width`` columns; 100 are enough unless ranks or counts have many digits.
    """
    return "\n\n".join(_terminal_board(board, width) for board in boards) or EMPTY


def _terminal_board(board: Board, width: int) -> str:
    cells = [_terminal_cells(row) for row in board.rows]
    widths = [max(len(line[position]) for line in (TERMINAL_TITLES, *cells)) for position in range(len(cells[0]))]
    least, most = METHOD_WIDTHS
    free = width - (sum(widths) - widths[1]) - len(TERMINAL_GAP) * (len(widths) - 1)
    widths[1] = max(least, min(most, widths[1], free))
    lines = [visible(board.title, width)]
    for line in (TERMINAL_TITLES, ["─" * size for size in widths], *cells):
        lines += _terminal_lines(line, widths)
    return "\n".join([*lines, *_footnotes(board, width)])


def _terminal_cells(row: Row) -> list[str]:
    evidence = "" if row.evidence == "ranked" else "*" if row.evidence == "preliminary" else "!"
    without = f" ({row.failed + row.unfinished})" if row.failed + row.unfinished else ""
    return [
        rank_text(row.rank) + evidence,
        visible(row.entry.label) + SELECTION_SIGNS[row.entry.selection],
        f"{row.top1.n}{without}",
        _terminal_estimate(row.top1, percent),
        _terminal_estimate(row.scratch_difference, points),
        _terminal_estimate(row.kd_difference, points),
        MISSING if row.retention is None else percent(row.retention),
        *(_terminal_metric(row, key) for key in METRIC_COLUMNS),
    ]


def _terminal_metric(row: Row, key: str) -> str:
    value = row.metrics[key]
    return MISSING if value is None else FORMATS[METRICS[key].unit](value.mean)


def _terminal_estimate(value: Estimate | None, text: Callable[[float], str]) -> str:
    if value is None:
        return MISSING
    return text(value.mean) if value.half_width is None else f"{text(value.mean)} {half_width(value)}"


def _terminal_lines(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    """Return the lines of a row, several where the method's name has to be broken."""
    first, *rest = textwrap.wrap(cells[1], widths[1], max_lines=METHOD_LINES, placeholder=ELLIPSIS) or [""]
    aligned = [cell.rjust(size) for cell, size in zip(cells, widths, strict=True)]
    aligned[1] = first.ljust(widths[1])
    indent = " " * (widths[0] + len(TERMINAL_GAP))
    return [TERMINAL_GAP.join(aligned).rstrip(), *(indent + line for line in rest)]


def _footnotes(board: Board, width: int) -> list[str]:
    rows = board.rows
    selections = {row.entry.selection for row in rows}
    possible = (
        (True, "± half of the 95 % t interval; Δ in points, paired by seed; retention in %."),
        (any(row.evidence == "preliminary" for row in rows), "* preliminary: 3 or 4 seeds."),
        (any(row.rank is None for row in rows), "! single run or too few runs (below 3 seeds): no rank."),
        (any(row.failed + row.unfinished for row in rows), "(n): runs of the method that failed or are unfinished."),
        ("best_on_validation" in selections, f"† {SELECTION_MARKS['best_on_validation']}."),
        ("best_on_test" in selections, f"‡ {SELECTION_MARKS['best_on_test']}."),
    )
    return [*(text for shown, text in possible if shown), *(visible(note, width) for note in board.notes)]
