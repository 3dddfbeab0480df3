"""Find and read what runs left in a folder: records, the states of runs without one, and files that cannot be used."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.consistency import dataset_problems, number_problems
from kd_bench.results.checking.full_evaluation import full_problems
from kd_bench.results.checking.measurements import count_problems
from kd_bench.results.checking.together import contradictions
from kd_bench.results.records.compact import Shared, are_copies
from kd_bench.results.records.curves import Curves, table_of
from kd_bench.results.records.record import PUBLISHED_FILES, RECORD_FILE, Record, read_record
from kd_bench.results.records.states import STATE_FILE, RunState, read_state
from kd_bench.results.records.supplement import (
    EVALUATION_FILE,
    Evaluation,
    read_evaluation,
    supplement_path,
    supplemented,
)

FAILED_STATES = frozenset({"failed", "diverged", "oom"})


@dataclass(frozen=True)
class Rejected:
    """A file that is no evidence, by its path below the searched folder, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Collection:
    """The content of a folder, in an order that depends on nothing else.

    ``states`` are those of runs without a record anywhere in the folder.
    """

    records: tuple[Record, ...]
    states: tuple[RunState, ...]
    rejected: tuple[Rejected, ...]

    @property
    def failed(self) -> int:
        """Count the runs that ended without a record."""
        return sum(state.state in FAILED_STATES for state in self.states)

    @property
    def unfinished(self) -> int:
        """Count the runs that may still be finished."""
        return len(self.states) - self.failed


def load(directory: Path, most_with_curves: int | None = None) -> Collection:
    """Read every record and run state below ``directory``.

    Records are ``record.json`` of a run directory and ``seed*.json`` of published results. Names that start with a dot
    are files being written, or caches, and are not looked at. Copies of a record count once; different records with one
    run id are all rejected, because nothing says which of them is true. What a supplement beside a record has measured
    later is added to it, unless it contradicts the record.

    Args:
        most_with_curves: up to this many records have their learning curves, those of published ones included; of more
            only what boards show is kept. Without it records are as in their files.

    Raises:
        ConfigError: there is no such directory.
    """
    if not directory.is_dir():
        raise ConfigError(f"records: {directory} is not a directory; run an experiment first, or name another folder")
    rejected: list[Rejected] = []
    folders = list(_walk(directory, rejected))
    if most_with_curves is None:
        return _collected(directory, folders, rejected, whole=True, curves=False)
    if sum(_is_record(name) for _, names in folders for name in names) > most_with_curves:
        found = _collected(directory, folders, rejected, whole=False, curves=False)
        if not 0 < len(found.records) <= most_with_curves:
            return found  # else there are copies, or many were rejected
    return _collected(directory, folders, rejected, whole=True, curves=True)


def _collected(
    directory: Path, folders: list[tuple[Path, list[str]]], unreadable: list[Rejected], whole: bool, curves: bool
) -> Collection:
    rejected, shared = list(unreadable), Shared()
    records: dict[str, Record] = {}
    states: dict[str, RunState] = {}
    for folder, names in folders:
        for name in filter(_is_record, names):
            record = _read_record_file(folder / name, directory, rejected)
            if record is not None:
                records[_relative(folder / name, directory)] = record if whole else shared.for_boards(record)
        if STATE_FILE in names and RECORD_FILE not in names:
            _read_state_file(folder, directory, states, rejected)
        for name in sorted(_without_record(names)):
            rejected.append(Rejected(_relative(folder / name, directory), "there is no record beside it"))

    def complete(path: str) -> Record:
        return records[path] if whole else read_record(directory / path)

    supplements = _read_supplements(records, directory, rejected)
    paths = _without_contradictions(records, _without_conflicts(records, complete, rejected), rejected)
    if curves:
        _attach_curves(records, paths, directory, rejected)
    for path in paths:
        if added := supplements.get(records[path].run_id):
            record = _supplemented(complete(path), added, rejected)
            records[path] = record if whole else shared.for_boards(record)
    valid = [records[path] for path in paths]
    finished = {record.run_id for record in valid}
    unfinished = [(state, path) for path, state in states.items() if state.run_id not in finished]
    unfinished.sort(key=lambda item: (item[0].dataset, item[0].student, item[0].method, item[0].seed, item[1]))
    return Collection(
        tuple(sorted(valid, key=lambda record: record.run_id)),
        tuple(state for state, _ in unfinished),
        tuple(sorted(rejected, key=lambda item: (item.path, item.reason))),
    )


def _walk(directory: Path, rejected: list[Rejected]) -> Iterator[tuple[Path, list[str]]]:
    def unreadable(error: OSError) -> None:
        path = Path(error.filename or directory)
        rejected.append(Rejected(_relative(path, directory), f"cannot be read: {error.strerror}"))

    for folder, subfolders, names in os.walk(directory, onerror=unreadable):
        for name in filter(_is_known, subfolders):
            rejected.append(Rejected(_relative(Path(folder, name), directory), "cannot be read: it is no regular file"))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        yield Path(folder), sorted(name for name in names if not name.startswith("."))


def _is_known(name: str) -> bool:
    known = name in (RECORD_FILE, STATE_FILE, EVALUATION_FILE)
    return known or fnmatchcase(name, PUBLISHED_FILES) or fnmatchcase(name, f"seed*.{EVALUATION_FILE}")


def _relative(path: Path, directory: Path) -> str:
    return path.relative_to(directory).as_posix() if path.is_relative_to(directory) else path.as_posix()


def _reason(error: IntegrityError, path: Path) -> str:
    return str(error).removeprefix(f"{path} ")


def _is_record(name: str) -> bool:
    return name == RECORD_FILE or fnmatchcase(name, PUBLISHED_FILES)


def _read_record_file(path: Path, directory: Path, rejected: list[Rejected]) -> Record | None:
    """Read a record that boards may rank; others are rejected."""
    try:
        record = read_record(path)
    except IntegrityError as error:
        rejected.append(Rejected(_relative(path, directory), _reason(error, path)))
        return None
    if problems := own_problems(record):
        rejected.append(Rejected(_relative(path, directory), "; ".join(problems)))
        return None
    return record


def own_problems(record: Record) -> list[str]:
    """List what is impossible in a record by itself, so that no board may rank it. ``kd-bench check`` does more."""
    parts = [name for name in ("method", "recipe") if not isinstance(record.config.get(name), dict)]
    of_config = [f"config.{name}: should be an object" for name in parts]
    return [
        *of_config,
        *number_problems(record),
        *dataset_problems(record),
        *count_problems(record),
        *full_problems(record),
    ]


def _without_record(names: Iterable[str]) -> set[str]:
    """Find the supplements among the files of a folder whose record is not there."""
    found = {name for name in names if name.endswith(EVALUATION_FILE)}
    return found - {supplement_path(Path(name)).name for name in names} if found else found


def _read_supplements(
    records: dict[str, Record], directory: Path, rejected: list[Rejected]
) -> dict[str, list[tuple[str, Evaluation]]]:
    """Read the supplements of each run, by its id, each with its path; the latest first."""
    found: dict[str, list[tuple[str, Evaluation]]] = {}
    for relative, record in records.items():
        path = supplement_path(directory / relative)
        if not os.path.lexists(path):
            continue
        try:
            found.setdefault(record.run_id, []).append((_relative(path, directory), read_evaluation(path)))
        except IntegrityError as error:
            rejected.append(Rejected(_relative(path, directory), _reason(error, path)))
    for each in found.values():
        each.sort(key=lambda item: (-item[1].evaluated_at.timestamp(), item[0]))
    return found


def _supplemented(record: Record, added: list[tuple[str, Evaluation]], rejected: list[Rejected]) -> Record:
    for path, evaluation in added:
        try:
            record = supplemented(record, evaluation)
        except IntegrityError as error:
            rejected.append(Rejected(path, str(error)))
    return record


def _read_state_file(folder: Path, directory: Path, states: dict[str, RunState], rejected: list[Rejected]) -> None:
    relative = _relative(folder / STATE_FILE, directory)
    try:
        state = read_state(folder)
    except IntegrityError as error:
        rejected.append(Rejected(relative, _reason(error, folder / STATE_FILE)))
        return
    if state.state == "completed":
        state = state.model_copy(update={"cause": state.cause or "completed, but its record is missing"})
    states[relative] = state


def _attach_curves(records: dict[str, Record], paths: Iterable[str], directory: Path, rejected: list[Rejected]) -> None:
    """Give published records their learning curves. Tables that cannot be used are rejected, their records are not."""
    curves, problems = Curves(), set()
    for path in paths:
        try:
            records[path] = curves.attached(directory / path, records[path])
        except IntegrityError as error:
            table = table_of(directory / path, records[path])
            problems.add(Rejected(_relative(table, directory), _reason(error, table)))
    rejected.extend(problems)


def _without_conflicts(
    records: dict[str, Record], complete: Callable[[str], Record], rejected: list[Rejected]
) -> list[str]:
    """Choose a path for each run id: one copy of its record, complete if there is such a one.

    Args:
        complete: returns the record at a path with all of its parts.
    """
    copies: dict[str, list[str]] = {}
    for path, record in records.items():
        copies.setdefault(record.run_id, []).append(path)
    valid = []
    for run_id, paths in copies.items():
        if len(paths) == 1 or are_copies(list(map(complete, paths))):
            valid.append(min(paths, key=lambda path: _completeness(records[path])))
            continue
        for path in paths:
            others = ", ".join(other for other in paths if other != path)
            rejected.append(Rejected(path, f"run id {run_id} is also that of another record: {others}"))
    return valid


def _completeness(record: Record) -> tuple[bool, bool]:
    """Return the key that sorts copies: first a row of a board, which a teacher may be as well, then a whole record."""
    return record.role != "student", record.hardware.host is None


def _without_contradictions(records: dict[str, Record], paths: list[str], rejected: list[Rejected]) -> list[str]:
    """Leave out records that contradict others of the same data set or teacher."""
    found = contradictions((path, records[path]) for path in paths)
    rejected.extend(Rejected(path, "; ".join(problems)) for path, problems in found.items())
    return [path for path in paths if path not in found]
