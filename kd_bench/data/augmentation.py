"""Augmentation of whole batches in torch, with randomness per sample.

Shapes: ``B`` batch, ``V`` views, ``H, W`` image. Everything works on uint8 and on whatever device holds the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.data.randomness import CROP_COLUMN, CROP_ROW, FLIP, VIEW_STRIDE, integers, uniform


def random_crop(images: Tensor, padding: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Pad with black and cut (H, W) windows out again at ``rows``, ``columns`` (B,), each in [0, 2 * padding]."""
    batch, _, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    sample = torch.arange(batch, device=images.device)[:, None, None]
    row = (rows[:, None] + torch.arange(height, device=images.device))[:, :, None]
    column = (columns[:, None] + torch.arange(width, device=images.device))[:, None, :]
    # Advanced indices beside a slice put the channels last: (B, H, W, 3).
    return padded.permute(0, 2, 3, 1)[sample, row, column].permute(0, 3, 1, 2).contiguous()


def horizontal_flip(images: Tensor, flip: Tensor) -> Tensor:
    """Mirror the images where ``flip`` (B,) is true."""
    return torch.where(flip[:, None, None, None], images.flip(-1), images)


@dataclass(frozen=True)
class Augmentation:
    """Random crop with zero padding, then a horizontal flip with probability 1/2, as the recipe asks for them."""

    crop_padding: int = 0
    horizontal_flip: bool = False

    def __call__(self, images: Tensor, index: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
        """Augment ``images`` (B, 3, H, W) as a function of (seed, epoch, index, view)."""
        base = view * VIEW_STRIDE
        if self.crop_padding:
            span = 2 * self.crop_padding + 1
            rows = integers(seed, epoch, base + CROP_ROW, index, span)
            columns = integers(seed, epoch, base + CROP_COLUMN, index, span)
            images = random_crop(images, self.crop_padding, rows, columns)
        if self.horizontal_flip:
            images = horizontal_flip(images, uniform(seed, epoch, base + FLIP, index) < 0.5)
        return images

    def views(self, batch: Batch, seed: int, epoch: int, views: int, rotations: bool = False) -> Batch:
        """The augmented batch, as floats in [0, 1]: (B, 3, H, W) for one view, else (V, B, 3, H, W).

        With ``rotations`` V is 4: the first view as it is and turned by 90, 180 and 270 degrees, which needs squares.
        """
        images = [self(batch.images, batch.index, seed, epoch, view) for view in range(views)]
        if rotations:
            images = [images[0].rot90(quarters, (2, 3)) for quarters in range(4)]
        stacked = images[0] if len(images) == 1 else torch.stack(images)
        return batch._replace(images=as_float(stacked))

    def repeated_halves(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """As ``views``, the first half as view 1: its samples were seen as view 0 in the batch before."""
        half = len(batch.index) // 2
        first = self(batch.images[:half], batch.index[:half], seed, epoch, view=1)
        second = self(batch.images[half:], batch.index[half:], seed, epoch, view=0)
        return batch._replace(images=as_float(torch.cat([first, second])))


def as_float(images: Tensor) -> Tensor:
    """uint8 in [0, 255] to float32 in [0, 1]."""
    return images.to(torch.float32) / 255.0
