"""Operations of RandAugment, TrivialAugment and AutoAugment, each of torchvision, and the ranges of their magnitudes.

An operation acts on a group of images (B, 3, H, W), uint8, that share it and its magnitude. Pixels from outside are
black, and what moves is not interpolated, as in torchvision's transforms and in torchvision's training reference.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F  # type: ignore[import-untyped]


def _shear(images: Tensor, horizontal: float, vertical: float) -> Tensor:
    """Shear by tangents, about the upper left corner."""
    shear = [math.degrees(math.atan(horizontal)), math.degrees(math.atan(vertical))]
    sheared: Tensor = F.affine(images, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    return sheared


def _translate(images: Tensor, right: float, down: float) -> Tensor:
    shift = [int(right), int(down)]
    translated: Tensor = F.affine(images, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    return translated


OPERATIONS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda images, _: images,
    "shear_x": lambda images, tangent: _shear(images, tangent, 0.0),
    "shear_y": lambda images, tangent: _shear(images, 0.0, tangent),
    "translate_x": lambda images, pixels: _translate(images, pixels, 0.0),
    "translate_y": lambda images, pixels: _translate(images, 0.0, pixels),
    "rotate": lambda images, degrees: F.rotate(images, angle=degrees),
    "brightness": lambda images, change: F.adjust_brightness(images, 1.0 + change),
    "color": lambda images, change: F.adjust_saturation(images, 1.0 + change),
    "contrast": lambda images, change: F.adjust_contrast(images, 1.0 + change),
    "sharpness": lambda images, change: F.adjust_sharpness(images, 1.0 + change),
    "posterize": lambda images, bits: F.posterize(images, bits=int(bits)),
    "solarize": lambda images, share: F.solarize(images, threshold=255.0 * share),
    "auto_contrast": lambda images, _: F.autocontrast(images),
    "equalize": lambda images, _: F.equalize(images),
    "invert": lambda images, _: F.invert(images),
}
SIGNED = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate", "brightness", "color", "contrast", "sharpness")
DRAWN = tuple(name for name in OPERATIONS if name != "invert")  # by RandAugment and TrivialAugment


@dataclass(frozen=True)
class Space:
    """The greatest magnitudes of a family of policies, and the number of steps to them.

    Attributes:
        translation: of the image's side where ``relative``, else in pixels.
        colour: greatest change of brightness, colour, contrast and sharpness.
        posterized_bits: taken from 8 at the greatest magnitude.
    """

    bins: int
    shear: float
    translation: float
    relative: bool
    degrees: float
    colour: float
    posterized_bits: int

    def magnitude(self, operation: str, level: int, height: int, width: int) -> float:
        """Return the magnitude of an operation at ``level`` in [0, bins), without a sign; 0 where it has none."""
        if operation == "posterize":
            return float(round(8 - self.posterized_bits * level / (self.bins - 1)))
        first, last = (1.0, 0.0) if operation == "solarize" else (0.0, self._greatest(operation, height, width))
        return float(torch.linspace(first, last, self.bins)[level])  # in float32, for the very pixels of torchvision

    def _greatest(self, operation: str, height: int, width: int) -> float:
        sides = {"translate_x": width, "translate_y": height}
        if operation in sides:
            return self.translation * (sides[operation] if self.relative else 1)
        greatest = {"shear_x": self.shear, "shear_y": self.shear, "rotate": self.degrees}
        return greatest.get(operation, self.colour if operation in SIGNED else 0.0)


RAND_AUGMENT = Space(31, 0.3, 150 / 331, True, 30.0, 0.9, 4)
AUTO_AUGMENT = Space(10, 0.3, 150 / 331, True, 30.0, 0.9, 4)
TRIVIAL_AUGMENT = Space(31, 0.99, 32.0, False, 135.0, 0.99, 6)


def operate(
    images: Tensor, space: Space, names: tuple[str, ...], chosen: Tensor, levels: Tensor, minus: Tensor
) -> Tensor:
    """Apply to each image its own operation, all at once those that share operation and magnitude.

    Args:
        images: uint8 (B, 3, H, W).
        names: operations to choose from.
        chosen: (B,) positions in ``names``; -1 leaves an image as it is.
        levels: (B,) in [0, space.bins).
        minus: (B,) whether a magnitude that has a sign is negative.
    """
    height, width = images.shape[-2:]
    result = images.clone()
    rows = torch.stack([chosen, levels, minus.long()], dim=1).cpu()
    for code in torch.unique(rows, dim=0).tolist():
        position, level, negative = code
        if position < 0:
            continue
        name = names[position]
        magnitude = space.magnitude(name, level, height, width) * (-1 if negative and name in SIGNED else 1)
        group = (rows == torch.tensor(code)).all(dim=1).nonzero().flatten().to(images.device)
        result[group] = OPERATIONS[name](images[group], magnitude)
    return result
