"""The batch, which flows from the data to the networks, and the facts of a data set that networks may know."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """``B`` samples of one split.

    ``images``: (B, 3, H, W), or (V, B, 3, H, W) for V views; uint8 as stored, float in [0, 1] once augmented (each
    network normalises for itself). ``targets``: (B,) class indices. ``index``: (B,) position in the split.
    """

    images: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which nobody calls on a batch


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
