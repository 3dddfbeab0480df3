"""Archives that may come from anywhere. Members are read where they lie; nothing is ever unpacked to disk.

An archive is refused, with the name of the member, if one has an absolute name, a name with ``..``, is a link or a
device, or if the whole would unpack to more than a limit.
"""

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from kd_bench.errors import IntegrityError

MOST_BYTES = 1 << 28  # of one file in a folder
ARCHIVE_BYTES = 1 << 30  # of a file as it lies on the disk, where an archive is read piece by piece
_NEVER_WAIT = getattr(os, "O_NONBLOCK", 0)


class Files(Protocol):
    """A tree of files, each known by its relative name with ``/`` as separator."""

    def listing(self, folder: str) -> list[str]:
        """Return the names of the files directly in ``folder``, sorted; empty if there is no such folder."""

    def read(self, name: str) -> bytes:
        """Read a file; raise OSError, ValueError, zlib.error or zipfile.BadZipFile where it is missing or damaged."""


class FolderFiles(Files):
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def listing(self, folder: str) -> list[str]:
        path = self.root / folder
        if not path.is_dir():
            return []
        with os.scandir(path) as entries:
            return sorted(f"{folder}/{entry.name}" for entry in entries if entry.is_file())

    def read(self, name: str) -> bytes:
        return read_file(self.root / name)


def read_file(path: Path, limit: int = MOST_BYTES) -> bytes:
    """Read a file of a data set, without waiting for anybody as opening a FIFO does.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, or larger than ``limit``.
    """
    with _opened(path, limit) as file:
        return file.read(limit)


def open_known(path: Path, limit: int = ARCHIVE_BYTES) -> BinaryIO:
    """Open a file that lies under a known name, whoever put it there.

    Raises:
        IntegrityError: it cannot be read, is no regular file, or is larger than ``limit``.
    """
    try:
        return _opened(path, limit)
    except OSError as error:
        raise IntegrityError(f"{path} is refused: {error.strerror or error}") from error
    except ValueError as error:
        raise IntegrityError(f"{path} is refused: it {error}") from error


def _opened(path: Path, limit: int) -> BinaryIO:
    status = path.stat()  # before: to open a device may do something
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("is no regular file")
    if status.st_size > limit:
        raise ValueError(f"is larger than {limit >> 20} MiB")
    return open(path, "rb", opener=lambda name, flags: os.open(name, flags | _NEVER_WAIT))


class ZipFiles(Files):
    """Files of a zip archive, by their names below ``top``.

    Args:
        limit: most bytes that the archive may unpack to.

    Raises:
        IntegrityError: the archive is damaged or has a member that no data set needs.
    """

    def __init__(self, archive: Path, top: str, limit: int) -> None:
        open_known(archive).close()
        try:
            self._zip = zipfile.ZipFile(archive)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            # zipfile raises NotImplementedError for a file that claims a newer format than it knows.
            raise IntegrityError(f"{archive} is refused: {error}") from error
        self._top, self._names = top, {}
        size = 0
        folders: dict[str, list[str]] = {}
        for member in self._zip.infolist():
            size += member.file_size
            kind = stat.S_IFMT(member.external_attr >> 16)
            plain = kind in (0, stat.S_IFREG, stat.S_IFDIR) and not member.flag_bits & 1
            _check_member(archive, member.filename, plain, size, limit)
            if not member.is_dir() and member.filename.startswith(f"{top}/"):
                name = member.filename.removeprefix(f"{top}/")
                self._names[name] = member
                folders.setdefault(name.rpartition("/")[0], []).append(name)
        self._folders = {folder: sorted(names) for folder, names in folders.items()}

    def listing(self, folder: str) -> list[str]:
        return self._folders.get(folder, [])

    def read(self, name: str) -> bytes:
        if name not in self._names:
            raise FileNotFoundError(f"no such member: {self._top}/{name}")
        return self._zip.read(self._names[name])


def read_tar(archive: Path, top: str, wanted: Collection[str], limit: int) -> Iterator[tuple[str, bytes]]:
    """Yield names and contents of the ``wanted`` files directly in the folder ``top`` of a ``.tar.gz``.

    Raises:
        IntegrityError: as for :class:`ZipFiles`.
    """
    size = 0
    try:
        with (
            open_known(archive) as packed,
            gzip.open(packed) as file,
            tarfile.open(fileobj=_Capped(file, archive, limit), mode="r|") as tar,
        ):
            for member in tar:
                size += member.size
                _check_member(archive, member.name, member.isreg() or member.isdir(), size, limit)
                folder, _, name = member.name.removeprefix("./").rpartition("/")
                if folder == top and name in wanted and (content := tar.extractfile(member)) is not None:
                    yield name, content.read()
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise IntegrityError(f"{archive} is refused: {error}") from error


class _Capped(io.BufferedIOBase):
    """A stream that raises after ``limit`` bytes, since headers, too, may be as long as they like."""

    def __init__(self, file: gzip.GzipFile, archive: Path, limit: int) -> None:
        self._file, self._archive, self._left = file, archive, limit

    def read(self, size: int | None = -1) -> bytes:
        block = self._file.read(size)
        self._left -= len(block)
        if self._left < 0:
            raise IntegrityError(f"{self._archive} is refused: it unpacks to more than was allowed")
        return block


def _check_member(archive: Path, name: str, plain: bool, size: int, limit: int) -> None:
    reason = ""
    if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/"):
        reason = "it points out of the archive"
    elif not plain:
        reason = "it is a link, a device or encrypted"
    elif size > limit:
        reason = f"up to here the archive unpacks to {size} bytes, more than the {limit} allowed"
    if reason:
        raise IntegrityError(f"{archive}: member {name!r} is refused: {reason}")
