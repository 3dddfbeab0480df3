"""Augmentation of whole batches in torch, with randomness per sample.

Shapes: ``B`` batch, ``V`` views, ``H, W`` image. Everything works on uint8 and on whatever device holds the batch.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.data.randomness import AREA, CROP_COLUMN, CROP_ROW, FLIP, RATIO, VIEW_STRIDE, integers, uniform

LARGEST_RATIO = 4 / 3  # of width to height in a resized crop; the smallest is its inverse


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


def resized_crop(images: Tensor, heights: Tensor, widths: Tensor, tops: Tensor, lefts: Tensor) -> Tensor:
    """Cut a window out of each image and resize it to (H, W), bilinearly.

    Args:
        images: uint8 (B, 3, H, W).
        heights, widths: (B,) of the windows, as shares of H and W in (0, 1].
        tops, lefts: (B,) where they begin, as shares; the window lies within the image.
    """
    zero = torch.zeros_like(heights)
    # From output coordinates in [-1, 1] to those of the window in the image.
    rows = torch.stack([zero, heights, 2 * tops + heights - 1], dim=1)
    columns = torch.stack([widths, zero, 2 * lefts + widths - 1], dim=1)
    grid = F.affine_grid(torch.stack([columns, rows], dim=1).float(), list(images.shape), align_corners=False)
    sampled = F.grid_sample(images.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return sampled.round().to(images.dtype)


@dataclass(frozen=True)
class Augmentation:
    """Random crops, then a horizontal flip with probability 1/2, as the recipe asks for them.

    Attributes:
        crop_padding: black pixels on each side from which a window of the image's size is cut.
        resized_crop: least and greatest share of the area that is cut out and resized to the image's size, with an
            aspect ratio of 3/4 to 4/3 (Szegedy et al. 2015, arXiv:1409.4842); a side longer than the image is cut off.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False
    resized_crop: list[float] | None = None

    def __call__(self, images: Tensor, index: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
        """Augment ``images`` (B, 3, H, W) as a function of (seed, epoch, index, view)."""
        base = view * VIEW_STRIDE
        if self.crop_padding:
            span = 2 * self.crop_padding + 1
            rows = integers(seed, epoch, base + CROP_ROW, index, span)
            columns = integers(seed, epoch, base + CROP_COLUMN, index, span)
            images = random_crop(images, self.crop_padding, rows, columns)
        if self.resized_crop is not None:
            images = resized_crop(images, *self._windows(seed, epoch, base, index))
        if self.horizontal_flip:
            images = horizontal_flip(images, uniform(seed, epoch, base + FLIP, index) < 0.5)
        return images

    def _windows(self, seed: int, epoch: int, base: int, index: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Draw heights, widths, tops and lefts (B,) of random windows, as shares of the image's sides."""
        assert self.resized_crop is not None
        least, greatest = self.resized_crop
        area = least + (greatest - least) * uniform(seed, epoch, base + AREA, index)
        ratio = (LARGEST_RATIO ** (2 * uniform(seed, epoch, base + RATIO, index) - 1)).sqrt()
        heights, widths = (area.sqrt() / ratio).clamp(max=1), (area.sqrt() * ratio).clamp(max=1)
        tops = (1 - heights) * uniform(seed, epoch, base + CROP_ROW, index)
        lefts = (1 - widths) * uniform(seed, epoch, base + CROP_COLUMN, index)
        return heights, widths, tops, lefts

    def views(self, batch: Batch, seed: int, epoch: int, views: int, rotations: bool = False) -> Batch:
        """Return the augmented batch, as floats in [0, 1]: (B, 3, H, W) for one view, else (V, B, 3, H, W).

        With ``rotations`` V is 4: the first view as it is and turned by 90, 180 and 270 degrees, which needs squares.
        """
        images = [self(batch.images, batch.index, seed, epoch, view) for view in range(views)]
        if rotations:
            images = [images[0].rot90(quarters, (2, 3)) for quarters in range(4)]
        stacked = images[0] if len(images) == 1 else torch.stack(images)
        return batch._replace(images=as_float(stacked))

    def repeated_halves(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment as ``views`` does, the first half as view 1: its samples were seen as view 0 in the batch before."""
        half = len(batch.index) // 2
        first = self(batch.images[:half], batch.index[:half], seed, epoch, view=1)
        second = self(batch.images[half:], batch.index[half:], seed, epoch, view=0)
        return batch._replace(images=as_float(torch.cat([first, second])))


def as_float(images: Tensor) -> Tensor:
    """Turn uint8 in [0, 255] into float32 in [0, 1]."""
    return images.to(torch.float32) / 255.0
