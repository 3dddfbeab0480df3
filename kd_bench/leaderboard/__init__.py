"""Leaderboards: a pure function of the records that runs leave. Imports no torch."""

from dataclasses import dataclass
from pathlib import Path

from kd_bench.errors import ConfigError
from kd_bench.leaderboard.board import Board, Leaderboard, build
from kd_bench.leaderboard.load import load
from kd_bench.leaderboard.page import html_page
from kd_bench.leaderboard.spreadsheet import csv_text
from kd_bench.leaderboard.summary import counts
from kd_bench.leaderboard.text import markdown, terminal_table
from kd_bench.runs.files import write_atomically

__all__ = ["Board", "Leaderboard", "LeaderboardSummary", "read_leaderboard", "terminal_table", "write_leaderboard"]

OUTPUTS = {"leaderboard.md": markdown, "leaderboard.csv": csv_text, "index.html": html_page}


@dataclass(frozen=True)
class LeaderboardSummary:
    """What a leaderboard was built from, and the files that were written. ``str`` is one line of the counts."""

    records: int
    unfinished: int
    failed: int
    rejected: int
    boards: tuple[Board, ...]
    files: tuple[Path, ...]

    def __str__(self) -> str:
        return counts(self.records, self.unfinished, self.failed, self.rejected)


def read_leaderboard(records: Path) -> Leaderboard:
    """Boards of everything below the directory ``records``.

    Raises:
        ConfigError: there is no such directory.
    """
    return build(load(records))


def write_leaderboard(records: Path, out: Path) -> LeaderboardSummary:
    """Build the leaderboard of ``records`` and write it as Markdown, CSV and HTML to the directory ``out``.

    The files depend on the records (and run states) alone: the same ones give the same bytes on every machine.

    Raises:
        ConfigError: there is no directory ``records``, or ``out`` cannot be created.
        IntegrityError: a file cannot be written.
    """
    leaderboard = read_leaderboard(records)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be created: {error.strerror}") from None
    for name, render in OUTPUTS.items():
        write_atomically(out / name, render(leaderboard))
    found = leaderboard.collection
    return LeaderboardSummary(
        records=len(found.records),
        unfinished=found.unfinished,
        failed=found.failed,
        rejected=len(found.rejected),
        boards=leaderboard.boards,
        files=tuple(out / name for name in OUTPUTS),
    )
