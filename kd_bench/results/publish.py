"""From finished runs to ``results/``: records are copied, never weights, and the boards are built from the copies."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.checking.load import Rejected
from kd_bench.results.records.compact import are_copies, as_lines, shortened, shortened_evaluation
from kd_bench.results.records.curves import as_table, read_table, table_name
from kd_bench.results.records.directory import published_path, settings_text
from kd_bench.results.records.record import Record, read_record
from kd_bench.results.records.supplement import read_evaluation, supplement_path, with_supplement
from kd_bench.results.selection import select
from kd_bench.results.write import LeaderboardSummary, write_tables

SETTINGS_SHOWN = 3  # in which two records differ


@dataclass(frozen=True)
class Published:
    """The number of records, the content of the boards, and files below the runs that are none."""

    records: int
    summary: LeaderboardSummary
    rejected: tuple[Rejected, ...]


def publish(wanted: Sequence[str], runs: Path, results: Path) -> Published:
    """Copy records, in short, to ``results/records`` and rebuild the boards in ``results``.

    Learning curves go to one table for each study that the records name. What ``kd-bench evaluate`` wrote beside a
    record is copied with it.

    Args:
        wanted: names or paths of studies, folders of sweeps, ids of runs; see ``selection.select``.

    Raises:
        ConfigError: something has no finished run, or a place is taken by another record.
        IntegrityError: the table of a study is damaged, or what lies beside a record belongs to another run or
            contradicts it.
    """
    rejected: list[Rejected] = []
    chosen = select(wanted, runs, rejected)
    folder = results / "records"
    standing = _Standing(folder, wanted)
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


class _Standing:
    """The records that were published before."""

    def __init__(self, folder: Path, studies: Collection[str]) -> None:
        self.folder, self.studies = folder, studies
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
        """Tell whether a run stands there that is not to be replaced: a study that is published may replace its own."""
        old = self.record(name)
        return old is not None and old.run_id != record.run_id and old.study not in self.studies

    def is_of_others(self, name: Path, record: Record) -> bool:
        """Tell whether a run of other settings stands there that is not to be replaced."""
        old = self.record(name)
        return old is not None and self.is_taken(name, record) and settings_text(old) != settings_text(record)

    def is_written(self, name: Path, record: Record) -> bool:
        """Tell whether a record goes there; the copy that another study published stays as it is.

        Raises:
            ConfigError: a different record stands there.
        """
        old = self.record(name)
        if old is None:
            return True
        if self.is_taken(name, record) or (old.run_id == record.run_id and not are_copies([old, record])):
            raise ConfigError(f"{self.folder / name} is {_difference(old, record)}; move one of them away")
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
        apart = any(name in targets or standing.is_of_others(name, chosen[source]) for source, name in plain.items())
        for source in plain:
            record, name = chosen[source], published_path(chosen[source], apart)
            if (first := targets.setdefault(name, source)) != source:
                raise ConfigError(f"{source}: its place {name} goes to {first}, {_difference(chosen[first], record)}")
    return targets


def _difference(there: Record, here: Record) -> str:
    """Say which other record stands at a place: its run, and the settings of both where they differ."""
    old, new = (dict(_settings(record.config)) for record in (there, here))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key, "") != new.get(key, "")]
    pairs = [f"{key}={old.get(key, 'none')} there, {new.get(key, 'none')} here" for key in keys[:SETTINGS_SHOWN]]
    more = f" and {len(keys) - SETTINGS_SHOWN} more" if len(keys) > SETTINGS_SHOWN else ""
    what = f"{'; '.join(pairs)}{more}" if pairs else "of the same settings"
    return f"a different record, of run {there.run_id} (here {here.run_id}): {what}"


def _settings(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield the settings of a run, apart from its seed, by their keys with dots."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{above}{key}.")
        elif (above + key) != "seed":
            yield f"{above}{key}", json.dumps(value)


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
