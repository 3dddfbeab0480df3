"""The batch, which flows from the data to the networks, and the facts of a data set that networks may know."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """``B`` samples of one split.

    ``images``: (B, 3, H, W), or (V, B, 3, H, W) for V views; uint8 as stored, float in [0, 1] once augmented (each
    network normalises for itself). ``targets``: (B,) class indices. ``index``: (B,) position in the split.
    ``soft_targets``: (B, K) shares of the classes where images were mixed, else None. ``teacher_images``: shaped as
    ``images``, where the recipe shows the teacher others than the student.
    """

    images: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch
    soft_targets: Tensor | None = None
    teacher_images: Tensor | None = None

    @property
    def labels(self) -> Tensor:
        """Labels for a cross-entropy: the shares (B, K) of mixed images, else the class indices (B,)."""
        return self.targets if self.soft_targets is None else self.soft_targets


@dataclass(frozen=True)
class DataSpec:
    """Facts of a data set that networks and methods may know before it is loaded."""

    num_classes: int
    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train_samples: int | None = None  # set once the data are loaded

    def example(self, batch: int = 2) -> Tensor:
        """Return a black batch (B, 3, H, W), float in [0, 1]."""
        return torch.zeros(batch, 3, *self.image_size)
