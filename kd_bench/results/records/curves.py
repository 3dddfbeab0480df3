"""Learning curves of published records: one compressed table for each study, beside its records.

The table is CSV with a row for each epoch of each run: the run's id, then a column for each value that any of the runs
has, empty where this run has none. Numbers are written so that reading gives the same bits. A published record holds
the hash of its own rows, so that the table may grow with the study.
"""

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from kd_bench.errors import IntegrityError
from kd_bench.results.records.directory import file_name, published_path
from kd_bench.results.records.reading import read_bytes
from kd_bench.results.records.record import Record

LARGEST = 2**29  # bytes of a table that is read; anybody may write one
LEVEL = 9

History = list[dict[str, float]]


def history_sha256(history: History) -> str:
    """Return the hash of learning curves that a published record holds in their place.

    Raises:
        ValueError: a value is not finite.
    """
    return hashlib.sha256(json.dumps(history, sort_keys=True, allow_nan=False).encode()).hexdigest()


def table_name(study: str | None) -> str:
    """Return the file name of a study's table."""
    return f"curves-{file_name(study or '')}.csv.gz"


def table_of(path: Path, record: Record) -> Path:
    """Return the table for the published record at ``path``: in its folder or above, where its path begins."""
    above = (path if len(path.parents) > len(published_path(record).parts) else path.absolute()).parents
    places = [folder / table_name(record.study) for folder in above[: len(published_path(record).parts)]]
    return next((place for place in places if place.exists()), places[-1])


def as_table(histories: Mapping[str, History]) -> bytes:
    """Write learning curves as the content of a table; the same curves give the same bytes.

    Args:
        histories: by run id.
    """
    names = sorted({name for history in histories.values() for row in history for name in row} - {"epoch"})
    columns = ["epoch", *names]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run_id", *columns])
    for run_id in sorted(histories):
        for row in histories[run_id]:
            writer.writerow([run_id, *(repr(row[name]) if name in row else "" for name in columns)])
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=packed, mtime=0) as file:
        file.write(text.getvalue().encode("utf-8"))
    return packed.getvalue()


def read_table(path: Path) -> dict[str, History]:
    """Read the learning curves of a table, by run id.

    Raises:
        IntegrityError: the file cannot be read or is no such table.
    """
    if not path.exists():
        raise IntegrityError(f"{path} is not there; it holds learning curves of published records")
    try:
        with gzip.open(io.BytesIO(read_bytes(path, LARGEST))) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it holds more than {LARGEST} bytes")
        (_, *columns), *rows = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        histories: dict[str, History] = {}
        for run_id, *cells in rows:
            row = {name: float(cell) for name, cell in zip(columns, cells, strict=True) if cell}
            histories.setdefault(run_id, []).append(row)
    except (OSError, EOFError, zlib.error, ValueError, csv.Error) as error:
        raise IntegrityError(f"{path} is damaged: {error}") from None
    return histories


class Curves:
    """Learning curves of published records, read on demand, each table once."""

    def __init__(self) -> None:
        self._tables: dict[Path, dict[str, History] | IntegrityError] = {}

    def attached(self, path: Path, record: Record) -> Record:
        """Return the record at ``path`` with its history; one that lies in no table stays as it is.

        Raises:
            IntegrityError: its table is missing, is damaged, or has other curves; the message begins with its path.
        """
        if record.history_sha256 is None:
            return record
        table = table_of(path, record)
        history = self._read(table).get(record.run_id, [])
        try:
            fits = history_sha256(history) == record.history_sha256
        except ValueError:
            fits = False
        if not fits:
            raise IntegrityError(f"{table} does not have the learning curves that the record of {record.run_id} names")
        return record.model_copy(update={"history": history, "history_sha256": None})

    def _read(self, table: Path) -> dict[str, History]:
        if table not in self._tables:
            try:
                self._tables[table] = read_table(table)
            except IntegrityError as error:
                self._tables[table] = error
        found = self._tables[table]
        if isinstance(found, IntegrityError):
            raise found
        return found
