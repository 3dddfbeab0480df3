"""Image files, examined before anything is trained on them: each is read and decoded once and its sha256 kept.

Shapes: ``N`` files, ``B`` of a batch, ``H, W`` image.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_bench.data.reading.archives import read_file
from kd_bench.data.reading.decoding import Box, Fit, decode, decode_parts
from kd_bench.data.reading.preparing import exclusive, few, in_threads, write_complete
from kd_bench.data.source import FileSums, Index, LazyImages, rows
from kd_bench.errors import IntegrityError

_CHECKED_FILE = ".kd_bench-checked.npz"
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageFiles(LazyImages):
    """Images that stay on disk: ``names`` (N,), bytes relative to ``root``, decoded whenever they are asked for."""

    root: Path
    names: npt.NDArray[np.bytes_]
    fit: Fit

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.names), 3, self.fit.height, self.fit.width

    def __getitem__(self, index: Tensor) -> Tensor:
        """Decode the images at ``index`` (B,) to uint8 (B, 3, H, W).

        Raises:
            IntegrityError: a file cannot be read any more.
        """
        return torch.stack([self._image(os.fsdecode(name)) for name in self.names[index.numpy()]])

    def subset(self, index: Index) -> "ImageFiles":
        return ImageFiles(self.root, self.names[rows(index)], self.fit)

    @property
    def at_full_resolution(self) -> bool:
        return self.fit.resize == "two_steps"

    def parts(self, index: Tensor, count: int, boxes: Callable[[int, int, int], list[Box]]) -> Tensor:
        height, width = self.shape[-2:]
        images = torch.empty(count, len(index), 3, height, width, dtype=torch.uint8)
        for row, name in enumerate(self.names[index.numpy()]):
            parts = self._read(os.fsdecode(name), decode_parts, partial(boxes, row), height, width)
            for part, pixels in zip(images[:, row], parts, strict=True):
                part.copy_(pixels)
        return images

    def _image(self, name: str) -> Tensor:
        return self._read(name, decode, self.fit)

    def _read(self, name: str, decoded: Callable[..., Result], *arguments: Any) -> Result:
        try:
            return decoded(read_file(self.root / name), *arguments)
        except (OSError, ValueError) as error:
            raise IntegrityError(f"{self.root / name} cannot be read: {error}") from error


def read_all(root: Path, names: Sequence[str], fit: Fit) -> tuple[Tensor, FileSums]:
    """Decode every image to uint8 (N, 3, H, W), in several threads.

    Raises:
        IntegrityError: files cannot be read; names the first of them.
    """
    images = torch.empty(len(names), 3, fit.height, fit.width, dtype=torch.uint8)
    sums = np.empty((len(names), 32), np.uint8)
    _refuse(_examine(root, names, fit, sums, range(len(names)), images), root)
    return images, FileSums(_as_bytes(names), sums)


def check_all(root: Path, names: Sequence[str], fit: Fit, cache: Path) -> tuple[ImageFiles, FileSums]:
    """Check the images and leave them on disk. Files whose size and time are those of an earlier check are not read.

    Args:
        cache: folder where the results are kept.

    Raises:
        IntegrityError: files cannot be read (names the first of them), or ``cache`` cannot be written.
    """
    encoded = _as_bytes(names)
    stamps = np.array([_stamp(root / name) for name in names], np.int64).reshape(-1, 2)
    target = cache / _CHECKED_FILE
    with exclusive(target):
        sums, good = _checked_before(target, encoded, stamps)
        new = np.flatnonzero(~good)
        bad = _examine(root, names, fit, sums, new.tolist())
        good[new] = [not problem for problem in bad]
        if len(new):
            write_complete(target, lambda path: _save(path, encoded[good], stamps[good], sums[good]))
    _refuse(bad, root)
    return ImageFiles(root, encoded, fit), FileSums(encoded, sums)


def _examine(
    root: Path,
    names: Sequence[str],
    fit: Fit,
    sums: npt.NDArray[np.uint8],
    positions: Sequence[int],
    images: Tensor | None = None,
) -> list[str]:
    """Fill ``sums`` and, if given, ``images`` at ``positions``; return each file's problem, empty if it has none."""

    def one(number: int) -> str:
        position = positions[number]
        try:
            content = read_file(root / names[position])
            image = decode(content, fit)
        except (OSError, ValueError) as error:
            return f"{names[position]} ({getattr(error, 'strerror', None) or error})"
        sums[position] = np.frombuffer(hashlib.sha256(content).digest(), np.uint8)
        if images is not None:
            images[position] = image
        return ""

    return in_threads(one, len(positions), f"checking {root}")


def _refuse(problems: list[str], root: Path) -> None:
    if bad := [problem for problem in problems if problem]:
        raise IntegrityError(f"{root}: {len(bad)} images cannot be read: {few(bad)}")


def _as_bytes(names: Sequence[str]) -> npt.NDArray[np.bytes_]:
    """Pack names into one block of memory: a list of a million strings would be copied into each worker, one by one."""
    return np.array([os.fsencode(name) for name in names], np.bytes_)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # a dangling link; reading it will say so
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _save(
    path: Path, names: npt.NDArray[np.bytes_], stamps: npt.NDArray[np.int64], sums: npt.NDArray[np.uint8]
) -> None:
    with path.open("wb") as file:
        np.savez(file, names=names, stamps=stamps, sums=sums)


def _checked_before(
    target: Path, names: npt.NDArray[np.bytes_], stamps: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Return the sums (N, 32) of files that an earlier check saw as they are now, and which files those are (N,)."""
    sums, known = np.zeros((len(names), 32), np.uint8), np.zeros(len(names), np.bool_)
    try:
        with target.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            before = {name: i for i, name in enumerate(stored["names"].tolist())}
            old_stamps, old_sums = stored["stamps"], stored["sums"]
            places = np.array([before.get(name, -1) for name in names.tolist()], np.int64)
            found = places >= 0
            known[found] = (old_stamps[places[found]] == stamps[found]).all(axis=1)
            sums[known] = old_sums[places[known]]
    except Exception:  # absent or damaged: everything is checked again
        known[:] = False
    return sums, known
