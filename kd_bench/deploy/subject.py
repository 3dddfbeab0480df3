"""The subject of a gate or a card: the runs that a name stands for, and the records around them."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kd_bench.config.composition import quoted
from kd_bench.errors import ConfigError, IntegrityError, nearest
from kd_bench.results.checking.load import Collection, load, own_problems
from kd_bench.results.leaderboard.board import Board, build_boards
from kd_bench.results.leaderboard.pages.command import reproduce_command
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.supplement import with_supplement
from kd_bench.results.statistics.intervals import Estimate


@dataclass(frozen=True)
class Quantity:
    """A number with its interval, or the reason why there is none.

    Attributes:
        part: the class or group that it belongs to; empty for the whole test split.
        reason: why there is no estimate.
        command: what would bring the evidence; empty where no command does.
        fixed: the configuration alone decides it: every run gives the same number.
        unit: what the interval covers: seeds, the processes that timed a network, or test images (and seeds).
    """

    estimate: Estimate | None = None
    part: str = ""
    reason: str = ""
    command: str = ""
    fixed: bool = False
    unit: Literal["seeds", "processes", "images"] = "seeds"


@dataclass(frozen=True)
class Subject:
    """One run, or the runs of a method on a pair, one a seed.

    Attributes:
        board: the board that has them; None for teachers.
        records: everything that was found, by run id.
        folder: where the runs are, for commands.
    """

    title: str
    runs: tuple[Record, ...]
    board: Board | None
    records: Mapping[str, Record]
    folder: Path

    def evaluation(self, options: str) -> str:
        """Return the command that evaluates the first of the runs again."""
        return f"kd-bench evaluate {self.runs[0].run_id} --runs {shlex.quote(str(self.folder))} {options}"

    def more_seeds(self, needed: int) -> str:
        """Return the command that would bring as many seeds as are needed."""
        taken = {run.seed for run in self.runs}
        missing = [seed for seed in range(needed + max(taken) + 1) if seed not in taken][: max(0, needed - len(taken))]
        seeds = ",".join(map(str, missing)) or str(max(taken) + 1)
        run = self.runs[0]
        line = command_of(run)
        if line is None:
            return (
                f"kd-bench train -m method={run.method.name} seed={seeds} (with the configuration of run {run.run_id})"
            )
        words = [word for word in shlex.split(line)[2:] if not word.startswith("seed=")]
        folder = [] if self.folder == Path("runs") else [f"paths.runs={quoted(str(self.folder))}"]
        return shlex.join(["kd-bench", "train", "-m", *words, *folder, f"seed={seeds}"])


def command_of(record: Record) -> str | None:
    """Return the command that makes a run again; None where its record gives none that composes."""
    try:
        return reproduce_command(record)
    except ConfigError:
        return None


def find_run(name: str, folder: Path) -> Path:
    """Return the file of a run's record: the path of a file, of a run's directory, or an id below ``folder``.

    Raises:
        ConfigError: there is no such finished run.
    """
    places = [Path(name), Path(name) / RECORD_FILE, folder / name / RECORD_FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ConfigError(f"run {name!r}: no finished run there, nor in {folder}")
    return found


def read_run(path: Path) -> Record:
    """Read a record with what was measured later.

    Raises:
        IntegrityError: it is damaged.
    """
    record = read_record(path)
    if problems := own_problems(record):
        raise IntegrityError(f"{path} is damaged: {'; '.join(problems)}")
    return with_supplement(path, record)


def find_subject(name: str, folder: Path, pair: str | None = None) -> Subject:
    """Find a run by its path or id, or a method by its name or the label of its row.

    Args:
        folder: where ids, methods, teachers and baselines are looked for.
        pair: TEACHER--STUDENT, where a method ran on several.

    Raises:
        ConfigError: nothing has that name, or several things have.
        IntegrityError: the record of the run is damaged.
    """
    try:
        path: Path | None = find_run(name, folder)
    except ConfigError:
        path = None
    if path is not None:
        return subject_of_run(path, folder)
    collection = load(folder)
    boards = build_boards((record for record in collection.records if record.role == "student"), ())
    record = next((record for record in collection.records if record.run_id == name), None)
    if record is not None:
        return _of_record(record, collection, boards, folder)
    return _of_method(name, pair, collection, boards, folder)


def subject_of_run(path: Path, folder: Path | None = None) -> Subject:
    """Return the subject of one run and the records beside it.

    Args:
        folder: where its teacher and baselines are; by default that of the run's directory.
    """
    record = read_run(path)
    around = folder if folder is not None and folder.is_dir() else path.parent.parent
    if path.name == RECORD_FILE and not path.resolve().is_relative_to(around.resolve()):
        around = path.parent.parent
    collection = load(around)
    boards = build_boards((each for each in collection.records if each.role == "student"), ())
    return _of_record(record, collection, boards, around)


def _of_record(record: Record, collection: Collection, boards: tuple[Board, ...], folder: Path) -> Subject:
    board = next((each for each in boards if record in (run for row in each.rows for run in row.entry.runs)), None)
    title = f"run {record.run_id} ({record.method.name}, {record.dataset.name}, seed {record.seed})"
    return Subject(title, (record,), board, _by_id(collection), folder)


def _of_method(name: str, pair: str | None, collection: Collection, boards: tuple[Board, ...], folder: Path) -> Subject:
    on_pair = [board for board in boards if pair is None or _plain(board.pair) == _plain(pair)]
    by_label = [(board, row) for board in on_pair for row in board.rows if row.entry.label == name]
    found = by_label or [(board, row) for board in on_pair for row in board.rows if row.entry.name == name]
    if not found:
        known = {row.entry.name for board in boards for row in board.rows}
        hint = nearest(name, known) or f"; there are: {', '.join(sorted(known)) or 'no finished runs'}"
        bad = len(collection.rejected)
        rejected = f"; {bad} files were rejected: kd-bench check says why" if bad else ""
        raise ConfigError(f"{name!r}: no run or method among the records of {folder}{hint}{rejected}")
    if len(found) > 1:
        places = "; ".join(f"{board.title}: {row.entry.label}" for board, row in found)
        raise ConfigError(f"{name!r} stands for {len(found)} rows, name one by its label and --pair: {places}")
    board, row = found[0]
    return subject_of_row(board, row.entry.label, row.entry.runs, collection, folder)


def subject_of_row(board: Board, label: str, runs: tuple[Record, ...], collection: Collection, folder: Path) -> Subject:
    """Return the subject of a row of a board."""
    return Subject(f"{label} on {board.title}", runs, board, _by_id(collection), folder)


def _by_id(collection: Collection) -> dict[str, Record]:
    return {record.run_id: record for record in collection.records}


def _plain(pair: str) -> str:
    return pair.replace("_cifar", "")
