"""Folders of images, one folder a class: a data set of your own, or ImageNet.

Shapes: ``N`` images of a split, ``H, W`` image.
"""

import os
from pathlib import Path
from typing import ClassVar

import torch

from kd_bench.config.ranges import Count, ImageSize, OpenFraction, PositiveFraction
from kd_bench.data.image_files import check_all, read_all
from kd_bench.data.presence import IMAGE_FOLDER, IMAGENET, Place
from kd_bench.data.reading.decoding import SUFFIXES, Fit, Resize
from kd_bench.data.reading.preparing import few
from kd_bench.data.source import DataSource, ImageArrays, Split
from kd_bench.data.splits import carve
from kd_bench.errors import ConfigError, IntegrityError


class ImageFolder(DataSource):
    """A folder with ``train/<class>/**`` and, if there is an official test split, ``test/<class>/**`` or ``val/...``.

    Classes are the folders of ``train``, sorted by name. The content hash is taken of names and bytes of the files, so
    it is the same in memory and on disk, wherever the folder lies. Every file is decoded once before any training.

    Args:
        root: the folder.
        image_size: [H, W] that images are brought to.
        resize: ``crop`` keeps the proportions and cuts the middle out, ``stretch`` does not.
        crop_share: share of the shorter side that ``crop`` keeps.
        test_fraction: share of ``train`` that becomes the test split where there is no folder for it.
        in_memory_bytes: decoded sets up to this size are held in memory, larger ones stay on disk and are decoded by
            the loader's workers. It changes no pixel.
        cache: folder for the checksums of files that stay on disk; ``root`` itself if null.
        full_resolution: cut random crops from the photographs as they are stored, as published for ImageNet, not from
            what ``resize`` makes of them; and evaluate with torchvision's ``Resize`` and ``CenterCrop`` to the pixel.
            The images stay on disk, whatever their size.

    Raises:
        ConfigError: ``full_resolution`` with ``resize: stretch``.
    """

    place: ClassVar[Place] = IMAGE_FOLDER
    test_folders: ClassVar[tuple[str, ...]] = ("test", "val")

    def __init__(
        self,
        root: str,
        image_size: ImageSize,
        resize: Resize = "crop",
        crop_share: PositiveFraction = 1.0,
        test_fraction: OpenFraction = 0.2,
        in_memory_bytes: Count = 2 << 30,
        cache: str | None = None,
        full_resolution: bool = False,
    ) -> None:
        height, width = image_size
        if full_resolution and resize != "crop":
            raise ConfigError(f"dataset.source.resize={resize}: full_resolution keeps the proportions; allowed: crop")
        self.root, self.full_resolution = Path(root).expanduser(), full_resolution
        self.fit = Fit(height, width, "two_steps" if full_resolution else resize, crop_share)
        self.test_fraction, self.in_memory_bytes = test_fraction, in_memory_bytes
        self.cache = Path(cache).expanduser() if cache else self.root

    def load(self) -> ImageArrays:
        train = self._labelled("train")
        class_names = list(train)
        test_folder = next((folder for folder in self.test_folders if (self.root / folder).is_dir()), None)
        test = self._labelled(test_folder) if test_folder else {}
        if strangers := sorted(test.keys() - train.keys()):
            raise IntegrityError(
                f"{self.root / (test_folder or '')}: {len(strangers)} folders are no classes of train: {few(strangers)}"
            )
        labelled = [*_flat(train, class_names), *_flat(test, class_names)]
        everything, count = self._read(labelled), sum(len(files) for files in train.values())
        if test_folder:
            return ImageArrays(everything.subset(slice(count)), everything.subset(slice(count, None)), class_names)
        held_out, rest = carve(everything.targets, round(self.test_fraction * count), "image_folder/test")
        return ImageArrays(everything.subset(rest), everything.subset(held_out), class_names)

    def classes(self, folder: str = "train") -> list[str]:
        """Return the names of the class folders, sorted."""
        self.place.require(self.root)
        with os.scandir(self.root / folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))

    def _labelled(self, folder: str) -> dict[str, list[str]]:
        """Return the image files of each class, relative to the root, sorted."""
        top = self.root / folder
        found = {name: _images(self.root, f"{folder}/{name}") for name in self.classes(folder)}
        if empty := [name for name, files in found.items() if not files]:
            raise IntegrityError(
                f"{top}: {len(empty)} of {len(found)} classes have no image ({', '.join(SUFFIXES)}): {few(empty)}"
            )
        if not found:
            raise IntegrityError(f"{top}: there is no folder of a class")
        return found

    def _read(self, labelled: list[tuple[str, int]]) -> Split:
        names, targets = [name for name, _ in labelled], torch.tensor([label for _, label in labelled])
        size = len(names) * 3 * self.fit.height * self.fit.width
        if size <= self.in_memory_bytes and not self.full_resolution:
            images, files = read_all(self.root, names, self.fit)
            return Split(images, targets, files)
        lazy, files = check_all(self.root, names, self.fit, self.cache)
        return Split(lazy, targets, files)


class ImageNet(ImageFolder):
    """ILSVRC2012: ``train/<wnid>/*.JPEG`` and ``val/<wnid>/*.JPEG``; the official validation split is the test split.

    Arguments are those of :class:`ImageFolder`; ``test_fraction`` has no use here.
    """

    place = IMAGENET
    test_folders = ("val",)


def _images(root: Path, folder: str) -> list[str]:
    found = []
    for at, _, files in os.walk(root / folder):
        here = Path(at).relative_to(root).as_posix()
        found += [f"{here}/{name}" for name in files if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    return sorted(found)


def _flat(labelled: dict[str, list[str]], class_names: list[str]) -> list[tuple[str, int]]:
    return [(name, label) for label, each in enumerate(class_names) for name in labelled.get(each, [])]
