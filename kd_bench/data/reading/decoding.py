"""Decoding of image files of any size and mode to uint8 RGB of one size."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")  # Pillow knows others, some of which start programs
MOST_PIXELS = 80_000_000  # of an image, and of all that a process decodes at once: 9 bytes a pixel at most
Resize = Literal["crop", "stretch"]
# Pillow warns of images that are refused here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
        ValueError: the bytes cannot be read to the end, the image has more than ``MOST_PIXELS``, or it has another size
            and ``fit`` forbids that.
    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:  # reads the header only
            fitted = _fitted(image, fit)
    except Exception as error:  # a damaged file makes Pillow raise whatever it likes
        raise ValueError(_reason(error)) from error
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).contiguous()


def _fitted(image: Image.Image, fit: Fit) -> Image.Image:
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise ValueError(f"has {height}x{width} pixels, more than the {MOST_PIXELS:,} allowed")
    if fit.resize == "never" and image.size != (fit.width, fit.height):
        raise ValueError(f"is {height}x{width}, not {fit.height}x{fit.width}")
    with _IN_FLIGHT.of(width * height):
        resized = _plain(image).resize((fit.width, fit.height), Image.Resampling.BILINEAR, box=fit.box(width, height))
    return resized.convert("RGB")


class _InFlight:
    """A budget of pixels, of which each image takes its own while it is decoded."""

    def __init__(self, budget: int) -> None:
        self._left, self._changed = budget, threading.Condition()

    @contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Wait until the budget has ``pixels`` left, and take them for as long as the block lasts."""
        with self._changed:
            self._changed.wait_for(lambda: self._left >= pixels)
            self._left -= pixels
        try:
            yield
        finally:
            with self._changed:
                self._left += pixels
                self._changed.notify_all()


_IN_FLIGHT = _InFlight(MOST_PIXELS)


def _plain(image: Image.Image) -> Image.Image:
    """Make an image of 8 bits a channel, grey or RGB."""
    if image.mode.startswith("I"):  # grey values of 16 bits, which Pillow would clip
        wide = np.asarray(image)
        grey = np.empty(wide.shape, np.uint8)
        for row, values in enumerate(wide):  # of the whole image, the wider numbers would take much memory
            grey[row] = (np.clip(values.astype(np.int64), 0, 65535) + 128) // 257
        return Image.fromarray(grey)
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers of unknown range")
    if image.mode in ("1", "L"):
        return image.convert("L")
    if image.mode in ("P", "PA"):
        return image.convert("RGBA").convert("RGB")  # Pillow warns of a direct way
    return image.convert("RGB")


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return "no image" if text.startswith("cannot identify") else text or type(error).__name__
