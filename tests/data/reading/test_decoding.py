"""Image files of all kinds to uint8 RGB of one size, against Pillow and a slow formula."""

import io
import os
import struct
import subprocess
import sys
import threading
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from data.formats import encoded, pixels
from kd_bench.data.reading import decoding
from kd_bench.data.reading.archives import read_file
from kd_bench.data.reading.decoding import MOST_PIXELS, Fit, decode

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
    height, width = grey.shape
    return png(height, width, zlib.compress(b"".join(b"\0" + row.astype(">u2").tobytes() for row in grey)))


def png(height: int, width: int, compressed: bytes) -> bytes:
    """A 16-bit grey PNG of rows that are compressed already."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 16, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", compressed) + chunk(b"IEND", b"")


def black(side: int) -> bytes:
    """A whole PNG of black pixels, a thousandth of the size that it has in memory; made row by row."""
    packer, row = zlib.compressobj(), bytes(1 + 2 * side)
    return png(side, side, b"".join(packer.compress(row) for _ in range(side)) + packer.flush())


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


def bomb(side: int) -> bytes:
    """So many pixels in a few bytes."""
    return png(side, side, zlib.compress(bytes(3)))


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(touch) system\n"
BAD = {
    "empty": (b"", "no image"),
    "text": (b"<html>404</html>", "no image"),
    "postscript": (EPS, "no image"),
    "another format": (encoded(PHOTO, "GIF"), "no image"),
    "a jpeg without its end": (encoded(PHOTO, "JPEG")[:-30], "truncated"),
    "head of a jpeg": (encoded(PHOTO, "JPEG")[:300], "Truncated"),
    "half a png": (encoded(PHOTO)[:500], "truncated"),
    "bomb": (bomb(20_000), "decompression bomb"),
    "larger bomb": (bomb(30_000), "decompression bomb"),
    "smaller bomb": (bomb(9_000), "^has 9000x9000 pixels, more than the 80,000,000 allowed$"),
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


# --- Memory ---

PEAK = """
import resource, sys
from pathlib import Path
from kd_bench.data.reading.decoding import Fit, decode

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

content, before = Path(sys.argv[1]).read_bytes(), megabytes()
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
try:
    shape = decode(content, Fit(8, 8, "crop")).shape
except ValueError as error:
    shape = error
print(f"{megabytes() - before:.0f} {shape}")
"""


@pytest.mark.parametrize(
    ("side", "most", "says"),
    [(8_900, 9 * 8_900**2 / 1e6, "torch.Size([3, 8, 8])"), (13_000, 10, "has 13000x13000 pixels, more than the")],
    ids=["the largest allowed", "of 7 GB before there was a limit"],
)
def test_an_image_takes_nine_bytes_a_pixel_or_nothing(tmp_path, side, most, says):
    (tmp_path / "black.png").write_bytes(black(side))
    assert (tmp_path / "black.png").stat().st_size < 350_000
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path / "black.png"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    megabytes, _, shape = done.stdout.partition(" ")
    assert shape.startswith(says)
    assert int(megabytes) <= most


def test_a_process_decodes_no_more_pixels_at_once_than_its_budget(monkeypatch):
    content, plain = encoded(PHOTO), decoding._plain
    monkeypatch.setattr(decoding, "_IN_FLIGHT", decoding._InFlight(2 * 20 * 30 + 1))
    inside, most, two, guard = [0], [0], threading.Event(), threading.Lock()

    def watched(image):
        with guard:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            if inside[0] == 2:
                two.set()
        assert two.wait(10)  # two do go in together
        try:
            return plain(image)
        finally:
            with guard:
                inside[0] -= 1

    monkeypatch.setattr(decoding, "_plain", watched)
    threads = [threading.Thread(target=decode, args=(content, SAME)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert most == [2]


def test_an_image_that_fails_gives_its_budget_back():
    for _ in range(2):
        with pytest.raises(ValueError, match="truncated"):
            decode(png(8_000, 8_000, zlib.compress(bytes(100))), Fit(8, 8))
    assert decoding._IN_FLIGHT._left == MOST_PIXELS


def test_only_regular_files_of_a_sensible_size_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"^is no regular file$"):
        read_file(tmp_path / "pipe.png")
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match=r"^is larger than 256 MiB$"):
        read_file(tmp_path / "huge.png")
