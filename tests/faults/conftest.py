"""What the scripts of faults share: processes that can be found again, and small disks."""

import os
from pathlib import Path

import pytest
from support.figures import figure  # noqa: F401, a fixture


class Marked:
    """Processes that carry a variable in their environment, so that those which nobody ended are found."""

    def __init__(self, mark: str) -> None:
        self.environment = {**os.environ, "KD_BENCH_MARK": mark}
        self._line = f"KD_BENCH_MARK={mark}".encode()

    def alive(self) -> list[int]:
        return [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/environ") if self._line in _read(path)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # has ended meanwhile
        return b""


@pytest.fixture
def marked(tmp_path: Path) -> Marked:
    return Marked(str(tmp_path))


def fill(folder: Path) -> Path:
    """Leave no space on a disk; returns the file to delete."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return folder / "filler"
