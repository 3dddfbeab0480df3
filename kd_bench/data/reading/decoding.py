"""Decoding of image files of any size and mode to uint8 RGB of one size."""

import io
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # Pillow knows others, some of which start programs
Resize = Literal["crop", "stretch"]


@dataclass(frozen=True)
class Fit:
    """A size (H, W) and the way to it. Pixels are taken as they are stored: EXIF orientation is not applied.

    Attributes:
        resize: ``crop`` scales evenly until the image covers (H, W) / ``share``, then cuts (H, W) out of the middle;
            ``stretch`` scales both sides on their own; ``never`` refuses what has another size.
        share: share of the shorter side that the crop keeps: 0.875 is "256, then crop 224".
    """

    height: int
    width: int
    resize: Resize | Literal["never"] = "stretch"
    share: float = 1.0

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that is kept: left, top, right, bottom, in its own pixels."""
        if self.resize != "crop":
            return 0, 0, width, height
        scale = min(width / self.width, height / self.height) * self.share
        kept_width, kept_height = self.width * scale, self.height * scale
        left, top = (width - kept_width) / 2, (height - kept_height) / 2
        return left, top, min(left + kept_width, width), min(top + kept_height, height)


def decode(content: bytes, fit: Fit) -> Tensor:
    """Decode the bytes of an image file to uint8 (3, H, W).

    Raises:
        ValueError: the bytes cannot be read to the end, or the image has another size and ``fit`` forbids that.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            rgb = _rgb(image)
    except Exception as error:  # a damaged file makes Pillow raise whatever it likes
        raise ValueError(_reason(error)) from error
    if fit.resize == "never" and rgb.size != (fit.width, fit.height):
        raise ValueError(f"is {rgb.height}x{rgb.width}, not {fit.height}x{fit.width}")
    fitted = rgb.resize((fit.width, fit.height), Image.Resampling.BILINEAR, box=fit.box(*rgb.size))
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # grey values of 16 bits, which Pillow would clip
        grey = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers of unknown range")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA").convert("RGB")  # Pillow warns of a direct way
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return "no image" if text.startswith("cannot identify") else text or type(error).__name__
