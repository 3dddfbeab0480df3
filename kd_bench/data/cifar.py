"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009): 60,000 colour photographs of 32x32 pixels with an official test split.

Read from the official Python archives, or from their unpacked folders. Shapes: ``N`` images of a file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from kd_bench.data.presence import CIFAR10, CIFAR10_FOLDER, CIFAR100, CIFAR100_FOLDER, Place
from kd_bench.data.reading.archives import MOST_BYTES, open_known, read_tar
from kd_bench.data.reading.download import bytes_digest, check_digest, fetch
from kd_bench.data.reading.pickles import read_pickle
from kd_bench.data.reading.preparing import few
from kd_bench.data.source import DataSource, ImageArrays, Split
from kd_bench.errors import IntegrityError

SIDE = 32
UNPACKED_LIMIT = 1 << 29  # bytes; the official archives unpack to less than 200 MB


class Cifar10(DataSource):
    """CIFAR-10: 50,000 training and 10,000 test images of 10 classes.

    Args:
        root: folder that holds ``cifar-10-python.tar.gz`` or the folder that it unpacks to.
        verify: compare the files with their published checksums. Data that are not verified may be anything; their
            content hash, which is part of every run's fingerprint and record, tells them from the official ones.
        download: fetch the archive if it is absent.
    """

    place: ClassVar[Place] = CIFAR10
    folder: ClassVar[str] = CIFAR10_FOLDER
    choice: ClassVar[str] = "cifar10"
    labels_key: ClassVar[str] = "labels"

    def __init__(self, root: str, verify: bool = True, download: bool = False) -> None:
        self.root, self.verify, self.download = Path(root).expanduser(), verify, download

    def load(self) -> ImageArrays:
        published = self._published()
        if self.download and self.place.find(self.root) is None:
            retry = f"kd-bench train dataset={self.choice} dataset.source.download=true"
            archive = self.root / self.place.file
            fetch(published.url, f"md5:{published.tgz_md5}", archive, retry)
        paths = self.place.require(self.root)
        meta, train, test = published.meta, published.train_list, published.test_list
        sums = {meta["filename"]: meta["md5"], **dict(train), **dict(test)}
        found = {name: self._dictionary(name, content, sums[name]) for name, content in self._members(paths, sums)}
        if missing := sorted(sums.keys() - found.keys()):
            raise IntegrityError(f"{paths[0]}: {few(missing)} missing")
        names = self._class_names(found[meta["filename"]].get(meta["key"]))
        return ImageArrays(
            self._split([name for name, _ in train], found, len(names)),
            self._split([name for name, _ in test], found, len(names)),
            names,
        )

    def _published(self) -> Any:
        """Return torchvision's class of this data set, for the published names and checksums that it carries."""
        from torchvision.datasets import CIFAR10 as published  # type: ignore[import-untyped]

        return published

    def _members(self, paths: list[Path], wanted: dict[str, str]) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents of the ``wanted`` files."""
        if len(paths) > 1:
            for path in paths:
                with open_known(path, MOST_BYTES) as file:
                    yield path.name, file.read(MOST_BYTES)
            return
        if self.verify:
            check_digest(paths[0], f"md5:{self._published().tgz_md5}")
        yield from read_tar(paths[0], self.folder, wanted, UNPACKED_LIMIT)

    def _dictionary(self, name: str, content: bytes, md5: str) -> dict[str, Any]:
        origin = f"{self.place.title}: {name}"
        if self.verify and (actual := bytes_digest(content, "md5")) != md5:
            raise IntegrityError(f"{origin}: md5 is {actual}, but {md5} was published")
        return read_pickle(content, origin)

    def _class_names(self, names: Any) -> list[str]:
        if not isinstance(names, list) or not names or not all(isinstance(name, bytes | str) for name in names):
            raise IntegrityError(f"{self.place.title}: the file of class names holds none")
        return [name.decode("latin1") if isinstance(name, bytes) else name for name in names]

    def _split(self, names: list[str], found: dict[str, dict[str, Any]], classes: int) -> Split:
        parts = [self._samples(name, found[name], classes) for name in names]
        return Split(torch.cat([images for images, _ in parts]), torch.cat([targets for _, targets in parts]))

    def _samples(self, name: str, content: dict[str, Any], classes: int) -> tuple[Tensor, Tensor]:
        """Return images (N, 3, 32, 32) and targets (N,) of one file."""
        data, labels = content.get("data"), content.get(self.labels_key)
        if not isinstance(data, np.ndarray) or data.ndim != 2 or data.shape[1] != 3 * SIDE * SIDE:
            raise IntegrityError(f"{self.place.title}: {name} holds no images of 3x{SIDE}x{SIDE}")
        if not isinstance(labels, list) or len(labels) != len(data):
            raise IntegrityError(f"{self.place.title}: {name} has not one label for each of its {len(data)} images")
        bad = [f"{label!r} of image {i}" for i, label in enumerate(labels) if not _is_label(label, classes)]
        if bad:
            raise IntegrityError(f"{self.place.title}: {name} has {len(bad)} labels out of range: {few(bad)}")
        images = torch.from_numpy(np.array(data).reshape(-1, 3, SIDE, SIDE))
        return images, torch.tensor(labels, dtype=torch.int64)


def _is_label(label: Any, classes: int) -> bool:
    return type(label) is int and 0 <= label < classes


class Cifar100(Cifar10):
    """CIFAR-100: 50,000 training and 10,000 test images of 100 fine classes.

    Args:
        root: folder that holds ``cifar-100-python.tar.gz`` or the folder that it unpacks to.
        verify: as for :class:`Cifar10`.
        download: fetch the archive if it is absent.
    """

    place = CIFAR100
    folder = CIFAR100_FOLDER
    choice = "cifar100"
    labels_key = "fine_labels"

    def _published(self) -> Any:
        from torchvision.datasets import CIFAR100 as published

        return published
