"""Work on files that is done once: under a lock, with a progress bar, and with a result that is complete or absent."""

import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from kd_bench.config.files import rename_durably
from kd_bench.errors import IntegrityError

T = TypeVar("T")
LONG_WORK = {"images": 10_000, "bytes": 10_000_000}  # work of this size is announced where there is no terminal
_CHUNK = 512
_THREADS = 8


@contextmanager
def exclusive(target: Path) -> Iterator[None]:
    """Hold the lock of ``target``, whose folder is made if need be. The operating system frees it however this ends.

    Raises:
        IntegrityError: the folder cannot be written.
    """
    lock = FileLock(_beside(target, "lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"another process prepares {target}; waiting for it", file=sys.stderr, flush=True)
            lock.acquire()
    except OSError as error:
        raise IntegrityError(f"{target.parent} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def write_complete(target: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file beside ``target`` and rename it. The caller holds the lock of ``target``.

    Raises:
        IntegrityError: the disk is full or the folder cannot be written; what ``target`` held is untouched.
    """
    temporary = _beside(target, "tmp")  # a file that a kill left here is nobody's: we hold the lock
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # the usual mode, whatever the writer set: data directories are shared
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        rename_durably(temporary, target)
    except OSError as error:
        raise IntegrityError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name.lstrip('.')}.{ending}")


@contextmanager
def bar(title: str, total: int | None, unit: Literal["images", "bytes"]) -> Iterator[Callable[[int], None]]:
    """Show a bar on the terminal's error stream while the work lasts; yield a function that takes the progress made."""
    console = Console(stderr=True)
    if not console.is_terminal and (total or 0) >= LONG_WORK[unit]:
        print(f"{title}: {total:,} {unit}", file=sys.stderr, flush=True)
    done = DownloadColumn() if unit == "bytes" else MofNCompleteColumn()
    columns = (TextColumn("{task.description}"), BarColumn(), done, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda made: progress.advance(task, made)


def in_threads(work: Callable[[int], T], count: int, title: str) -> list[T]:
    """Return ``[work(0), ..., work(count - 1)]``, for work that waits for the disk or is done in C."""
    results: list[T] = []
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool, bar(title, count, "images") as advance:
        for start in range(0, count, _CHUNK):
            chunk = range(start, min(start + _CHUNK, count))
            results += pool.map(work, chunk)
            advance(len(chunk))
    return results


def few(items: list[str], shown: int = 3) -> str:
    """Join the first few of a list, for an error message."""
    return ", ".join(items[:shown]) + (", ..." if len(items) > shown else "")
