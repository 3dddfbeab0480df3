"""From finished runs to ``results/``: records are copied, never weights, and the boards are built from the copies."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from kd_bench.config.files import write_atomically
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.compact import as_lines, shortened, shortened_evaluation
from kd_bench.results.records.curves import as_table, read_table, table_name
from kd_bench.results.records.directory import published_path
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.supplement import read_evaluation, supplement_path, with_supplement
from kd_bench.results.write import LeaderboardSummary, write_tables


def publish(study: str, runs: Path, results: Path) -> tuple[int, LeaderboardSummary]:
    """Copy the records of a study, in short, to ``results/records`` and rebuild the boards in ``results``.

    Learning curves go to one table for the study. What ``kd-bench evaluate`` wrote beside a record is copied with it.

    Returns:
        How many records were copied, and what the boards hold.

    Raises:
        ConfigError: no finished run of that study, or two runs that would be one file.
        IntegrityError: a record or the table of the study is damaged, or what lies beside a record belongs to another
            run or contradicts it.
    """
    found = {path: read_record(path) for path in sorted(runs.rglob(RECORD_FILE))}
    chosen = {path: record for path, record in found.items() if record.study == study}
    if not chosen:
        raise ConfigError(f"study {study!r}: no finished run of it below {runs}")
    folder, targets = results / "records", _targets(chosen)
    supplements = {path: _supplement(path, record) for path, record in chosen.items()}
    table = _table(folder / table_name(study), chosen.values(), [folder / target for target in targets])
    folder.mkdir(parents=True, exist_ok=True)
    if table is not None:  # before the records that name it
        write_atomically(folder / table_name(study), table)
    for name, source in targets.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, as_lines(shortened(chosen[source])))
        if (supplement := supplements[source]) is not None:
            write_atomically(supplement_path(target), supplement)
        else:
            supplement_path(target).unlink(missing_ok=True)  # of a run that was published before
    return len(targets), write_tables(folder, results)


def _targets(chosen: dict[Path, Record]) -> dict[Path, Path]:
    targets: dict[Path, Path] = {}
    for source, record in chosen.items():
        target = published_path(record)
        if target in targets:
            raise ConfigError(
                f"{source} and {targets[target]} would both be {target}; tell variants apart by names.method"
            )
        targets[target] = source
    return targets


def _supplement(path: Path, record: Record) -> str | None:
    """Return the text of a supplement in short, None if there is none."""
    if with_supplement(path, record) is record:
        return None
    return as_lines(shortened_evaluation(read_evaluation(supplement_path(path)), record))


def _table(path: Path, records: Iterable[Record], replaced: Iterable[Path]) -> bytes | None:
    """Return the study's table with the curves of these records and of those published before; None without any.

    Args:
        replaced: records that are written over; their curves go.
    """
    try:
        histories = read_table(path) if path.exists() else {}
    except IntegrityError as error:
        raise IntegrityError(f"{error}; delete it and publish all runs of the study again") from None
    for old in replaced:
        with suppress(IntegrityError):  # there is none, or it names no curves
            histories.pop(read_record(old).run_id, None)
    histories |= {record.run_id: record.history for record in records if record.history}
    return as_table(histories) if histories else None
