"""Random windows of photographs as they are stored, for crops that are resized once and from all their pixels.

The rule is that of torchvision's ``RandomResizedCrop``, with numbers that are functions of (seed, epoch, index, view).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from kd_bench.data.randomness import VIEW_STRIDE, WINDOW, uniform

LARGEST_RATIO = 4 / 3  # of width to height; the smallest is its inverse
ATTEMPTS = 10
NUMBERS = 4  # of an attempt: area, ratio, row, column


class Window(NamedTuple):
    """A part of an image, in its pixels."""

    top: int
    left: int
    height: int
    width: int


def window_numbers(seed: int, epoch: int, view: int, index: Tensor) -> Tensor:
    """Return the numbers in [0, 1) that the windows of samples are made of: (B, ATTEMPTS, NUMBERS)."""
    base = view * VIEW_STRIDE + WINDOW
    drawn = [uniform(seed, epoch, base + stream, index) for stream in range(ATTEMPTS * NUMBERS)]
    return torch.stack(drawn, dim=-1).view(len(index), ATTEMPTS, NUMBERS)


def window(height: int, width: int, area: tuple[float, float], numbers: list[list[float]]) -> Window:
    """Choose the window of an image of ``height`` x ``width`` pixels (Szegedy et al. 2015, arXiv:1409.4842).

    The first attempt whose window fits into the image counts. If none does, the largest window in the middle with an
    allowed ratio is taken.

    Args:
        area: least and greatest share of the image's area.
        numbers: of each attempt, in [0, 1): area, logarithm of the ratio, row and column, each within its range.
    """
    least, greatest = area
    for share, form, row, column in numbers:
        pixels = height * width * (least + (greatest - least) * share)
        ratio = LARGEST_RATIO ** (2 * form - 1)
        tall, wide = round(math.sqrt(pixels / ratio)), round(math.sqrt(pixels * ratio))
        if 0 < wide <= width and 0 < tall <= height:
            return Window(int(row * (height - tall + 1)), int(column * (width - wide + 1)), tall, wide)
    tall = min(height, round(width * LARGEST_RATIO))
    wide = min(width, round(height * LARGEST_RATIO))
    return Window((height - tall) // 2, (width - wide) // 2, tall, wide)
