"""A small set of image corruptions in torch: kinds and severities of its own. It is not CIFAR-C, nor comparable to it.

Everything is a function of the image, its position in the split, the kind and the severity, so that every network sees
the same corrupted images on every machine. Lengths are shares of the image's side: 8x8 digits and photographs are
damaged alike. Shapes: ``B`` batch, ``H, W`` image; images are uint8 (B, 3, H, W), worked on in float64 in [0, 1].
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.randomness import uniform

NAME = "kd_bench corruptions 1"  # the number changes with anything that changes a pixel
SEED = 20241201
SEVERITIES = (1, 2, 3)
# Streams of randomness; see ``kd_bench.data.randomness``.
RADIUS, ANGLE, SPECKLED, SALT, ROW, COLUMN = 1, 2, 3, 4, 5, 6


def gaussian_noise(images: Tensor, index: Tensor, deviation: float) -> Tensor:
    """Add normal noise to every value, by Box and Muller's transform (1958) of two uniform numbers."""
    radius = (-2 * (1 - _by_value(RADIUS, images, index)).log()).sqrt()
    return images + deviation * radius * (2 * math.pi * _by_value(ANGLE, images, index)).cos()


def salt_and_pepper(images: Tensor, index: Tensor, share: float) -> Tensor:
    """Turn a share of the values into 0 or 1."""
    values = (_by_value(SALT, images, index) < 0.5).to(images.dtype)
    return torch.where(_by_value(SPECKLED, images, index) < share, values, images)


def gaussian_blur(images: Tensor, index: Tensor, width: float) -> Tensor:
    """Apply a Gaussian filter of standard deviation ``width`` · side; beyond its edge the image is mirrored."""
    height, breadth = images.shape[-2:]
    for axis, side in ((2, height), (3, breadth)):
        sigma = width * side
        reach = min(side - 1, math.ceil(3 * sigma))
        kernel = torch.exp(-torch.arange(-reach, reach + 1, dtype=images.dtype).square() / (2 * sigma**2))
        weights = (kernel / kernel.sum()).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        padded = F.pad(images, (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0), mode="reflect")
        images = F.conv2d(padded, weights.expand(3, 1, -1, -1), groups=3)
    return images


def pixelation(images: Tensor, index: Tensor, share: float) -> Tensor:
    """Take means of blocks, as of a sensor with ``share`` of the pixels in a row."""
    height, width = images.shape[-2:]
    coarse = F.adaptive_avg_pool2d(images, (max(1, round(share * height)), max(1, round(share * width))))
    return F.interpolate(coarse, (height, width), mode="nearest-exact")


def low_contrast(images: Tensor, index: Tensor, factor: float) -> Tensor:
    """Draw values together around the image's mean."""
    middle = images.mean(dim=(1, 2, 3), keepdim=True)
    return middle + factor * (images - middle)


def brightness(images: Tensor, index: Tensor, added: float) -> Tensor:
    """Add the same to every value."""
    return images + added


def occlusion(images: Tensor, index: Tensor, share: float) -> Tensor:
    """Put a black rectangle with ``share`` of either side anywhere within the image."""
    inside = torch.ones(len(images), 1, 1, 1, dtype=torch.bool)
    for axis, stream in ((2, ROW), (3, COLUMN)):
        side = images.shape[axis]
        length = max(1, round(share * side))
        start = (uniform(SEED, 0, stream, index) * (side - length + 1)).long().view(-1, 1, 1, 1)
        place = torch.arange(side).view(1, 1, *((-1, 1) if axis == 2 else (1, -1)))
        inside = inside & (place >= start) & (place < start + length)
    return torch.where(inside, torch.zeros_like(images), images)


Corruption = Callable[[Tensor, Tensor, float], Tensor]
# What is done, and how strongly at severities 1, 2 and 3.
CORRUPTIONS: dict[str, tuple[Corruption, tuple[float, float, float]]] = {
    "gaussian_noise": (gaussian_noise, (0.06, 0.12, 0.20)),
    "salt_and_pepper": (salt_and_pepper, (0.02, 0.06, 0.12)),
    "gaussian_blur": (gaussian_blur, (0.04, 0.06, 0.09)),
    "pixelation": (pixelation, (0.5, 0.375, 0.25)),
    "low_contrast": (low_contrast, (0.6, 0.35, 0.2)),
    "brightness": (brightness, (0.1, 0.2, 0.35)),
    "occlusion": (occlusion, (0.25, 0.375, 0.5)),
}


def corrupted(images: Tensor, index: Tensor, kind: str, severity: int) -> Tensor:
    """Corrupt ``images``, uint8 (B, 3, H, W); type and shape stay.

    Args:
        index: (B,) positions in the split, which decide all randomness.
        kind: a name in ``CORRUPTIONS``.
        severity: 1 to 3.
    """
    change, strengths = CORRUPTIONS[kind]
    changed = change(images.double() / 255, index, strengths[severity - 1])
    return (255 * changed).round().clamp(0, 255).to(torch.uint8)


def _by_value(stream: int, images: Tensor, index: Tensor) -> Tensor:
    """Return a number in [0, 1) for each value of each image: the same at every severity, whatever the batch."""
    values = images[0].numel()
    place = index.view(-1, 1, 1, 1) * values + torch.arange(values).view(1, *images.shape[1:])
    return uniform(SEED, 0, stream, place)
