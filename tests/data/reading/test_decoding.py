"""Image files of all kinds to uint8 RGB of one size, against Pillow and a slow formula."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from data.formats import encoded, pixels
from kd_bench.data.reading.decoding import Fit, decode

SAME = Fit(20, 30, "never")


def of(image: Image.Image, kind: str = "PNG", fit: Fit = SAME, **options) -> np.ndarray:
    """(H, W, 3)."""
    decoded = decode(encoded(image, kind, **options), fit)
    assert decoded.dtype == torch.uint8
    assert decoded.is_contiguous()
    return decoded.permute(1, 2, 0).numpy()


PHOTO = Image.fromarray(pixels(20, 30))


@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("BMP", {}), ("PPM", {}), ("WEBP", {"lossless": True})])
def test_lossless_files_keep_their_pixels(kind, options):
    assert np.array_equal(of(PHOTO, kind, **options), pixels(20, 30))


def test_jpeg_is_what_pillow_says():
    expected = np.asarray(Image.open(io.BytesIO(encoded(PHOTO, "JPEG"))))
    assert np.array_equal(of(PHOTO, "JPEG"), expected)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA"])
def test_grey_and_transparent_images_become_rgb(mode):
    image = PHOTO.convert("L").convert(mode) if mode != "RGBA" else PHOTO.convert(mode)
    assert np.array_equal(of(image), np.asarray(image.convert("RGB")))


def test_palettes_become_their_colours():
    image = PHOTO.quantize(16)
    assert image.mode == "P"
    assert np.array_equal(of(image), np.asarray(image.convert("RGB")))
    assert np.array_equal(of(image, transparency=bytes(range(16))), np.asarray(image.convert("RGB")))
    assert np.array_equal(of(image, transparency=3), np.asarray(image.convert("RGB")))


def test_cmyk_photographs_become_rgb():
    image = Image.new("CMYK", (30, 20), (0, 255, 255, 0))  # no cyan, all magenta and yellow: red
    decoded = of(image, "JPEG", quality=95)
    assert np.abs(decoded.astype(int) - np.array([255, 0, 0])).max() <= 3


def png16(grey: np.ndarray) -> bytes:
    """A 16-bit grey PNG by its specification: big-endian values, each row with filter 0."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    height, width = grey.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)
    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_grey_values_are_scaled_not_clipped():
    grey = np.linspace(0, 65535, 600).round().reshape(20, 30).astype(np.uint16)
    decoded = decode(png16(grey), SAME)
    assert torch.equal(decoded[0], decoded[2])
    assert np.array_equal(decoded[0].numpy(), np.round(grey / 257).astype(np.uint8))


def test_stored_pixels_count_not_the_cameras_orientation():
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    assert of(PHOTO, "JPEG", exif=exif.tobytes()).shape == (20, 30, 3)


# --- Size ---


@pytest.mark.parametrize("fit", [Fit(20, 30), Fit(20, 30, "crop"), SAME])
def test_an_image_of_the_right_size_is_left_alone(fit):
    assert np.array_equal(of(PHOTO, fit=fit), pixels(20, 30))


@pytest.mark.parametrize(
    ("height", "width", "fit", "box"),
    [
        (20, 30, Fit(10, 10, "stretch"), (0, 0, 30, 20)),
        (20, 30, Fit(10, 10, "crop"), (5, 0, 25, 20)),
        (30, 20, Fit(10, 10, "crop"), (0, 5, 20, 25)),
        (20, 30, Fit(10, 10, "crop", 0.5), (10, 5, 20, 15)),
        (256, 341, Fit(224, 224, "crop", 0.875), (58.5, 16, 282.5, 240)),  # "256, then crop 224"
        (20, 30, Fit(40, 20, "crop"), (10, 0, 20, 20)),  # twice as high as wide
        (7, 5, Fit(64, 64, "crop"), (0, 1, 5, 6)),
    ],
)
def test_what_is_kept_of_an_image(height, width, fit, box):
    assert fit.box(width, height) == pytest.approx(box)


@pytest.mark.parametrize(
    ("height", "width", "fit", "shorter"),
    [
        (20, 40, Fit(10, 10, "crop"), 10),
        (40, 20, Fit(10, 10, "crop"), 10),
        (20, 36, Fit(30, 30, "crop"), 30),
        (16, 16, Fit(8, 8, "crop", 0.5), 16),
        (512, 640, Fit(224, 224, "crop", 0.875), 256),
    ],
)
def test_a_crop_is_resize_the_shorter_side_then_cut_the_middle_out(height, width, fit, shorter):
    array = pixels(height, width)
    scale = shorter / min(height, width)
    large = Image.fromarray(array).resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
    left, top = (large.width - fit.width) // 2, (large.height - fit.height) // 2
    expected = np.asarray(large)[top : top + fit.height, left : left + fit.width]
    decoded = decode(encoded(array), fit).permute(1, 2, 0).numpy()
    assert np.abs(decoded.astype(int) - expected).max() <= 1  # Pillow rounds between its two passes


def test_a_stretch_is_pillows_resize():
    expected = np.asarray(PHOTO.resize((11, 17), Image.Resampling.BILINEAR))
    assert np.array_equal(of(PHOTO, fit=Fit(17, 11, "stretch")), expected)


@pytest.mark.parametrize("height", [1, 3, 999])
@pytest.mark.parametrize("width", [1, 7, 500])
@pytest.mark.parametrize("share", [1.0, 0.875, 0.3])
def test_every_size_gives_an_image(height, width, share):
    content = encoded(np.full((height, width, 3), 77, np.uint8))
    for fit in (Fit(13, 17, "crop", share), Fit(13, 17, "stretch")):
        assert decode(content, fit).unique().tolist() == [77]


def test_shrinking_averages():
    """Not every second pixel: a board of black and white becomes grey."""
    board = np.indices((64, 64)).sum(0) % 2 * 255
    small = decode(encoded(board.astype(np.uint8)), Fit(8, 8))
    assert 120 < int(small[:, 1:-1, 1:-1].float().mean()) < 135
    assert int(small[:, 1:-1, 1:-1].max()) - int(small[:, 1:-1, 1:-1].min()) < 10


# --- Refused ---


def bomb() -> bytes:
    """20,000 x 20,000 pixels in a few bytes."""
    content = bytearray(png16(np.zeros((1, 1), np.uint16)))
    content[16:24] = struct.pack(">II", 20_000, 20_000)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    return bytes(content)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch) system\n"
BAD = {
    "empty": (b"", "no image"),
    "text": (b"<html>404</html>", "no image"),
    "postscript": (EPS, "no image"),
    "another format": (encoded(PHOTO, "GIF"), "no image"),
    "a jpeg without its end": (encoded(PHOTO, "JPEG")[:-30], "truncated"),
    "head of a jpeg": (encoded(PHOTO, "JPEG")[:300], "Truncated"),
    "half a png": (encoded(PHOTO)[:500], "truncated"),
    "bomb": (bomb(), "decompression bomb"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_refused(name):
    content, reason = BAD[name]
    with pytest.raises(ValueError, match=reason) as caught:
        decode(content, Fit(8, 8))
    assert "\n" not in str(caught.value)


def test_another_size_is_refused_where_none_is_allowed():
    with pytest.raises(ValueError, match=r"^is 20x30, not 30x20$"):
        decode(encoded(PHOTO), Fit(30, 20, "never"))
