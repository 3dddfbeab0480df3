"""Training checkpoints: a kill at any moment leaves a loadable one.

A checkpoint is written to a temporary file in its own directory, flushed, and renamed once to a name that carries the
stage, the epoch and the hash of its content: ``checkpoint-0-00012-3f9a….ckpt``. There is no pair of files to keep in
step, and the one before stays until the new one is in place.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from kd_bench.errors import IntegrityError
from kd_bench.models.checkpoints import read_plain
from kd_bench.runs.files import write_atomically

_KEPT = 2
_DIGITS = 16
_NAME = re.compile(rf"checkpoint-(\d+)-(\d+)-([0-9a-f]{{{_DIGITS}}})\.ckpt")


def checkpoint_stem(directory: Path, stage: int, epoch: int) -> Path:
    """What to hand to Lightning; the writer adds the hash."""
    return directory / f"checkpoint-{stage}-{epoch:05d}"


class AtomicCheckpointIO(CheckpointIO):
    """Writes checkpoints so that the previous good one is never lost, and reads them without running code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write under ``path`` plus the content's hash.

        Raises:
            IntegrityError: the disk is full or the directory cannot be written; the previous checkpoint is untouched.
        """
        stem = Path(path)
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
        write_atomically(stem.with_name(f"{stem.name}-{digest}.ckpt"), content)
        for old in _checkpoints(stem.parent)[_KEPT:]:
            old.unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read plain data onto the CPU; Lightning moves it to the device."""
        loaded: dict[str, Any] = read_plain(Path(path))
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _checkpoints(directory: Path) -> list[Path]:
    """Newest first."""
    found = [path for path in directory.glob("checkpoint-*.ckpt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


class Found(NamedTuple):
    """A checkpoint, the stage it was saved in, and the epochs of that stage that were done."""

    path: Path
    stage: int
    epochs: int


def latest_checkpoint(directory: Path) -> Found | None:
    """The newest undamaged checkpoint; None where there is none at all.

    Raises:
        IntegrityError: there are checkpoints, but none is intact. Starting again is the user's decision.
    """
    found = _checkpoints(directory)
    for path in found:
        match = _NAME.fullmatch(path.name)
        assert match
        if hashlib.sha256(path.read_bytes()).hexdigest()[:_DIGITS] == match[3]:
            return Found(path, int(match[1]), int(match[2]))
        warnings.warn(f"{path} is damaged; falling back to the checkpoint before it", stacklevel=2)
    if found:
        raise IntegrityError(f"{directory}: no checkpoint is intact; delete the directory to start again")
    return None


def delete_checkpoints(directory: Path) -> None:
    for path in _checkpoints(directory):
        path.unlink(missing_ok=True)
