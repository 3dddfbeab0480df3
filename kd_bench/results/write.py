"""Leaderboards: a pure function of the records that runs leave. Imports no torch."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.collection import Recompute
from kd_bench.results.checking.load import load
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard, build
from kd_bench.results.leaderboard.document import json_text
from kd_bench.results.leaderboard.exemplars import exemplars_text
from kd_bench.results.leaderboard.latex import latex
from kd_bench.results.leaderboard.markdown import markdown
from kd_bench.results.leaderboard.pages.board import RUN_FOLDER
from kd_bench.results.leaderboard.pages.index import html_page
from kd_bench.results.leaderboard.pages.run_page import run_page
from kd_bench.results.leaderboard.spreadsheet import csv_text
from kd_bench.results.leaderboard.summary import counts
from kd_bench.results.leaderboard.tiers import verified
from kd_bench.results.records.reading import uninterrupted
from kd_bench.results.records.record import Record

OUTPUTS = {
    "leaderboard.md": markdown,
    "leaderboard.csv": csv_text,
    "leaderboard.json": json_text,
    "leaderboard.tex": latex,
    "exemplars.csv": exemplars_text,
}
TABLES = ("leaderboard.md", "leaderboard.csv", "exemplars.csv")
PAGE = "index.html"
# Pages of more runs than this take longer than everything else together.
MOST_RUN_PAGES = 500


@dataclass(frozen=True)
class LeaderboardSummary:
    """The content of a leaderboard and the files that were written. ``str`` gives one line of the counts."""

    records: int
    unfinished: int
    failed: int
    rejected: int
    boards: tuple[Board, ...]
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return counts(self.records, self.unfinished, self.failed, self.rejected)


@uninterrupted()
def read_leaderboard(records: Path) -> Leaderboard:
    """Build the boards of everything below the directory ``records``.

    Raises:
        ConfigError: there is no such directory.
    """
    return build(load(records))


@uninterrupted()
def write_leaderboard(
    records: Path,
    out: Path,
    all_run_pages: bool = False,
    recompute: Recompute | None = None,
    method_pages: str = "",
) -> LeaderboardSummary:
    """Build the leaderboard of ``records`` and write it to the directory ``out``: Markdown, CSV, JSON, LaTeX and one
    HTML page, the exemplars as CSV, and a page for every run in its folder ``run-pages``.

    Args:
        all_run_pages: write the pages of runs also where there are more than ``MOST_RUN_PAGES``.
        recompute: check records as ``kd-bench check`` does, with their predictions, which shows in the tiers of rows.
        method_pages: address of a folder with a page for each shipped method, as seen from ``out``.

    The files depend on the records (and run states) alone: the same ones give the same bytes on every machine. With
    ``recompute`` they depend on the predictions as well.

    Raises:
        ConfigError: there is no directory ``records``, or ``out`` cannot be created.
        IntegrityError: a file cannot be written.
    """
    collection = load(records, sys.maxsize if all_run_pages else MOST_RUN_PAGES)
    leaderboard = build(*verified(collection, records, recompute)) if recompute else build(collection)
    summary = _write(leaderboard, out, tuple(OUTPUTS))
    found = leaderboard.collection.records
    with_pages = all_run_pages or len(collection.records) <= MOST_RUN_PAGES
    write_atomically(out / PAGE, html_page(leaderboard, with_pages, method_pages))
    _write_run_pages(found if with_pages else (), out / RUN_FOLDER)
    return replace(summary, files=(*summary.files, out / PAGE))


@uninterrupted()
def write_tables(records: Path, out: Path) -> LeaderboardSummary:
    """Write the boards that a repository keeps: Markdown and CSV; pages are made where they are looked at.

    Raises:
        ConfigError, IntegrityError: as ``write_leaderboard``.
    """
    return _write(build(load(records, 0)), out, TABLES)


def _write(leaderboard: Leaderboard, out: Path, names: tuple[str, ...]) -> LeaderboardSummary:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be created: {error.strerror}") from None
    for name in names:
        write_atomically(out / name, OUTPUTS[name](leaderboard))
    found = leaderboard.collection
    return LeaderboardSummary(
        records=len(found.records),
        unfinished=found.unfinished,
        failed=found.failed,
        rejected=len(found.rejected),
        boards=leaderboard.boards,
        files=tuple(out / name for name in names),
    )


def _write_run_pages(records: tuple[Record, ...], folder: Path) -> None:
    """Write one page for each run and remove the pages of runs that are gone.

    Pages follow from the records, so they are not flushed to the disk one by one.
    """
    pages = {f"{record.run_id}.html": record for record in records}
    try:
        folder.mkdir(exist_ok=True)
        for stale in folder.glob(f"{'[0-9a-f]' * 16}.html"):
            if stale.name not in pages:
                stale.unlink()
        for name, record in pages.items():
            (folder / name).write_text(run_page(record), encoding="utf-8", newline="\n")
    except OSError as error:
        raise IntegrityError(f"{error.filename or folder} cannot be written: {error.strerror or error}") from error
