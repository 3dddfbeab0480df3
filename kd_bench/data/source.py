"""What every small data set is: labelled uint8 images in memory, with a content hash."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from kd_bench.errors import IntegrityError


@dataclass(frozen=True)
class Split:
    """``images``: uint8 (N, 3, H, W). ``targets``: int64 (N,)."""

    images: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def subset(self, index: Tensor) -> "Split":
        return Split(self.images[index], self.targets[index])


@dataclass(frozen=True)
class ImageArrays:
    """A data set as its source gives it. The validation split is carved from ``train`` later."""

    train: Split
    test: Split
    class_names: list[str]

    @cached_property
    def content_sha256(self) -> str:
        """Hash of every image and target, in order, with their shapes."""
        digest = hashlib.sha256()
        for split in (self.train, self.test):
            for tensor in (split.images, split.targets):
                digest.update(f"{tuple(tensor.shape)} {tensor.dtype};".encode())
                digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()

    def check(self, name: str, num_classes: int, image_size: tuple[int, int]) -> None:
        """Compare what was loaded with what the configuration says.

        Raises:
            IntegrityError: another number of classes, another size, a label out of range or an empty class.
        """
        size = (self.train.images.shape[-2], self.train.images.shape[-1])
        if len(self.class_names) != num_classes or size != image_size:
            raise IntegrityError(
                f"{name}: found {len(self.class_names)} classes of {size[0]}x{size[1]} images, but its configuration "
                f"says {num_classes} classes of {image_size[0]}x{image_size[1]}"
            )
        for part, split in (("train", self.train), ("test", self.test)):
            present = torch.unique(split.targets).tolist()
            if present != list(range(num_classes)):
                raise IntegrityError(f"{name}: the {part} split has labels {present}, not 0 to {num_classes - 1}")


class DataSource(Protocol):
    """The contract of a ``dataset`` YAML's ``_target_``: hyperparameters in, arrays out."""

    def load(self) -> ImageArrays: ...
