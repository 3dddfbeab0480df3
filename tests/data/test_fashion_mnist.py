"""Fashion-MNIST in the format of the official files: what they hold, and what is refused."""

import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_bench.data import fashion_mnist, presence
from kd_bench.data.fashion_mnist import FashionMnist, read_idx

from .formats import fashion, idx, place

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
CONTENT_SHA256 = "c2d5593f51bbde7af9c481aefa815240aaea94895d4631cec52e4ebad34ae570"
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def no_package(monkeypatch):
    """As if Debian's package were not installed."""
    place = presence.FASHION_MNIST
    ways = tuple(way for way in place.ways if not way[0].startswith("/"))
    monkeypatch.setattr(fashion_mnist, "FASHION_MNIST", presence.Place(**{**vars(place), "ways": ways}))


def load(root: Path, **options):
    return FashionMnist(str(root), **{"verify": False, **options}).load()


def test_the_arrays_are_those_of_the_files(tmp_path):
    arrays = load(place(tmp_path, fashion()))
    grey = np.random.default_rng(0).integers(0, 256, (40, 28, 28))
    assert arrays.train.images.shape == (40, 3, 28, 28)
    assert arrays.train.images.dtype == torch.uint8
    for channel in range(3):
        assert np.array_equal(arrays.train.images[:, channel].numpy(), grey)
    assert arrays.test.targets.tolist() == [i % 10 for i in range(20)]
    assert arrays.class_names == [
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    ]  # fmt: skip
    arrays.check("fashion_mnist", 10, (28, 28))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    "folder", ["fashion_mnist", "fashion_mnist/raw", "fashion_mnist/FashionMNIST/raw", "FashionMNIST/raw"]
)
def test_files_are_found_packed_or_not_and_where_torchvision_puts_them(tmp_path, folder, packed):
    place(tmp_path / folder, fashion(packed))
    place(tmp_path / "elsewhere", fashion())
    (tmp_path / "fashion_mnist").mkdir(exist_ok=True)
    found = load(tmp_path / "fashion_mnist")
    assert found.content_sha256 == load(tmp_path / "elsewhere").content_sha256


def test_the_values_are_in_the_order_of_the_description():
    array = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    assert np.array_equal(read_idx(idx(array), 3, "x").numpy(), array)
    assert read_idx(b"\0\0\x08\x01\0\0\0\x02\x05\x07", 1, "x").tolist() == [5, 7]


def test_absent_data_say_what_to_place_where(tmp_path, refused):
    with refused(f"{IMAGES}.gz", f" at {tmp_path / 'none'} ", "apt-get install dataset-fashion-mnist", "download=true"):
        load(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_other_data_do_not_pass_for_the_official_ones(tmp_path, refused):
    with refused(f"{IMAGES}.gz: md5 of the unpacked file is ", "f4a8712d7a061bf5bd6d2ca38dc4d50a was published"):
        load(place(tmp_path, fashion()), verify=True)


def packed(content: bytes) -> bytes:
    return gzip.compress(content)


GOOD = idx(np.zeros((40, 28, 28)))
BAD = {
    "no gzip": (IMAGES, b"<html>404</html>", "Not a gzipped file"),
    "empty file": (IMAGES, b"", "no idx file"),
    "cut off": (IMAGES, packed(GOOD)[:-20], "ended before"),
    "flipped byte": (IMAGES, packed(GOOD)[:30] + b"\xff\xff" + packed(GOOD)[32:], "is refused"),
    "no idx": (IMAGES, packed(b"hello"), "no idx file of bytes with 3 dimensions"),
    "floats": (IMAGES, packed(b"\0\0\x0d\x03" + GOOD[4:]), "no idx file of bytes"),
    "labels for images": (IMAGES, packed(idx(np.zeros(40))), "no idx file of bytes with 3 dimensions"),
    "too short": (IMAGES, packed(GOOD[:-1]), "31359 values, but announces 31360"),
    "too long": (IMAGES, packed(GOOD + b"\0"), "31361 values, but announces 31360"),
    "header only": (IMAGES, packed(GOOD[:8]), "no idx file"),
    "boasting": (IMAGES, packed(b"\0\0\x08\x03" + b"\xff" * 12 + GOOD[16:]), "but announces"),
    "no images": (IMAGES, packed(idx(np.zeros((0, 28, 28)))), "is empty"),
    "fewer labels": (LABELS, packed(idx(np.zeros(39))), "39 labels for 40 images"),
    "label 10": (
        LABELS,
        packed(idx(np.arange(40) % 11)),
        "3 labels out of range 0 to 9: 10 of image 10, 10 of image 21",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused(tmp_path, refused, name):
    file, content, reason = BAD[name]
    with refused(str(tmp_path / f"{file}.gz"), "is refused", reason):
        load(place(tmp_path, {**fashion(), f"{file}.gz": content}))


def test_a_bomb_is_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "SIZE_LIMIT", 100_000)
    with refused(f"{IMAGES}.gz", "unpacks to over 100000 bytes"):
        load(place(tmp_path, {**fashion(), f"{IMAGES}.gz": packed(bytes(10_000_000))}))


STRANGE = {
    "pipe": (os.mkfifo, "it is no regular file"),
    "folder": (Path.mkdir, "it is no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
    "huge": (lambda path: (path.touch(), os.truncate(path, 1 << 40)), "it is larger than 256 MiB"),
}


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("packed", [True, False])
def test_what_is_no_file_of_a_sensible_size_is_refused_at_once(tmp_path, refused, packed, name):
    make, reason = STRANGE[name]
    path = place(tmp_path, fashion(packed)) / (f"{IMAGES}.gz" if packed else IMAGES)
    path.unlink()
    make(path)
    with refused(f"{path} is refused: {reason}"):
        load(tmp_path, verify=True)


@pytest.mark.slow
@pytest.mark.skipif(not DEBIAN.is_dir(), reason="apt-get install dataset-fashion-mnist")
def test_the_real_data_are_the_published_ones(compose, tmp_path):
    """From Debian's package, against their description: 6,000 and 1,000 of each of 10 kinds, 28x28, 0 to 255."""
    root = place(tmp_path, {path.name: path.read_bytes() for path in DEBIAN.iterdir()})
    arrays = FashionMnist(str(root)).load()
    assert arrays.content_sha256 == CONTENT_SHA256
    assert torch.bincount(arrays.train.targets).tolist() == [6000] * 10
    assert torch.bincount(arrays.test.targets).tolist() == [1000] * 10
    assert arrays.train.targets[:5].tolist() == [9, 0, 0, 3, 0]  # the first is an ankle boot
    grey = [Counter(image.tobytes() for image in split.images[:, 0].numpy()) for split in (arrays.train, arrays.test)]
    assert arrays.duplicates == sum(count for image, count in grey[1].items() if image in grey[0])
    pixels = arrays.train.images[:, 0].double() / 255
    dataset = compose("dataset=fashion_mnist").dataset
    assert list(dataset.mean) == pytest.approx([float(pixels.mean())] * 3, abs=5e-5)
    assert list(dataset.std) == pytest.approx([float(pixels.std())] * 3, abs=5e-5)
    arrays.check("fashion_mnist", 10, (28, 28))
