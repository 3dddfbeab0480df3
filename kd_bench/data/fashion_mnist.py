"""Fashion-MNIST (Xiao et al. 2017, arXiv:1708.07747): 70,000 grey images of 28x28 pixels, 10,000 of them to test."""

import gzip
import zlib
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from kd_bench.data.presence import FASHION_FILES, FASHION_MNIST
from kd_bench.data.reading.archives import MOST_BYTES, open_known
from kd_bench.data.reading.download import bytes_digest, fetch
from kd_bench.data.source import DataSource, ImageArrays, Split, out_of_range
from kd_bench.errors import IntegrityError

# Sums of the unpacked files: packages compress them anew, so that only the archives' own checksums are published.
_SUMS = (
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
)
MD5 = dict(zip(FASHION_FILES, _SUMS, strict=True))
SIZE_LIMIT = MOST_BYTES
_UNSIGNED_BYTES = 8


class FashionMnist(DataSource):
    """60,000 training and 10,000 test images of 10 kinds of clothing; the grey values repeated to 3 channels.

    Args:
        root: folder with the four idx files, packed or not; torchvision's ``FashionMNIST/raw`` beside or below it and
            Debian's package ``dataset-fashion-mnist`` are found too.
        verify: compare the unpacked files with the checksums of the published ones. Data that are not verified get
            another content hash anyway.
        download: fetch the files if they are absent.
    """

    def __init__(self, root: str, verify: bool = True, download: bool = False) -> None:
        self.root, self.verify, self.download = Path(root).expanduser(), verify, download

    def load(self) -> ImageArrays:
        from torchvision.datasets import FashionMNIST as published  # type: ignore[import-untyped]

        if self.download and FASHION_MNIST.find(self.root) is None:
            retry = "kd-bench train dataset=fashion_mnist dataset.source.download=true"
            for name, md5 in published.resources:
                fetch(f"{published.mirrors[0]}{name}", f"md5:{md5}", self.root / name, retry)
        paths = FASHION_MNIST.require(self.root)
        names = list(published.classes)
        train_images, train_labels, test_images, test_labels = (
            self._read(path, name, dims) for path, name, dims in zip(paths, FASHION_FILES, (3, 1, 3, 1), strict=True)
        )
        return ImageArrays(
            _split(paths[1], train_images, train_labels, len(names)),
            _split(paths[3], test_images, test_labels, len(names)),
            names,
        )

    def _read(self, path: Path, name: str, dimensions: int) -> Tensor:
        content = _unpacked(path)
        if self.verify and (actual := bytes_digest(content, "md5")) != MD5[name]:
            raise IntegrityError(f"{path}: md5 of the unpacked file is {actual}, but {MD5[name]} was published")
        return read_idx(content, dimensions, str(path))


def read_idx(content: bytes, dimensions: int, origin: str) -> Tensor:
    """Read the unsigned bytes of an idx file: two zeros, the type, the number of dimensions, the sizes, the values.

    Args:
        origin: the file, for error messages.

    Raises:
        IntegrityError: ``content`` is no such file.
    """
    start = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)) or len(content) < start:
        raise IntegrityError(f"{origin} is refused: it is no idx file of bytes with {dimensions} dimensions")
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if len(content) - start != prod(shape):
        raise IntegrityError(f"{origin} is refused: it has {len(content) - start} values, but announces {prod(shape)}")
    if not prod(shape):
        raise IntegrityError(f"{origin} is refused: it is empty")
    return torch.frombuffer(bytearray(content[start:]), dtype=torch.uint8).reshape(shape)


def _unpacked(path: Path) -> bytes:
    try:
        with open_known(path, SIZE_LIMIT) as file:
            if path.suffix != ".gz":
                return file.read(SIZE_LIMIT)
            with gzip.open(file) as unpacked:
                content = unpacked.read(SIZE_LIMIT + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise IntegrityError(f"{path} is refused: {error}") from error
    if len(content) > SIZE_LIMIT:
        raise IntegrityError(f"{path} is refused: it unpacks to over {SIZE_LIMIT} bytes")
    return content


def _split(origin: Path, grey: Tensor, labels: Tensor, classes: int) -> Split:
    if len(grey) != len(labels):
        raise IntegrityError(f"{origin} is refused: {len(labels)} labels for {len(grey)} images")
    targets = labels.long()
    if bad := out_of_range(targets, classes):
        raise IntegrityError(f"{origin} is refused: {bad}")
    return Split(grey[:, None].expand(-1, 3, -1, -1).contiguous(), targets)
