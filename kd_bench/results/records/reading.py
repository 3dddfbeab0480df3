"""Read files that anybody may have left under a known name: regular files of bounded size, and nothing that blocks."""

import gc
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kd_bench.errors import IntegrityError

LARGEST = 2**26  # bytes of a record or a state; those of long runs with a full evaluation have less than a megabyte
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)  # as opening a FIFO that took the place of a file does


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Read a regular file.

    Args:
        largest: bytes of the largest file that is read.

    Raises:
        IntegrityError: there is none, it is something else or too large, or it cannot be read.
    """
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise IntegrityError(f"{path} cannot be read: it is no regular file")
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NEVER_WAIT)) as file:
            content = file.read(min(found.st_size, largest) + 1)  # so much memory is taken at once
            if len(content) > found.st_size:  # it has grown, or is of a file system that says no sizes
                content += file.read(largest + 1 - len(content))
    except OSError as error:
        raise IntegrityError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(content) > largest:
        raise IntegrityError(f"{path} cannot be read: it holds more than {largest} bytes")
    return content


def read_text(path: Path, largest: int = LARGEST) -> str:
    """Read a regular file as UTF-8.

    Raises:
        IntegrityError: as ``read_bytes``, or the content is no such text.
    """
    try:
        return read_bytes(path, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise IntegrityError(f"{path} cannot be read: it is not UTF-8 ({error.reason})") from None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Collect no garbage meanwhile: thousands of records are millions of objects: a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.freeze()
            gc.unfreeze()  # what was made counts as old now: it would be looked through at once otherwise
            gc.enable()
