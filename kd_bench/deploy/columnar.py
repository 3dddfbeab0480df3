"""Tables as Parquet and CSV, by pyarrow, which reads and writes both and brings no other package along."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as arrow
import pyarrow.csv
import pyarrow.parquet

from kd_bench.errors import IntegrityError

Array = npt.NDArray[np.float64]
Table = Any  # pyarrow has no types


def write_parquet(path: Path, columns: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Write columns of equal length, and metadata of the table.

    Raises:
        IntegrityError: the file cannot be written.
    """
    table = arrow.table(dict(columns)).replace_schema_metadata(dict(metadata))
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        pyarrow.parquet.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def read_table(path: Path) -> Table:
    """Read a CSV or Parquet file.

    Raises:
        IntegrityError: it cannot be read.
    """
    try:
        return pyarrow.csv.read_csv(path) if path.suffix == ".csv" else pyarrow.parquet.read_table(path)
    except (OSError, arrow.ArrowException) as error:
        raise IntegrityError(f"{path} cannot be read: {' '.join(str(error).split())[:200]}") from None


def numbers(table: Table, names: list[str], path: Path) -> Array:
    """Return the named columns as an array (rows, columns).

    Raises:
        IntegrityError: a value is missing or no number.
    """
    found = []
    for name in names:
        try:
            column = np.asarray(table.column(name).to_numpy(), dtype=np.float64)
        except (ValueError, TypeError):
            raise IntegrityError(f"{path}: column {name!r} holds values that are no numbers") from None
        found.append(column)
    return np.stack(found, axis=1)


def metadata_of(table: Table) -> dict[str, str]:
    """Return the metadata of a table."""
    return {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
