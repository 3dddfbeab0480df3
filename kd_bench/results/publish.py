"""From finished runs to ``results/``: records are copied, never weights, and the boards are built from the copies."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.load import Rejected
from kd_bench.results.records.compact import are_copies, as_lines, shortened, shortened_evaluation
from kd_bench.results.records.curves import as_table, read_table, table_name
from kd_bench.results.records.directory import published_path, settings_text
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.supplement import read_evaluation, supplement_path, with_supplement
from kd_bench.results.write import LeaderboardSummary, write_tables


@dataclass(frozen=True)
class Published:
    """The number of records of a study, the content of the boards, and files below the runs that are none."""

    records: int
    summary: LeaderboardSummary
    rejected: tuple[Rejected, ...]


def publish(study: str, runs: Path, results: Path) -> Published:
    """Copy the records of a study, in short, to ``results/records`` and rebuild the boards in ``results``.

    Records of a study are those that carry its name and those that its status file lists, which may carry the name of
    the study that ran them first. Learning curves go to one table for each name. What ``kd-bench evaluate`` wrote
    beside a record is copied with it.

    Raises:
        ConfigError: no finished run of that study, or a place is taken by another record.
        IntegrityError: the table of the study is damaged, or what lies beside a record belongs to another run or
            contradicts it.
    """
    rejected: list[Rejected] = []
    chosen = _chosen(study, runs, rejected)
    if not chosen:
        bad = f"; {len(rejected)} files were rejected, the first: {rejected[0].path}" if rejected else ""
        raise ConfigError(f"study {study!r}: no finished run of it below {runs}{bad}")
    folder = results / "records"
    standing = _Standing(folder, study)
    targets = _targets(chosen, standing)
    written = {name: source for name, source in targets.items() if standing.is_written(name, chosen[source])}
    supplements = {source: _supplement(source, chosen[source]) for source in written.values()}
    replaced = [old.run_id for old in map(standing.record, written) if old is not None]
    tables = _tables(folder, [chosen[source] for source in written.values()], replaced)
    folder.mkdir(parents=True, exist_ok=True)
    for table, content in tables.items():  # before the records that name them
        write_atomically(table, content)
    for name, source in written.items():
        _write(folder / name, chosen[source], supplements[source])
    return Published(len(targets), write_tables(folder, results), tuple(rejected))


def _chosen(study: str, runs: Path, rejected: list[Rejected]) -> dict[Path, Record]:
    """Read the records of a study, each run once."""
    listed = _listed(study, runs, rejected)
    found: dict[str, tuple[Path, Record]] = {}
    for path in sorted(runs.rglob(RECORD_FILE)):
        try:
            record = read_record(path)
        except IntegrityError as error:
            rejected.append(Rejected(str(path), str(error).removeprefix(f"{path} ")))
            continue
        if record.study != study and record.run_id not in listed:
            continue
        first = found.setdefault(record.run_id, (path, record))
        if not are_copies([first[1], record]):
            raise ConfigError(f"{first[0]} and {path} are different records of run {record.run_id}; keep one of them")
        if record.study == study != first[1].study:
            found[record.run_id] = path, record
    return dict(found.values())


def _listed(study: str, runs: Path, rejected: list[Rejected]) -> set[str]:
    """Read which runs a study has from the file that ``kd-bench study`` keeps, if there is any."""
    listed: set[str] = set()
    for path in sorted(runs.rglob("studies/*.json")):
        if path.stem != Path(study).name:
            continue
        try:
            content = json.loads(read_text(path))
            if content["study"] == study:
                listed |= {task["run_id"] for task in content["tasks"] if isinstance(task["run_id"], str)}
        except IntegrityError as error:
            rejected.append(Rejected(str(path), str(error).removeprefix(f"{path} ")))
        except (ValueError, RecursionError, KeyError, TypeError):
            rejected.append(Rejected(str(path), "is not the status of a study"))
    return listed


class _Standing:
    """The records that were published before."""

    def __init__(self, folder: Path, study: str) -> None:
        self.folder, self.study = folder, study
        self._read: dict[Path, Record | None] = {}

    def record(self, name: Path) -> Record | None:
        """Return the record at a place; None if there is none that can be read."""
        if name not in self._read:
            try:
                self._read[name] = read_record(self.folder / name)
            except IntegrityError:
                self._read[name] = None
        return self._read[name]

    def is_taken(self, name: Path, record: Record) -> bool:
        """Tell whether another study has another run there. A study may replace its own."""
        old = self.record(name)
        return old is not None and old.run_id != record.run_id and old.study != self.study

    def is_written(self, name: Path, record: Record) -> bool:
        """Tell whether a record goes there; the copy that another study published stays as it is.

        Raises:
            ConfigError: a different record stands there.
        """
        old = self.record(name)
        if old is None:
            return True
        if self.is_taken(name, record) or (old.run_id == record.run_id and not are_copies([old, record])):
            raise ConfigError(f"{self.folder / name} is a different record, of run {old.run_id}; move one of them away")
        return old.run_id != record.run_id or old.study == record.study


def _targets(chosen: Mapping[Path, Record], standing: _Standing) -> dict[Path, Path]:
    """Choose a place for each record; where other settings stand in its cell, the path tells them apart."""
    groups: dict[str, list[Path]] = {}
    for source, record in chosen.items():
        groups.setdefault(settings_text(record), []).append(source)

    def order(settings: str) -> tuple[bool, str]:
        places = [(chosen[source], standing.record(published_path(chosen[source]))) for source in groups[settings]]
        return not any(old and old.run_id == record.run_id for record, old in places), settings

    targets: dict[Path, Path] = {}
    for settings in sorted(groups, key=order):
        plain = {source: published_path(chosen[source]) for source in groups[settings]}
        apart = any(name in targets or standing.is_taken(name, chosen[source]) for source, name in plain.items())
        targets |= {published_path(chosen[source], apart): source for source in plain}
    return targets


def _write(target: Path, record: Record, supplement: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, as_lines(shortened(record)))
    if supplement is not None:
        write_atomically(supplement_path(target), supplement)
    else:
        supplement_path(target).unlink(missing_ok=True)  # of a run that was published before


def _supplement(path: Path, record: Record) -> str | None:
    """Return the text of a supplement in short, None if there is none."""
    if with_supplement(path, record) is record:
        return None
    return as_lines(shortened_evaluation(read_evaluation(supplement_path(path)), record))


def _tables(folder: Path, records: Iterable[Record], replaced: Iterable[str]) -> dict[Path, bytes]:
    """Return the tables of curves that change: those of these records and those published before.

    Args:
        replaced: ids of the runs that are written over; their curves go.
    """
    added: dict[Path, dict[str, list[dict[str, float]]]] = {}
    for record in records:
        histories = added.setdefault(folder / table_name(record.study), {})
        if record.history:
            histories[record.run_id] = record.history
    tables = {}
    for path, new in added.items():
        try:
            histories = read_table(path) if path.exists() else {}
        except IntegrityError as error:
            raise IntegrityError(f"{error}; delete it and publish all runs of the study again") from None
        kept = {run_id: history for run_id, history in histories.items() if run_id not in set(replaced)}
        if kept | new:
            tables[path] = as_table(kept | new)
    return tables
