"""The board of a published table as Markdown, CSV and one HTML page."""

import csv
import io
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from kd_bench.errors import ConfigError
from kd_bench.leaderboard.columns import SELECTION_MARKS
from kd_bench.leaderboard.escape import for_csv, for_html, for_markdown
from kd_bench.leaderboard.formats import MISSING, half_width, percent, points
from kd_bench.leaderboard.markdown import markdown_table
from kd_bench.leaderboard.pages.html import document, section, with_links
from kd_bench.leaderboard.pages.html import table as html_table
from kd_bench.leaderboard.summary import VERSION_LINE
from kd_bench.reproduction.board import Board, Line
from kd_bench.reproduction.tables import all_tables
from kd_bench.runs.files import write_atomically

COLUMNS = ("Method", "Epoch", "Published %", "Of seeds", "Source", "Ours %", "Seeds", "Difference", "Verdict", "Notes")
NUMERIC = frozenset({"Published %", "Of seeds", "Ours %", "Seeds", "Difference"})


def write_board(board: Board, out: Path) -> list[Path]:
    """Write the board to the folder ``out``.

    Raises:
        ConfigError: the folder cannot be made.
        IntegrityError: a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be created: {error.strerror}") from None
    contents = {".md": markdown(board), ".csv": csv_text(board), ".html": html_page(board)}
    paths = [out / f"{board.name}{ending}" for ending in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_atomically(path, content)
    return paths


def markdown(board: Board) -> str:
    lines = [f"# {for_markdown(board.table.title)}", "", f"{board.counts}.", ""]
    for pair, rows in _sections(board):
        cells = [[for_markdown(text) for text in _texts(row)] for row in rows]
        lines += [f"## {for_markdown(pair)}", "", for_markdown(_teacher(rows)), ""]
        lines += [*markdown_table([(name, name in NUMERIC) for name in COLUMNS], cells), ""]
    lines += ["## How to read this", "", *(f"- {for_markdown(text)}" for text in explanations(board))]
    return "\n".join([*lines, "", for_markdown(VERSION_LINE), ""])


def html_page(board: Board) -> str:
    parts = [f"<header><h1>{for_html(board.table.title)}</h1><p>{for_html(board.counts)}.</p></header><main>"]
    for pair, rows in _sections(board):
        lines = [_texts(row) for row in rows]
        tables = html_table(pair, COLUMNS, lines, row_headers=True, numeric=NUMERIC)
        parts.append(section(pair, f"<p>{for_html(_teacher(rows))}</p>{tables}"))
    reading = "".join(f"<li>{with_links(for_html(text))}</li>" for text in explanations(board))
    return document(board.table.title, [*parts, section("How to read this", f"<ul>{reading}</ul>"), "</main>"])


def _sections(board: Board) -> list[tuple[str, list[Line]]]:
    return [
        (f"{pair.replace('--', ' → ')}", list(rows)) for pair, rows in groupby(board.lines, lambda line: line.cell.pair)
    ]


def _teacher(rows: list[Line]) -> str:
    published = next((row.cell.teacher_top1 for row in rows if row.cell.teacher_top1 is not None), None)
    ours = sorted({percent(row.teacher_top1) for row in rows if row.teacher_top1 is not None})
    texts = (MISSING if published is None else f"{percent(published)} %", f"{', '.join(ours)} %" if ours else MISSING)
    return f"Teacher: published {texts[0]}, ours {texts[1]}."


def _texts(line: Line) -> list[str]:
    published, ours, difference = line.cell.published, line.ours, line.difference
    spread = "" if published.std is None else f" (sd {percent(published.std)})"
    return [
        published.method,
        SELECTION_MARKS[line.cell.protocol.epoch] or "last",
        percent(published.value) + spread,
        MISSING if published.n_seeds is None else str(published.n_seeds),
        f"{published.paper_key}, {published.provenance}",
        MISSING if ours is None else f"{percent(ours.mean)} {half_width(ours)}".removesuffix(f" {MISSING}"),
        f"{len(line.runs)} of {line.cell.runs}",
        MISSING if difference is None else points(difference.mean) + _interval(difference.low, difference.high),
        line.verdict,
        "; ".join(line.notes) or MISSING,
    ]


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{points(low)}, {points(high)}]"


def explanations(board: Board) -> list[str]:
    """What the numbers mean, and what is known to differ from the source."""
    margin = f"{100 * board.margin:g}"
    protocols = {part.protocol: all_tables().protocols[part.protocol] for part in board.table.parts}
    return [
        "Published: mean test top-1 as printed, with the standard deviation over its seeds where that is known."
        " Source: own is the authors' method measured by them, rerun another paper's method measured by them.",
        "Ours: mean over seeds ± half the 95 % t interval, of runs whose method, recipe, student and data split are"
        " those of the protocol; other runs are not counted and are noted.",
        "Difference: ours minus published, in points, with the 90 % interval of Welch's t test; where the published"
        " spread is not known, the published value counts as exact.",
        f"Verdict: reproduced, if the interval lies within ± {margin} points (two one-sided tests at 5 %); below or"
        f" above, if it lies beyond ± {margin} points; else inconclusive, as with fewer than two seeds.",
        *(f"Protocol {name}: {protocol.source}." for name, protocol in protocols.items()),
        *dict.fromkeys(note for protocol in protocols.values() for note in protocol.notes),
        *board.table.notes,
    ]


def _of(estimate: str, part: str) -> Callable[[Line], float | None]:
    return lambda line: getattr(getattr(line, estimate), part, None)


CSV_COLUMNS: dict[str, Callable[[Line], str | int | float | None]] = {
    "table": lambda line: line.cell.table,
    "dataset": lambda line: line.cell.published.dataset,
    "teacher": lambda line: line.cell.teacher,
    "student": lambda line: line.cell.published.student,
    "method": lambda line: line.cell.published.method,
    "epoch": lambda line: line.cell.protocol.epoch,
    "published": lambda line: line.cell.published.value,
    "published_std": lambda line: line.cell.published.std,
    "published_seeds": lambda line: line.cell.published.n_seeds,
    "published_teacher_top1": lambda line: line.cell.teacher_top1,
    "provenance": lambda line: line.cell.published.provenance,
    "source": lambda line: line.cell.published.source,
    "ours": _of("ours", "mean"),
    "ours_ci95_low": _of("ours", "low"),
    "ours_ci95_high": _of("ours", "high"),
    "teacher_top1": lambda line: line.teacher_top1,
    "seeds": lambda line: " ".join(str(run.seed) for run in line.runs),
    "runs": lambda line: " ".join(run.run_id for run in line.runs),
    "difference": _of("difference", "mean"),
    "difference_ci90_low": _of("difference", "low"),
    "difference_ci90_high": _of("difference", "high"),
    "verdict": lambda line: line.verdict,
    "notes": lambda line: "; ".join(line.notes),
}


def csv_text(board: Board) -> str:
    """One line a cell, fractions with full precision, empty where a value is missing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*CSV_COLUMNS, "margin"])
    for line in board.lines:
        writer.writerow([*(_plain(get(line)) for get in CSV_COLUMNS.values()), repr(board.margin)])
    return buffer.getvalue()


def _plain(value: str | int | float | None) -> str:
    return for_csv(value) if isinstance(value, str) else "" if value is None else repr(value)
