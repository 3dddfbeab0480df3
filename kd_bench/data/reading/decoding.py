"""Decoding of image files of any size and mode to uint8 RGB of one size."""

import io
import threading
import warnings
from collections.abc import Callable, Iterator
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
Box = tuple[int, int, int, int]  # left, top, right, bottom
# Pillow warns of images that are refused here.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


@dataclass(frozen=True)
class Fit:
    """A size (H, W) and the way to it. Pixels are taken as they are stored: EXIF orientation is not applied.

    Attributes:
        resize: ``crop`` scales evenly until the image covers (H, W) / ``share``, then cuts (H, W) out of the middle;
            ``stretch`` scales both sides on their own; ``never`` refuses what has another size; ``two_steps`` is
            ``crop`` to the pixel as torchvision's ``Resize`` and ``CenterCrop`` do it: the whole image is scaled to
            whole pixels, then cut.
        share: share of the shorter side that the crop keeps: 0.875 is "256, then crop 224".
    """

    height: int
    width: int
    resize: Resize | Literal["two_steps", "never"] = "stretch"
    share: float = 1.0

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of an image that is kept: left, top, right, bottom, in its own pixels."""
        if self.resize != "crop":
            return 0, 0, width, height
        scale = min(width / self.width, height / self.height) * self.share
        kept_width, kept_height = self.width * scale, self.height * scale
        left, top = (width - kept_width) / 2, (height - kept_height) / 2
        return left, top, min(left + kept_width, width), min(top + kept_height, height)

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height, in whole pixels, that ``two_steps`` scales an image of this size to."""
        wanted_width, wanted_height = round(self.width / self.share), round(self.height / self.share)
        if width * wanted_height <= height * wanted_width:
            return wanted_width, int(wanted_width * height / width)
        return int(wanted_height * width / height), wanted_height


def decode(content: bytes, fit: Fit) -> Tensor:
    """Decode the bytes of an image file to uint8 (3, H, W).

    Raises:
        ValueError: the bytes cannot be read to the end, the image has more than ``MOST_PIXELS``, or it has another size
            and ``fit`` forbids that.
    """
    with _opened(content) as image:
        if fit.resize == "never" and image.size != (fit.width, fit.height):
            raise ValueError(f"is {image.height}x{image.width}, not {fit.height}x{fit.width}")
        return _pixels(_fitted(_plain(image), fit)).contiguous()


def decode_parts(content: bytes, boxes: Callable[[int, int], list[Box]], height: int, width: int) -> list[Tensor]:
    """Decode the bytes of an image file once, cut boxes out, and scale each to uint8 (3, height, width).

    Scaling is bilinear and antialiased, as torchvision's ``RandomResizedCrop`` does it with images of Pillow.

    Args:
        boxes: given the image's height and width, says left, top, right and bottom of each, in whole pixels.

    Raises:
        ValueError: as ``decode``.
    """
    with _opened(content) as image:
        plain = _plain(image).convert("RGB") if image.mode != "RGB" else image
        chosen = boxes(image.height, image.width)
        # Cut first: a box given to `resize` would let pixels outside of it in at its edges.
        return [_pixels(plain.crop(box).resize((width, height), Image.Resampling.BILINEAR)) for box in chosen]


@contextmanager
def _opened(content: bytes) -> Iterator[Image.Image]:
    """Open an image of a size that is allowed, and turn whatever Pillow raises into ValueError."""
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:  # reads the header only
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"has {image.height}x{image.width} pixels, more than the {MOST_PIXELS:,} allowed")
            with _IN_FLIGHT.of(image.width * image.height):
                yield image
    except Exception as error:  # a damaged file makes Pillow raise whatever it likes
        raise ValueError(_reason(error)) from error


def _fitted(image: Image.Image, fit: Fit) -> Image.Image:
    if fit.resize != "two_steps":
        return image.resize((fit.width, fit.height), Image.Resampling.BILINEAR, box=fit.box(*image.size))
    scaled = image.convert("RGB").resize(fit.scaled(*image.size), Image.Resampling.BILINEAR)
    left, top = round((scaled.width - fit.width) / 2), round((scaled.height - fit.height) / 2)
    return scaled.crop((left, top, left + fit.width, top + fit.height))


def _pixels(image: Image.Image) -> Tensor:
    """Return uint8 (3, H, W), not contiguous: the channels are those of Pillow, the last in memory."""
    return torch.from_numpy(np.array(image.convert("RGB") if image.mode != "RGB" else image)).permute(2, 0, 1)


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
    return image if image.mode == "RGB" else image.convert("RGB")


def _reason(error: Exception) -> str:
    text = (str(error).splitlines() or [""])[0]
    return "no image" if text.startswith("cannot identify") else text or type(error).__name__
