"""Loaded data sets: labelled uint8 images, in memory or on disk, with a content hash."""

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_bench.config.characters import JOINERS, is_hidden
from kd_bench.data.reading.decoding import Box
from kd_bench.data.reading.preparing import few
from kd_bench.errors import ConfigError, IntegrityError

Index = Tensor | slice  # a slice shares the memory


class LazyImages(Protocol):
    """Images (N, 3, H, W) that stay on disk until they are asked for, as by the workers of a loader."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, 3, H, W)."""

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images at positions ``index`` (B,): uint8 (B, 3, H, W)."""

    def subset(self, index: Index) -> "LazyImages":
        """Return the images at ``index``, still on disk."""

    @property
    def at_full_resolution(self) -> bool:
        """Whether random windows are cut from the images as they are stored, by ``parts``."""

    def parts(self, index: Tensor, count: int, boxes: Callable[[int, int, int], list[Box]]) -> Tensor:
        """Cut ``count`` boxes out of each image at ``index`` (B,) and scale them: uint8 (count, B, 3, H, W).

        Args:
            boxes: given the row in the batch and the image's height and width, says where they are.
        """


@dataclass(frozen=True)
class FileSums:
    """Identity of N image files: ``names`` (N,), bytes relative to the data's folder; ``sums`` (N, 32), sha256."""

    names: npt.NDArray[np.bytes_]
    sums: npt.NDArray[np.uint8]

    def subset(self, index: Index) -> "FileSums":
        """Return names and sums at ``index``."""
        return FileSums(self.names[rows(index)], self.sums[rows(index)])


@dataclass(frozen=True)
class Split:
    """Labelled images. ``images``: uint8 (N, 3, H, W). ``targets``: int64 (N,).

    ``files`` are those that the images come from; where given, they identify the images instead of the pixels.
    """

    images: Tensor | LazyImages
    targets: Tensor
    files: FileSums | None = None

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Index) -> "Split":
        """Return the samples at ``index``; a slice shares the memory."""
        images = self.images[index] if isinstance(self.images, Tensor) else self.images.subset(index)
        return Split(images, self.targets[index], self.files and self.files.subset(index))

    @property
    def in_memory(self) -> bool:
        """Whether the images are decoded already."""
        return isinstance(self.images, Tensor)

    @property
    def at_full_resolution(self) -> bool:
        """Whether training crops are cut from the photographs as they are stored."""
        return not isinstance(self.images, Tensor) and self.images.at_full_resolution

    def image_keys(self) -> list[bytes]:
        """Return one hash per image: of its file or of its pixels."""
        if self.files is not None:
            return [row.tobytes() for row in self.files.sums]
        assert isinstance(self.images, Tensor)
        pixels = self.images.reshape(len(self), -1).numpy()
        return [hashlib.blake2b(image.data, digest_size=16).digest() for image in pixels]


@dataclass(frozen=True)
class ImageArrays:
    """A data set as its source gives it. The validation split is carved from ``train`` later."""

    train: Split
    test: Split
    class_names: list[str]

    @cached_property
    def content_sha256(self) -> str:
        """Hash of every image and target, in order, with their shapes; of names and sums where images are files."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            if split.files is not None:
                digest.update(f"{len(split)} files;".encode() + b"\0".join(split.files.names.tolist()))
            for values in (split.images if split.files is None else split.files.sums, split.targets):
                array = np.ascontiguousarray(values.numpy() if isinstance(values, Tensor) else values)
                digest.update(f"{tuple(array.shape)} torch.{array.dtype};".encode())
                digest.update(array.reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    @cached_property
    def duplicates(self) -> int:
        """Number of test images that are in the training split as well, byte for byte."""
        train = set(self.train.image_keys())
        return sum(key in train for key in self.test.image_keys())

    def check(self, name: str, num_classes: int, image_size: tuple[int, int]) -> None:
        """Compare what was loaded with the configuration, and warn of test images that are trained on.

        Raises:
            ConfigError: the configuration says another number of classes or another size.
            IntegrityError: a label is out of range, a class is empty, or its name has hidden characters.
        """
        if odd := [ascii(each) for each in self.class_names if any(map(is_hidden, set(each).difference(JOINERS)))]:
            raise IntegrityError(f"{name}: {len(odd)} names of classes have characters that cannot be seen: {few(odd)}")
        height, width = self.train.images.shape[-2:]
        if len(self.class_names) != num_classes or (height, width) != image_size:
            raise ConfigError(
                f"dataset.num_classes and dataset.image_size: {name} has {len(self.class_names)} classes of "
                f"{height}x{width} images, the configuration says {num_classes} classes of "
                f"{image_size[0]}x{image_size[1]}"
            )
        for part, split in (("train", self.train), ("test", self.test)):
            if problems := out_of_range(split.targets, num_classes) or self._empty_classes(split.targets):
                raise IntegrityError(f"{name}: the {part} split has {problems}")
        if self.duplicates:
            warnings.warn(f"{name}: {self.duplicates} of {len(self.test)} test images are trained on too", stacklevel=2)

    def _empty_classes(self, targets: Tensor) -> str:
        counts = torch.bincount(targets, minlength=len(self.class_names))
        empty = [self.class_names[label] for label in (counts == 0).nonzero().flatten().tolist()]
        return f"no image of {len(empty)} of {len(self.class_names)} classes: {few(empty)}" if empty else ""


def rows(index: Index) -> slice | npt.NDArray[np.int64]:
    """Return ``index`` as numpy takes it."""
    return index if isinstance(index, slice) else index.numpy()


def out_of_range(targets: Tensor, num_classes: int) -> str:
    """Say how many labels (N,) are no class and which come first; empty if all are good."""
    positions = ((targets < 0) | (targets >= num_classes)).nonzero().flatten().tolist()
    bad = [f"{int(targets[position])} of image {position}" for position in positions[:4]]
    return f"{len(positions)} labels out of range 0 to {num_classes - 1}: {few(bad)}" if bad else ""


class DataSource(Protocol):
    """The contract of a ``dataset`` YAML's ``_target_``: hyperparameters in, arrays out."""

    def load(self) -> ImageArrays:
        """Read the whole data set.

        Raises:
            IntegrityError: files are absent, damaged or not the published ones.
        """
