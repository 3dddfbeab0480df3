"""Tiny ImageNet (Le & Yang 2015): 100,000 training and 10,000 test images of 64x64 pixels in 200 classes.

The official validation split is the test split here, as in the literature: the official test labels are not public.
Shapes: ``N`` images of a split.
"""

import json
import re
import zipfile
import zlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from kd_bench.data.presence import TINY_FOLDER, TINY_IMAGENET, TINY_PREPARED
from kd_bench.data.reading.archives import Files, FolderFiles, ZipFiles, open_known
from kd_bench.data.reading.decoding import SUFFIXES, Fit, decode
from kd_bench.data.reading.download import check_digest, fetch
from kd_bench.data.reading.preparing import exclusive, few, in_threads, write_complete
from kd_bench.data.source import DataSource, ImageArrays, Split
from kd_bench.errors import IntegrityError

SIDE = 64
ZIP_MD5 = "md5:90528d7ca1a48142e341f4ef8d21d0de"  # not published by its authors; the value that its users check
UNPACKED_LIMIT = 1 << 30  # bytes; the official archive unpacks to less than 300 MB
PREPARED_LIMIT = 1 << 31  # bytes of the pixels of all images
_FIT = Fit(SIDE, SIDE, "never")
_WNID = re.compile(r"n\d{8}")
Labelled = list[tuple[str, int]]


class TinyImageNet(DataSource):
    """Tiny ImageNet from its archive or its unpacked folder.

    Every image is decoded once; the pixels are kept in ``tiny-imagenet-200.safetensors`` in the root (1.3 GB) and the
    original may go then. Classes are the WordNet ids, sorted, as folders of images are sorted elsewhere.

    Args:
        root: folder that holds ``tiny-imagenet-200.zip``, or ``tiny-imagenet-200/`` or what is in it.
        verify: compare the archive with its known checksum before it is decoded. Data that are not verified get another
            content hash anyway.
        download: fetch the archive if nothing is there.
    """

    def __init__(self, root: str, verify: bool = True, download: bool = False) -> None:
        self.root, self.verify, self.download = Path(root).expanduser(), verify, download

    def load(self) -> ImageArrays:
        if self.download and TINY_IMAGENET.find(self.root) is None:
            retry = "kd-bench train dataset=tiny_imagenet dataset.source.download=true"
            fetch(TINY_IMAGENET.published, ZIP_MD5, self.root / TINY_IMAGENET.file, retry)
        paths = TINY_IMAGENET.require(self.root)
        prepared = self.root / TINY_PREPARED
        if not prepared.exists():
            with exclusive(prepared):
                if not prepared.exists():
                    arrays = self._decoded(paths)
                    write_complete(prepared, lambda path: _save(arrays, path))
        return _load(prepared)

    def _decoded(self, paths: list[Path]) -> ImageArrays:
        if len(paths) > 1:
            return decode_all(FolderFiles(paths[0].parent), str(paths[0].parent))
        if self.verify:
            check_digest(paths[0], ZIP_MD5)
        return decode_all(ZipFiles(paths[0], TINY_FOLDER, UNPACKED_LIMIT), str(paths[0]))


def decode_all(files: Files, origin: str) -> ImageArrays:
    """Decode the data set in its official layout.

    Args:
        origin: folder or archive, for error messages.

    Raises:
        IntegrityError: a list does not fit the layout, a class has no images, or images cannot be read.
    """
    wnids = sorted(_lines(files, "wnids.txt", origin))
    if not wnids or len(set(wnids)) < len(wnids) or not all(map(_WNID.fullmatch, wnids)):
        raise IntegrityError(f"{origin}: wnids.txt is no list of different WordNet ids")
    words = dict(line.partition("\t")[::2] for line in _lines(files, "words.txt", origin))
    class_names = [words.get(wnid, wnid).partition(",")[0] for wnid in wnids]
    train = _train_files(files, wnids, origin)
    test = _test_files(files, wnids, origin)
    return ImageArrays(_decode(files, train, origin), _decode(files, test, origin), class_names)


def _lines(files: Files, name: str, origin: str) -> list[str]:
    try:
        return [line.strip() for line in files.read(name).decode("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise IntegrityError(f"{origin}: {name} cannot be read: {error}") from error


def _train_files(files: Files, wnids: list[str], origin: str) -> Labelled:
    found = {wnid: [n for n in files.listing(f"train/{wnid}/images") if n.lower().endswith(SUFFIXES)] for wnid in wnids}
    if empty := [wnid for wnid, names in found.items() if not names]:
        raise IntegrityError(f"{origin}: {len(empty)} of {len(wnids)} classes have no training image: {few(empty)}")
    return [(name, label) for label, wnid in enumerate(wnids) for name in found[wnid]]


def _test_files(files: Files, wnids: list[str], origin: str) -> Labelled:
    rows = [line.split("\t") for line in _lines(files, "val/val_annotations.txt", origin)]
    labels = {wnid: label for label, wnid in enumerate(wnids)}
    bad = ["\t".join(row[:2]) for row in rows if len(row) < 2 or row[1] not in labels or "/" in row[0]]
    if bad or not rows:
        raise IntegrityError(f"{origin}: val_annotations.txt has {len(bad)} lines of no known class: {few(bad)}")
    return [(f"val/images/{row[0]}", labels[row[1]]) for row in rows]


def _decode(files: Files, labelled: Labelled, origin: str) -> Split:
    images = torch.empty(len(labelled), 3, SIDE, SIDE, dtype=torch.uint8)

    def one(position: int) -> str:
        name, _ = labelled[position]
        try:
            images[position] = decode(files.read(name), _FIT)
        except (OSError, ValueError, zlib.error, zipfile.BadZipFile) as error:
            return f"{name} ({getattr(error, 'strerror', None) or error})"
        return ""

    if bad := [problem for problem in in_threads(one, len(labelled), f"decoding {origin}") if problem]:
        raise IntegrityError(f"{origin}: {len(bad)} images cannot be read: {few(bad)}")
    return Split(images, torch.tensor([label for _, label in labelled]))


def _save(arrays: ImageArrays, path: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for part, split in (("train", arrays.train), ("test", arrays.test)):
        assert isinstance(split.images, Tensor)
        tensors |= {f"{part}/images": split.images, f"{part}/targets": split.targets}
    names = json.dumps(arrays.class_names, ensure_ascii=False)
    try:
        save_file(tensors, path, metadata={"class_names": names, "content_sha256": arrays.content_sha256})
    except SafetensorError as error:  # what a full disk is to it
        raise OSError(str(error)) from error


def _load(path: Path) -> ImageArrays:
    open_known(path, PREPARED_LIMIT).close()
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            train, test = (
                Split(file.get_tensor(f"{part}/images"), file.get_tensor(f"{part}/targets"))
                for part in ("train", "test")
            )
        arrays = ImageArrays(train, test, json.loads(metadata["class_names"]))
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}; delete it to have it made again") from error
    if arrays.content_sha256 != metadata["content_sha256"]:
        raise IntegrityError(f"{path} has changed since it was made; delete it to have it made again")
    return arrays
