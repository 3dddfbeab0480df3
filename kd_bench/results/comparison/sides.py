"""The two sides of a comparison: the runs that a name stands for, seed by seed, and whether they may be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kd_bench.errors import ConfigError, IntegrityError, NotEnoughEvidence, nearest
from kd_bench.results.checking.load import Collection, load, own_problems
from kd_bench.results.leaderboard.board import Board, build_boards
from kd_bench.results.leaderboard.entries import (
    SETTING_PARTS,
    Entry,
    Options,
    build_entries,
    configuration,
    differences,
    entry_configuration,
    frozen,
    options_text,
)
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.statistics.simultaneous import Family

SETTINGS = (*(part for part in SETTING_PARTS if part != "recipe"), "dataset.train_samples")

Kind = Literal["run", "method", "study"]
Key = tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """A name and the records of students that it stands for."""

    name: str
    kind: Kind
    records: tuple[Record, ...]


@dataclass(frozen=True)
class Setting:
    """A key of the configuration in which two entries differ, with both values as JSON texts."""

    key: str
    first: str
    second: str


@dataclass(frozen=True)
class Couple:
    """Two entries that may be compared, on ``seeds`` that both have.

    ``differing``: the settings that are not alike, those of the method only where both have the same one. ``family``
    holds the comparisons of the board on which both are ranked; None where there is none.
    """

    title: str
    names: tuple[str, str]
    entries: tuple[Entry, Entry]
    seeds: tuple[int, ...]
    differing: tuple[Setting, ...]
    family: Family | None = None

    def runs(self) -> Iterator[tuple[Record, Record]]:
        """Yield the two runs of each shared seed."""
        first, second = ({run.seed: run for run in entry.runs} for entry in self.entries)
        return ((first[seed], second[seed]) for seed in self.seeds)


def find_side(name: str, collection: Collection) -> Side:
    """Find the runs that ``name`` stands for: a path, a run id, a study, a method or a row of a board, in this order.

    Args:
        collection: where ids, studies and methods are looked for.

    Raises:
        ConfigError: nothing has that name.
        NotEnoughEvidence: a folder holds no finished run.
        IntegrityError: a path holds no valid record.
    """
    if (path := Path(name)).exists():
        file = path if path.is_file() else path / RECORD_FILE
        if file.is_file():
            return Side(name, "run", (_read(file),))
        if not (found := _students(load(path).records)):
            raise NotEnoughEvidence(f"{name}: no finished run of a student below it")
        return Side(name, "study", found)
    if found := tuple(record for record in collection.records if record.run_id == name):
        return Side(name, "run", found)
    students = _students(collection.records)
    if found := tuple(record for record in students if record.study == name):
        return Side(name, "study", found)
    if found := tuple(record for record in students if record.method.name == name):
        return Side(name, "method", found)
    rows = (row.entry for board in build_boards(students, ()) for row in board.rows)
    if found := tuple({run.run_id: run for entry in rows if entry.label == name for run in entry.runs}.values()):
        return Side(name, "method", found)
    raise ConfigError(f"{name!r}: no path, run, study or method among the records{_hint(name, students, collection)}")


def _read(file: Path) -> Record:
    record = read_record(file)
    if problems := own_problems(record):
        raise IntegrityError(f"{file} is damaged: {'; '.join(problems)}")
    return record


def _hint(name: str, students: Iterable[Record], collection: Collection) -> str:
    known = {each for record in students for each in (record.study, record.method.name) if each}
    rejected = len(collection.rejected)
    bad = f"; {rejected} files were rejected: kd-bench check says why" if rejected else ""
    return (nearest(name, known) or f"; there are: {', '.join(sorted(known)) or 'no finished runs'}") + bad


def _students(records: Iterable[Record]) -> tuple[Record, ...]:
    return tuple(record for record in records if record.role == "student")


def couples(first: Side, second: Side, pair: str | None, records: Iterable[Record] = ()) -> list[Couple]:
    """Couple what is to be compared: one couple for two runs or two methods on a board, one a cell for two studies.

    Args:
        pair: TEACHER--STUDENT, to which methods and studies are limited.
        records: whatever makes up the boards of two methods; without it they have a board of their own.

    Raises:
        ConfigError: the sides are unlike things, or have different data or teachers.
        NotEnoughEvidence: the sides have no pair, cell or seed in common.
    """
    if first.kind != second.kind:
        raise ConfigError(f"{first.name} is a {first.kind}, {second.name} a {second.kind}: compare like with like")
    if first.kind == "method":
        students = _students({run.run_id: run for run in (*records, *first.records, *second.records)}.values())
        if found := _on_boards((first, second), pair, students):
            return _with_seeds(found)
    cells = _cells(first, pair), _cells(second, pair)
    shared = [key for key in cells[0] if key in cells[1]]
    if not shared:
        texts = [f"{side.name} has {_listed(keys)}" for side, keys in zip((first, second), cells, strict=True)]
        raise NotEnoughEvidence(f"nothing in common; {'; '.join(texts)}")
    return _with_seeds([_couple((first, second), (cells[0][key], cells[1][key])) for key in shared])


def _with_seeds(found: list[Couple]) -> list[Couple]:
    if not any(couple.seeds for couple in found):
        raise NotEnoughEvidence(f"no seed in common: {'; '.join(_seeds(couple) for couple in found)}")
    return [couple for couple in found if couple.seeds]


def _on_boards(sides: tuple[Side, Side], pair: str | None, students: Iterable[Record]) -> list[Couple]:
    """Couple the rows of two methods on the one board that has both; empty without one."""
    found = []
    for board in build_boards(students, ()):
        if pair is None or _plain(pair) in (_plain(board.pair), f"none--{_plain(board.student)}"):
            entries = [_entries_on(board, side.name) for side in sides]
            if all(entries):
                found.append((board, entries))
    if len(found) > 1:
        places = [(board.dataset.name, board.pair, board.recipe + options_text(board.options)) for board, _ in found]
        raise ConfigError(f"both methods ran in {len(found)} places, name one by --pair, or runs: {_listed(places)}")
    return [
        _on_board(sides, board, (_only(one, sides[0], board), _only(two, sides[1], board)))
        for board, (one, two) in found
    ]


def _on_board(sides: tuple[Side, Side], board: Board, entries: tuple[Entry, Entry]) -> Couple:
    couple = _couple(sides, entries)
    keys = {entry.key for entry in entries}
    compared = len(keys) == 2 and keys <= set(board.family.names) and entries[0].selection == entries[1].selection
    title = f"{board.dataset.name} {board.pair}" if entries[0].label != entries[1].label else couple.title
    return replace(couple, title=title, family=board.family if compared else None)


def _entries_on(board: Board, name: str) -> list[Entry]:
    entries = [row.entry for row in board.rows]
    return [entry for entry in entries if entry.label == name] or [entry for entry in entries if entry.name == name]


def _only(entries: list[Entry], side: Side, board: Board) -> Entry:
    if len(entries) > 1:
        labels = ", ".join(sorted(entry.label for entry in entries))
        where = f"{board.dataset.name} {board.pair}"
        raise ConfigError(f"{side.name} has {len(entries)} configurations on {where}: {labels}; name one of them")
    return entries[0]


def _cells(side: Side, pair: str | None) -> dict[Key, Entry]:
    """Group a side's entries by what must be alike: all but the method for methods, all but the setting for studies.

    The setting is the recipe and everything else that makes another board. Two runs may differ in anything that
    ``_check_comparable`` lets pass.
    """
    if side.kind == "run":
        record = side.records[0]
        return {(): Entry(record.method.name, record.method.generation, (), (record,), 0)}
    settings: dict[tuple[str, str], dict[Options, list[Record]]] = {}
    for record in side.records:
        if pair is None or _plain(_pair(record)) == _plain(pair):
            place = settings.setdefault((record.dataset.name, _pair(record)), {})
            place.setdefault(frozen(configuration(record, ("recipe", *SETTINGS))), []).append(record)
    if not settings:
        raise NotEnoughEvidence(f"{side.name} has no finished run on the pair {pair}")
    make = _cells_of_method if side.kind == "method" else _cells_of_study
    return {key: entry for place, groups in settings.items() for key, entry in make(side, place, groups)}


def _cells_of_method(
    side: Side, place: tuple[str, str], groups: dict[Options, list[Record]]
) -> Iterator[tuple[Key, Entry]]:
    for setting, records in groups.items():
        entries = build_entries(records)
        if len(entries) > 1:
            labels = ", ".join(entry.label for entry in entries)
            raise ConfigError(
                f"{side.name} has {len(entries)} configurations on {' '.join(place)}: {labels}; name two runs instead"
            )
        yield (*place, records[0].recipe, str(setting)), entries[0]


def _cells_of_study(
    side: Side, place: tuple[str, str], groups: dict[Options, list[Record]]
) -> Iterator[tuple[Key, Entry]]:
    for shown, records in zip(differences([dict(setting) for setting in groups]), groups.values(), strict=True):
        for entry in build_entries(records):
            yield (*place, entry.label + options_text(shown)), entry


def _pair(record: Record) -> str:
    return f"{record.teacher.name if record.teacher else 'none'}--{record.student.name}"


def _plain(pair: str) -> str:
    return pair.replace("_cifar", "")


def _couple(sides: tuple[Side, Side], entries: tuple[Entry, Entry]) -> Couple:
    _check_comparable(entries)
    first, second = entries
    seeds = tuple(sorted(first.scores.keys() & second.scores.keys()))
    names = (first.label, second.label) if first.label != second.label else (sides[0].name, sides[1].name)
    record = first.runs[0]
    title = f"{record.dataset.name} {_pair(record)}"
    title = title if first.label != second.label else f"{title} {first.label}"
    return Couple(title, names, entries, seeds, tuple(_differing(entries)))


def _differing(entries: tuple[Entry, Entry]) -> Iterator[Setting]:
    same_method = entries[0].name == entries[1].name
    settings = [configuration(entry.runs[0], ("recipe", *SETTINGS)) for entry in entries]
    methods = [entry_configuration(entry.runs[0]) for entry in entries] if same_method else []
    for found in filter(None, (settings, methods)):
        first, second = differences(found)
        for (key, before), (_, after) in zip(first, second, strict=True):
            yield Setting(key, before, after)


def _check_comparable(entries: tuple[Entry, Entry]) -> None:
    """Raise ConfigError unless all runs share data and teacher."""
    runs = [run for entry in entries for run in entry.runs]
    data = {run.dataset.content_sha256: run.dataset.name for run in runs}
    if len(data) > 1:
        raise ConfigError(f"runs on different data cannot be compared: {_hashes(data)}")
    teachers = {run.teacher.weights_sha256: run.teacher.name for run in runs if run.teacher}
    if len(teachers) > 1:
        raise ConfigError(f"runs with different teachers cannot be compared: {_hashes(teachers)}")


def _hashes(found: dict[str, str]) -> str:
    return ", ".join(f"{name} ({sha256[:10]})" for sha256, name in found.items())


def _seeds(couple: Couple) -> str:
    texts = [
        f"{name} has {', '.join(map(str, entry.scores))}"
        for name, entry in zip(couple.names, couple.entries, strict=True)
    ]
    return f"{couple.title}: {', '.join(texts)}"


def _listed(keys: Iterable[Key], limit: int = 5) -> str:
    names = [" ".join(key[:3]) for key in keys]
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
