"""Steps of an augmentation on whole batches: uint8 (B, 3, H, W) in, the same out, each sample with its own numbers.

A step takes its random numbers from ``draw(n)``: the n-th number in [0, 1) of each sample (B,), float64.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache
from itertools import permutations
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import autoaugment  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as vision  # type: ignore[import-untyped]

from kd_bench.config import augmentation_keys as config
from kd_bench.data.operations import AUTO_AUGMENT, DRAWN, OPERATIONS, RAND_AUGMENT, TRIVIAL_AUGMENT, operate
from kd_bench.data.randomness import STEP, uniform

Draw = Callable[[int], Tensor]
LARGEST_RATIO = 4 / 3  # of width to height in a resized crop; the smallest is its inverse
ERASED_RATIO = 10 / 3  # of height to width of what is erased; the smallest is its inverse
ERASING_ATTEMPTS = 5


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


def shares_of_windows(area_range: list[float], area: Tensor, form: Tensor, row: Tensor, column: Tensor) -> list[Tensor]:
    """Return heights, widths, tops and lefts (B,) of windows, as shares of the image's sides.

    Args:
        area_range: least and greatest share of the area.
        area, form, row, column: (B,) numbers in [0, 1), of the area, the ratio and the place.
    """
    least, greatest = area_range
    area = least + (greatest - least) * area
    ratio = (LARGEST_RATIO ** (2 * form - 1)).sqrt()
    heights, widths = (area.sqrt() / ratio).clamp(max=1), (area.sqrt() * ratio).clamp(max=1)
    return [heights, widths, (1 - heights) * row, (1 - widths) * column]


def blanked(images: Tensor, tops: Tensor, lefts: Tensor, heights: Tensor, widths: Tensor, fill: Tensor) -> Tensor:
    """Put ``fill`` in place of a rectangle of each image; what lies outside of the image is cut off.

    Args:
        tops, lefts, heights, widths: (B,), in pixels; a height of 0 changes nothing.
        fill: uint8, of the images' shape or broadcast to it.
    """
    rows = torch.arange(images.shape[-2], device=images.device)[None, :, None]
    columns = torch.arange(images.shape[-1], device=images.device)[None, None, :]
    top, left, height, width = (each[:, None, None] for each in (tops, lefts, heights, widths))
    inside = (rows >= top) & (rows < top + height) & (columns >= left) & (columns < left + width)
    return torch.where(inside[:, None], fill, images)


def _below(number: Tensor, bound: int) -> Tensor:
    """Turn numbers in [0, 1) into integers in [0, bound)."""
    return (number * bound).long()


def _crop(step: config.Crop, images: Tensor, draw: Draw) -> Tensor:
    span = 2 * step.padding + 1
    return random_crop(images, step.padding, _below(draw(0), span), _below(draw(1), span))


def _resized_crop(step: config.ResizedCrop, images: Tensor, draw: Draw) -> Tensor:
    return resized_crop(images, *shares_of_windows(step.area, draw(0), draw(1), draw(2), draw(3)))


def _flip(step: config.Flip, images: Tensor, draw: Draw) -> Tensor:
    return horizontal_flip(images, draw(0) < step.probability)


def _rand_augment(step: config.RandAugment, images: Tensor, draw: Draw) -> Tensor:
    for number in range(step.operations):
        chosen = _below(draw(2 * number), len(DRAWN))
        levels = torch.full_like(chosen, step.magnitude)
        images = operate(images, RAND_AUGMENT, DRAWN, chosen, levels, draw(2 * number + 1) < 0.5)
    return images


def _trivial_augment(step: config.TrivialAugment, images: Tensor, draw: Draw) -> Tensor:
    chosen, levels = _below(draw(0), len(DRAWN)), _below(draw(1), TRIVIAL_AUGMENT.bins)
    return operate(images, TRIVIAL_AUGMENT, DRAWN, chosen, levels, draw(2) < 0.5)


_ALL = tuple(OPERATIONS)


@cache
def policy_table(name: str) -> Tensor:
    """Return the 25 pairs of a policy: (25, 2, 3), each position in ``OPERATIONS``, probability and level.

    The table is torchvision's.
    """
    policies = autoaugment.AutoAugment(autoaugment.AutoAugmentPolicy(name)).policies
    names = {"".join(part.capitalize() for part in each.split("_")): place for place, each in enumerate(_ALL)}
    return torch.tensor(
        [[[names[operation], share, level or 0] for operation, share, level in pair] for pair in policies],
        dtype=torch.float64,
    )


def _auto_augment(step: config.AutoAugment, images: Tensor, draw: Draw) -> Tensor:
    table = policy_table(step.policy).to(images.device)
    pairs = table[_below(draw(0), len(table))]
    for number in range(2):
        operation, share, level = pairs[:, number].unbind(1)
        chosen = torch.where(draw(1 + 2 * number) < share, operation.long(), -1)
        images = operate(images, AUTO_AUGMENT, _ALL, chosen, level.long(), draw(2 + 2 * number) < 0.5)
    return images


def _color_jitter(step: config.ColorJitter, images: Tensor, draw: Draw) -> Tensor:
    adjusts = vision.adjust_brightness, vision.adjust_contrast, vision.adjust_saturation, vision.adjust_hue
    strengths = step.brightness, step.contrast, step.saturation, step.hue
    factors = [
        (2 * draw(2 + place) - 1) * strength if adjust is vision.adjust_hue else _factor(draw(2 + place), strength)
        for place, (adjust, strength) in enumerate(zip(adjusts, strengths, strict=True))
    ]
    orders = list(permutations(range(4)))
    order, wanted = _below(draw(1), len(orders)).tolist(), (draw(0) < step.probability).tolist()
    values = torch.stack(factors, dim=1).tolist()
    result = images.clone()
    for sample in range(len(images)):
        for place in orders[order[sample]] if wanted[sample] else ():
            if strengths[place]:
                result[sample] = adjusts[place](result[sample], values[sample][place])
    return result


def _factor(number: Tensor, strength: float) -> Tensor:
    """Turn numbers in [0, 1) into factors around 1, none of them negative."""
    least = max(0.0, 1 - strength)
    return least + (1 + strength - least) * number


def _random_erasing(step: config.RandomErasing, images: Tensor, draw: Draw) -> Tensor:
    height, width = images.shape[-2:]
    pending = draw(0) < step.probability
    tops, lefts, heights, widths = (torch.zeros_like(pending, dtype=torch.int64) for _ in range(4))
    for attempt in range(ERASING_ATTEMPTS):  # until the rectangle is smaller than the image
        share, form, row, column = (draw(1 + 4 * attempt + number) for number in range(4))
        area = height * width * (step.area[0] + (step.area[1] - step.area[0]) * share)
        ratio = ERASED_RATIO ** (2 * form - 1)
        tall, wide = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
        fits = pending & (tall < height) & (wide < width)
        heights, widths = torch.where(fits, tall, heights), torch.where(fits, wide, widths)
        tops = torch.where(fits, (row * (height - tall + 1)).long(), tops)
        lefts = torch.where(fits, (column * (width - wide + 1)).long(), lefts)
        pending = pending & ~fits
    fill = torch.zeros(1, dtype=torch.uint8, device=images.device)
    if step.fill == "noise":
        fill = noise(draw(ERASING_ATTEMPTS * 4 + 1), images)
    return blanked(images, tops, lefts, heights, widths, fill)


def noise(number: Tensor, images: Tensor) -> Tensor:
    """Return uint8 noise of the images' shape, each sample's a function of its number (B,) in [0, 1)."""
    key = (number * 2.0**53).long()
    place = torch.arange(math.prod(images.shape[1:]), device=images.device)
    return (uniform(0, 0, STEP, key[:, None] + place) * 256).to(torch.uint8).view(images.shape)


def _cutout(step: config.Cutout, images: Tensor, draw: Draw) -> Tensor:
    height, width = images.shape[-2:]
    tops, lefts = _below(draw(1), height) - step.size // 2, _below(draw(2), width) - step.size // 2
    side = torch.where(draw(0) < step.probability, step.size, 0)
    return blanked(images, tops, lefts, side, side, torch.zeros(1, dtype=torch.uint8, device=images.device))


STEPS: Mapping[type[config.Step], Callable[[Any, Tensor, Draw], Tensor]] = {
    config.Crop: _crop,
    config.ResizedCrop: _resized_crop,
    config.Flip: _flip,
    config.RandAugment: _rand_augment,
    config.TrivialAugment: _trivial_augment,
    config.AutoAugment: _auto_augment,
    config.ColorJitter: _color_jitter,
    config.RandomErasing: _random_erasing,
    config.Cutout: _cutout,
}
