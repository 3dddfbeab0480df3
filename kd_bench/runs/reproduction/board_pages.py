"""The board of a published table as Markdown, CSV, JSON and one HTML page."""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError
from kd_bench.results.leaderboard.markdown import markdown_table
from kd_bench.results.leaderboard.pages.html import document, section, with_links
from kd_bench.results.leaderboard.pages.html import table as html_table
from kd_bench.results.leaderboard.spreadsheet import cell_text
from kd_bench.results.leaderboard.summary import VERSION_LINE
from kd_bench.results.statistics.ranking import MINIMUM_CLAIM, MINIMUM_RANKED
from kd_bench.results.text.escape import for_html, for_markdown, visible
from kd_bench.results.text.formats import MISSING, half_width, percent, points, points_interval
from kd_bench.runs.reproduction.published import PublishedValue
from kd_bench.runs.reproduction.tables import all_tables
from kd_bench.runs.reproduction.verdicts import Board, Line

# Columns that are compared come first: on a narrow screen the rest takes scrolling.
COLUMNS = ("Method", "Published %", "Ours %", "Difference", "Verdict", "Seeds", "Published sd", "Epoch", "Source")
EPOCHS = {"last": "last", "best_on_validation": "best on validation", "best_on_test": "best on test: too good"}
PAIR_MARK = " *"
NUMERIC = frozenset({"Published %", "Ours %", "Difference", "Seeds", "Published sd"})


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
    contents = {".html": html_page, ".md": markdown, ".csv": csv_text, ".json": json_text}
    paths = [out / f"{board.name}{ending}" for ending in contents]
    for path, text in zip(paths, contents.values(), strict=True):
        write_atomically(path, text(board))
    return paths


def markdown(board: Board) -> str:
    """Return the board in Markdown: a table and its notes for every pair, then an explanation of the numbers."""
    lines = [f"# {for_markdown(board.table.title)}", "", for_markdown(_summary(board)), ""]
    for pair, rows in _sections(board):
        cells = [[for_markdown(text) for text in _texts(row)] for row in rows]
        lines += [f"## {for_markdown(pair)}", "", for_markdown(_teacher(rows)), ""]
        lines += [*markdown_table([(name, name in NUMERIC) for name in COLUMNS], cells), ""]
        if notes := _notes(rows):
            lines += [*(f"- {for_markdown(note)}" for note in notes), ""]
    lines += ["## How to read this", "", *(f"- {for_markdown(text)}" for text in explanations(board))]
    return "\n".join([*lines, "", for_markdown(VERSION_LINE), ""])


def plain(board: Board) -> str:
    """Return the board as text for a terminal: the cells that were run, then how many were not."""
    lines = [visible(board.table.title), visible(_summary(board)), ""]
    for pair, rows in _sections(board):
        if not (found := [row for row in rows if row.runs or row.notes]):
            continue
        cells = [list(COLUMNS), *([visible(text) for text in _texts(row)] for row in found)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        table = ("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells)
        lines += [visible(pair), visible(_teacher(found)), *(row.rstrip() for row in table)]
        lines += [*(f"- {visible(note)}" for note in _notes(found)), ""]
    missing = Counter(line.cell.pair for line in board.lines if not line.runs)
    lines += [f"not run: {visible(pair)}, {number} cell{'s' * (number > 1)}" for pair, number in missing.items()]
    return "\n".join(lines)


def html_page(board: Board) -> str:
    """Return the board as one HTML page that loads nothing else."""
    parts = [f"<header><h1>{for_html(board.table.title)}</h1><p>{for_html(_summary(board))}</p></header><main>"]
    for pair, rows in _sections(board):
        lines = [_texts(row) for row in rows]
        found = html_table(pair, COLUMNS, lines, row_headers=True, numeric=NUMERIC)
        notes = "".join(f"<li>{for_html(note)}</li>" for note in _notes(rows))
        listed = f'<ul class="notes">{notes}</ul>' if notes else ""
        parts.append(section(pair, f"<p>{for_html(_teacher(rows))}</p>{found}{listed}"))
    reading = "".join(f"<li>{with_links(for_html(text))}</li>" for text in explanations(board))
    return document(board.table.title, [*parts, section("How to read this", f"<ul>{reading}</ul>"), "</main>"])


def _summary(board: Board) -> str:
    datasets = ", ".join(dict.fromkeys(line.cell.protocol.dataset for line in board.lines))
    rejected = f" Files that were rejected: {board.rejected}; kd-bench check says why." if board.rejected else ""
    return f"{datasets}, {board.counts}. Within ± {100 * board.margin:g} points counts as the same.{rejected}"


def _sections(board: Board) -> list[tuple[str, list[Line]]]:
    return [(pair.replace("--", " → "), list(rows)) for pair, rows in groupby(board.lines, lambda line: line.cell.pair)]


def _teacher(rows: list[Line]) -> str:
    published = next((row.cell.teacher_top1 for row in rows if row.cell.teacher_top1 is not None), None)
    ours = sorted({percent(row.teacher_top1) for row in rows if row.teacher_top1 is not None})
    texts = (MISSING if published is None else f"{percent(published)} %", f"{', '.join(ours)} %" if ours else MISSING)
    return f"Teacher: published {texts[0]}, ours {texts[1]}."


def _notes(rows: list[Line]) -> list[str]:
    """Return each note once, with the methods that it concerns."""
    methods: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            methods.setdefault(note, []).append(row.cell.method)
    return [f"{', '.join(names) if len(names) < len(rows) else 'all'}: {note}" for note, names in methods.items()]


def _texts(line: Line) -> list[str]:
    published, ours, difference = line.cell.published, line.ours, line.difference
    return [
        published.method + PAIR_MARK * bool(line.cell.pair_settings),
        percent(published.value),
        MISSING if ours is None else f"{percent(ours.mean)} {half_width(ours)}".removesuffix(f" {MISSING}"),
        MISSING if difference is None else f"{points(difference.mean)} {points_interval(difference)}".strip(),
        f"{line.verdict} (preliminary)" if line.preliminary else line.verdict,
        f"{len(line.runs)} of {line.cell.runs}",
        _spread(published),
        EPOCHS[line.cell.protocol.epoch],
        f"{published.paper_key}, {published.provenance}",
    ]


def _spread(published: PublishedValue) -> str:
    deviation = MISSING if published.std is None else percent(published.std)
    return deviation if published.n_seeds is None else f"{deviation} ({published.n_seeds} seeds)"


def explanations(board: Board) -> list[str]:
    """Explain the numbers, and list the known differences from the source."""
    margin = f"{100 * board.margin:g}"
    protocols = {part.protocol: all_tables().protocols[part.protocol] for part in board.table.parts}
    return [
        "Published: mean test top-1 as printed, with the standard deviation over its seeds where that is known."
        " Source: own is the authors' method measured by them, rerun another paper's method measured by them; the CSV"
        " and JSON files say where each number was read.",
        "Ours: mean over seeds ± half the 95 % t interval, of runs whose method, recipe, student and data split are"
        " those of the protocol; other runs are not counted and are noted. Seeds: runs so far, of those asked for.",
        "Difference: ours minus published, in points, with the 90 % interval of Welch's t test; where the published"
        " spread is not known, the published value counts as exact.",
        f"Verdict: reproduced, if the interval lies within ± {margin} points (two one-sided tests at 5 %); below or"
        f" above, if it lies beyond ± {margin} points; else inconclusive, as always with fewer than {MINIMUM_RANKED}"
        f" seeds. Preliminary: fewer than {MINIMUM_CLAIM} seeds. Each cell is tested by itself: of 100 whose true"
        f" difference is {margin} points, at most 5 would be called reproduced.",
        *([PAIR_SETTINGS] if any(line.cell.pair_settings for line in board.lines) else []),
        *(f"Protocol {name}: {protocol.source}." for name, protocol in protocols.items()),
        *(f"{name}: {note}" for name, protocol in protocols.items() for note in protocol.notes),
        *board.table.notes,
    ]


PAIR_SETTINGS = (
    "An asterisk marks a method with values that its authors publish for this pair of networks; the CSV and JSON files"
    " have them, and so has the page of the method (kd-bench list methods NAME)."
)


def _of(estimate: str, part: str) -> Callable[[Line], float | None]:
    return lambda line: getattr(getattr(line, estimate), part, None)


FIELDS: dict[str, Callable[[Line], str | int | float | bool | None]] = {
    "table": lambda line: line.cell.table,
    "dataset": lambda line: line.cell.published.dataset,
    "teacher": lambda line: line.cell.teacher,
    "student": lambda line: line.cell.published.student,
    "method": lambda line: line.cell.published.method,
    "pair_settings": lambda line: "; ".join(line.cell.pair_settings),
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
    "preliminary": lambda line: line.preliminary,
    "notes": lambda line: "; ".join(line.notes),
}


def csv_text(board: Board) -> str:
    """Return one line a cell, fractions with full precision, empty where a value is missing."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([*FIELDS, "margin"])
    for line in board.lines:
        writer.writerow([*(cell_text(get(line)) for get in FIELDS.values()), repr(board.margin)])
    return buffer.getvalue()


def json_text(board: Board) -> str:
    """Return the cells as JSON, null where a value is missing. Texts are as they were found: escape them."""
    cells = [{name: get(line) for name, get in FIELDS.items()} for line in board.lines]
    content = {
        "table": board.name,
        "title": board.table.title,
        "margin": board.margin,
        "cells": cells,
        "explanations": explanations(board),
    }
    return json.dumps(content, indent=1) + "\n"
