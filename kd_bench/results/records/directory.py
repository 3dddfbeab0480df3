"""The directory of a run: named by the fingerprint, held by one process at a time."""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.fingerprint import SWITCHES
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import read_state

WEIGHTS_FILE = "student.safetensors"
HEAD_FILE = "head.safetensors"  # what a method adds to the student at test time
PREDICTIONS_FILE = "predictions.safetensors"

# The part of a configuration that determines numbers, but for the seed and the switches of the trainer.
_DETERMINING = ("dataset", "student", "method", "recipe", "stage_pairs", "names", "tuning", "plugins")


@contextmanager
def claim(runs: Path, run_id: str, wait: bool) -> Iterator[Path]:
    """Hold the directory of a run, made if need be. The operating system frees it however this process ends.

    Args:
        wait: wait until another process is done with it, as for a teacher that several students need.

    Raises:
        ConfigError: another process holds it (and ``wait`` is false).
        IntegrityError: the directory cannot be made or written.
    """
    directory = runs / run_id
    lock = FileLock(directory / ".lock")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if not wait:
                raise ConfigError(_holder(directory)) from None
            print(f"{_holder(directory)}; waiting for it", flush=True)
            lock.acquire()
    except OSError as error:
        raise IntegrityError(f"{directory} cannot be written: {error}") from error
    for half_written in directory.glob(".*.tmp"):
        half_written.unlink(missing_ok=True)  # of a process that was killed: nobody else writes here
    try:
        yield directory
    finally:
        lock.release()


def _holder(directory: Path) -> str:
    try:
        state = read_state(directory)
    except IntegrityError:
        return f"run {directory.name} is already held by another process"
    since = state.updated_at.isoformat(timespec="seconds")
    return f"run {directory.name} is already running (host {state.host}, pid {state.pid}, last sign of life {since})"


def finished(directory: Path) -> Record | None:
    """Return the record of a finished run, or None."""
    path = directory / RECORD_FILE
    return read_record(path) if path.exists() else None


def published_path(record: Record, apart: bool = False) -> Path:
    """Return the place of a published record: ``<dataset>/<teacher>--<student>/<method>/seed<k>.json``.

    Args:
        apart: add a hash of the settings to the method, for a cell in which others stand already.
    """
    teacher = record.teacher.name if record.teacher else "none"
    generation = f"-generation{record.method.generation}" if record.method.generation > 1 else ""
    parts = (record.dataset.name, f"{teacher}--{record.student.name}", f"{record.method.name}{generation}")
    folder = Path(*(file_name(part) for part in parts))
    suffix = f"-{hashlib.sha256(settings_text(record).encode()).hexdigest()[:8]}" if apart else ""
    return folder.with_name(f"{folder.name}{suffix}") / f"seed{record.seed}.json"


def settings_text(record: Record) -> str:
    """Return as text what determines the numbers of a run beside its seed, as far as its record says it."""
    config: dict[str, Any] = {name: record.config.get(name) for name in _DETERMINING}
    trainer = record.config.get("trainer")
    config["trainer"] = {name: trainer.get(name) for name in SWITCHES} if isinstance(trainer, dict) else None
    if record.code.plugins:
        config["sources"] = record.code.plugins
    weights = record.teacher and record.teacher.weights_sha256
    before = [weights, *record.method.trained_from, record.method.generation]
    return json.dumps([config, record.dataset.content_sha256, before], sort_keys=True)


def file_name(text: str) -> str:
    """Make a harmless file name of a name that comes from a configuration, which may come from anywhere."""
    return re.sub(r"[^A-Za-z0-9_+.-]+", "_", text).lstrip(".")[:100] or "_"
