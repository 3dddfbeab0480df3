"""Training checkpoints: a kill at any moment leaves a loadable one.

A checkpoint is written to a temporary file in its own directory, flushed, and renamed once to a name that carries the
stage, the epoch and the hash of its content: ``checkpoint-0-00012-3f9a….ckpt``. There is no pair of files to keep in
step, and the one before stays until the new one is in place. Inside stands which run it belongs to and which version of
its format it has: a file of another run or of an older kd_bench is refused, never taken for a fresh start.
"""

import hashlib
import io
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from kd_bench import __version__
from kd_bench.config.files import write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.models.weights import read_plain, shown

_KEPT = 2
_FORMAT = 1  # of what a checkpoint holds; a change of it that old files do not survive makes it 2
_STAMP = "kd_bench_stamp"
_NEEDED = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "kd_bench")  # to go on as if never stopped
_DIGITS = 16
_NAME = re.compile(rf"checkpoint-(\d+)-(\d+)-([0-9a-f]{{{_DIGITS}}})\.ckpt")


def checkpoint_stem(directory: Path, stage: int, epoch: int) -> Path:
    """Return the path to hand to Lightning; the writer adds the hash."""
    return directory / f"checkpoint-{stage}-{epoch:05d}"


class AtomicCheckpointIO(CheckpointIO):
    """A writer that never loses the previous good checkpoint, and a reader that runs no code.

    Args:
        seconds: a checkpoint that comes sooner after the one before is held in memory, until a later one takes its
            place or ``write_held`` is called: writing costs more than a small epoch.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self._written = time.monotonic()
        self._held: tuple[dict[str, Any], Path] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write under ``path`` plus the content's hash, or hold a copy.

        Raises:
            IntegrityError: the disk is full or the directory cannot be written; the previous checkpoint is untouched.
        """
        self._held = None
        if time.monotonic() - self._written < self._seconds:
            self._held = _copied(checkpoint), Path(path)
        else:
            self._write(checkpoint, Path(path))

    def write_held(self) -> None:
        """Write the checkpoint that is held, if any: the run is about to stop, and a full disk must not hide why."""
        if self._held is None:
            return
        try:
            self._write(*self._held)
        except IntegrityError as error:
            warnings.warn(f"the newest epochs are lost: {error}", stacklevel=2)
        self._held = None

    def _write(self, checkpoint: dict[str, Any], stem: Path) -> None:
        stamp = {"format": _FORMAT, "run_id": stem.parent.name, "version": __version__}
        buffer = io.BytesIO()
        torch.save({**checkpoint, _STAMP: stamp}, buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
        write_atomically(stem.with_name(f"{stem.name}-{digest}.ckpt"), content)
        for old in _checkpoints(stem.parent)[_KEPT:]:
            old.unlink(missing_ok=True)
        self._written = time.monotonic()

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Read plain data onto the CPU; Lightning moves it to the device.

        Raises:
            IntegrityError: it belongs to another run, has another format, or lacks what an exact resume needs.
        """
        loaded: dict[str, Any] = read_plain(Path(path))
        if problem := _unfit(loaded, Path(path).parent.name):
            raise IntegrityError(f"{path} {problem}; delete {Path(path).parent} to start again")
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        Path(path).unlink(missing_ok=True)


def _copied(value: Any) -> Any:
    """Copy the tensors, dictionaries and lists that training goes on to change."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return [_copied(each) for each in value] if type(value) is list else value


def _unfit(loaded: Any, run_id: str) -> str:
    """Say why a run cannot go on from what was loaded; empty if it can."""
    stamp = loaded.get(_STAMP) if isinstance(loaded, dict) else None
    if not isinstance(stamp, dict):
        return "is no checkpoint of this version of kd_bench"
    if stamp.get("format") != _FORMAT:
        found, version = shown(str(stamp.get("format"))), shown(str(stamp.get("version")))
        return f"has format {found} (kd_bench {version}), kd_bench {__version__} reads format {_FORMAT}"
    if stamp.get("run_id") != run_id:
        return f"belongs to run {shown(str(stamp.get('run_id')))}, not to {run_id}"
    if missing := [name for name in _NEEDED if name not in loaded]:
        return f"lacks {', '.join(missing)}"
    return ""


def _checkpoints(directory: Path) -> list[Path]:
    """List the checkpoints of a run, newest first."""
    found = [path for path in directory.glob("checkpoint-*.ckpt") if _NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: path.name, reverse=True)


class Found(NamedTuple):
    """A checkpoint, the stage it was saved in, and the epochs of that stage that were done."""

    path: Path
    stage: int
    epochs: int


def latest_checkpoint(directory: Path) -> Found | None:
    """Find the newest undamaged checkpoint; None where there is none at all.

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


def check_space(directory: Path, weights: Iterable[Tensor]) -> None:
    """Refuse to start where the checkpoints would not fit.

    Counted are the weights, the best ones so far and the optimizer's momentum in each of the two checkpoints that are
    kept and the one being written.

    Raises:
        IntegrityError: names what is needed and what is free.
    """
    needed = 3 * (_KEPT + 1) * sum(tensor.numel() * tensor.element_size() for tensor in weights)
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise IntegrityError(
            f"{directory}: the checkpoints of this run need about {needed / 1e6:.1f} MB, {free / 1e6:.1f} MB are free"
        )


def has_checkpoints(directory: Path) -> bool:
    """Return whether a run has left checkpoints."""
    return any(_checkpoints(directory))


def delete_checkpoints(directory: Path) -> None:
    """Delete the checkpoints of a run that needs them no more."""
    for path in _checkpoints(directory):
        path.unlink(missing_ok=True)
