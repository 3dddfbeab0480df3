"""Mixing of the images of a batch with each other, and of their labels: mixup and CutMix.

Shapes: ``V`` views, ``B`` batch, ``K`` classes, ``H, W`` image.
"""

import math
from typing import NamedTuple

from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from kd_bench.config.augmentation_keys import Mixing
from kd_bench.data.batch import Batch
from kd_bench.data.randomness import MIX_COLUMN, MIX_ROW, MIXED, SHARE, WHICH, uniform


class Rectangle(NamedTuple):
    """A part of an image, in pixels; ``bottom`` and ``right`` are the first that are outside."""

    top: int
    left: int
    bottom: int
    right: int


def mixup(images: Tensor, share: float) -> Tensor:
    """Return ``share`` of each image and the rest of the one before it: float (..., B, 3, H, W)."""
    return images * share + images.roll(1, -4) * (1 - share)


def cutmix(images: Tensor, part: Rectangle) -> Tensor:
    """Put a rectangle of the image before it into each image (..., B, 3, H, W)."""
    mixed, inside = images.clone(), (..., slice(part.top, part.bottom), slice(part.left, part.right))
    mixed[inside] = images.roll(1, -4)[inside]
    return mixed


def rectangle(height: int, width: int, share: float, row: float, column: float) -> Rectangle:
    """Return the rectangle that CutMix replaces: 1 - ``share`` of the image, but for what sticks out of it.

    Args:
        row, column: in [0, 1), of its centre.
    """
    half = 0.5 * math.sqrt(1 - share)
    middle_row, middle_column = int(row * height), int(column * width)
    tall, wide = int(half * height), int(half * width)
    return Rectangle(
        max(middle_row - tall, 0),
        max(middle_column - wide, 0),
        min(middle_row + tall, height),
        min(middle_column + wide, width),
    )


def soft_targets(targets: Tensor, share: float, classes: int) -> Tensor:
    """Return ``share`` of each class index (B,) and the rest of the one before it, as (B, K)."""
    single = F.one_hot(targets, classes).float()
    return single * share + single.roll(1, 0) * (1 - share)


def mix(batch: Batch, mixing: Mixing, classes: int, seed: int, epoch: int) -> Batch:
    """Mix a batch of augmented images, all views and the teacher's images alike.

    What is drawn is a function of (seed, epoch, first sample). An epoch has each sample once, so that the first one
    tells which step it is. A batch that stays as it is has soft targets too.
    """

    def number(stream: int) -> float:
        return float(uniform(seed, epoch, stream, batch.index[:1]))

    share, part = 1.0, None
    if number(MIXED) < mixing.probability:
        cuts = bool(mixing.cutmix) and (not mixing.mixup or number(WHICH) < mixing.switch)
        alpha = mixing.cutmix if cuts else mixing.mixup
        share = float(betaincinv(alpha, alpha, number(SHARE)))  # inverse of the Beta distribution's integral
        if cuts:
            height, width = batch.images.shape[-2:]
            part = rectangle(height, width, share, number(MIX_ROW), number(MIX_COLUMN))
            share = 1 - (part.bottom - part.top) * (part.right - part.left) / (height * width)

    def mixed(images: Tensor) -> Tensor:
        return mixup(images, share) if part is None else cutmix(images, part)

    return batch._replace(
        images=mixed(batch.images),
        teacher_images=None if batch.teacher_images is None else mixed(batch.teacher_images),
        soft_targets=soft_targets(batch.targets, share, classes),
    )
