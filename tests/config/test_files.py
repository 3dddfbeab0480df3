"""Files that are renamed into place: on the disk with their names before anybody relies on them."""

import errno
import os
import stat
from pathlib import Path

import pytest

from kd_bench.config import files
from kd_bench.config.files import write_atomically
from kd_bench.data.reading.preparing import write_complete
from kd_bench.errors import IntegrityError


@pytest.fixture
def steps(monkeypatch) -> list[str]:
    """What is done to the disk, in order."""
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        done.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    return done


WRITERS = {
    "written": lambda path: write_atomically(path, "new"),
    "prepared": lambda path: write_complete(path, lambda temporary: temporary.write_text("new")),
}


@pytest.mark.parametrize("way", WRITERS)
def test_the_directory_is_flushed_after_the_rename(tmp_path, steps, way):
    WRITERS[way](tmp_path / "file")
    assert (tmp_path / "file").read_text() == "new"
    assert steps == ["file", "rename", "directory"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("number", "refused"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_flush_directories_is_no_error_and_a_broken_disk_is(
    tmp_path, monkeypatch, number, refused
):
    fsync = os.fsync

    def failing(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", failing)
    if refused:
        with pytest.raises(IntegrityError, match="cannot be written"):
            write_atomically(tmp_path / "file", "new")
    else:
        write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new"
