"""``kd-bench train`` and ``study`` in processes of their own, watched by what their runs leave."""

import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from kd_bench.results.records.record import RECORD_FILE, Record, read_record

FAST = [
    "student=resnet8_cifar",
    "teacher=none",
    "teacher.name=null",
    "method=scratch",
    "logger=none",
    "trainer.progress=none",
    "trainer.checkpoint_seconds=0",
    "trainer.threads=1",
]


def needs(extra: str, distribution: str) -> pytest.MarkDecorator:
    """Skip without an optional extra."""
    try:
        absent = not version(distribution)
    except PackageNotFoundError:
        absent = True
    return pytest.mark.skipif(absent, reason=f"needs the extra: pip install 'kd-bench[{extra}]'")


class Command:
    """``kd-bench train ARGUMENTS`` in ``folder``, or another command, with its output in a file."""

    def __init__(self, folder: Path, arguments: list[str], environment: dict[str, str], command: str = "train") -> None:
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}.txt"
        whole = [sys.executable, "-m", "kd_bench", command, *arguments]
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(whole, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)

    def end(self, seconds: float = 240.0) -> tuple[int, str]:
        """Exit code and everything that was printed."""
        try:
            return self.process.wait(seconds), self.output.read_text()
        finally:
            self.process.kill()


def lines_of(output: str) -> list[str]:
    """What ``kd-bench`` itself has said."""
    return [line for line in output.splitlines() if line.startswith("kd-bench: ")]


def records(folder: Path) -> list[Record]:
    found = [read_record(path) for path in folder.glob(f"runs/*/{RECORD_FILE}")]
    return sorted(found, key=lambda record: record.seed)


def wait_for(condition: Callable[[], object], seconds: float = 90.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


def under_way(folder: Path, epoch: int = 5) -> bool:
    """Whether a run in ``folder`` has saved that many epochs."""
    return any(int(path.name.split("-")[2]) >= epoch for path in folder.glob("runs/*/checkpoint-1-*"))
