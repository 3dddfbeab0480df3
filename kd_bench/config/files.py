"""Atomic writes, after which a file is the old one or the new one and never half of it, and hashes of files."""

import errno
import hashlib
import os
import sys
from pathlib import Path

from kd_bench.errors import IntegrityError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write to a temporary file in the same directory, flush it to the disk, rename it, flush the directory.

    Raises:
        IntegrityError: the disk is full or the directory cannot be written; whatever ``path`` held is untouched.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, path)
    except OSError as error:
        raise IntegrityError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def rename_durably(source: Path, target: Path) -> None:
    """Rename a file within its directory so that a crash of the machine does not undo it.

    Raises:
        OSError: the directory cannot be written.
    """
    source.replace(target)
    if sys.platform == "win32":  # has no such thing
        return
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # of file systems that cannot do it
            raise
    finally:
        os.close(directory)


def file_sha256(path: Path) -> str:
    """Return the hexadecimal sha256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
