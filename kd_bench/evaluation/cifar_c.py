"""CIFAR-10-C and CIFAR-100-C (Hendrycks & Dietterich 2019, arXiv:1903.12261), where the user has put them.

A folder holds ``labels.npy``, 50,000 labels, and a file a corruption, 50,000 images of 32x32: the 10,000 test images in
their order, at severities 1 to 5 one after the other. They are published at zenodo.org/records/2535967 and 3555552.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from kd_bench.errors import IntegrityError

FOLDERS = {"kd_bench.data.cifar.Cifar10": "CIFAR-10-C", "kd_bench.data.cifar.Cifar100": "CIFAR-100-C"}
SEVERITIES = (1, 2, 3, 4, 5)
LABELS = "labels"
# The 15 of the benchmark; four more files of the archive (speckle_noise, ...) are meant for development.
KINDS = (
    *("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)


class CifarC:
    """The corruptions of one data set.

    Args:
        folder: with the files.
        targets: (N,) of the test split, which the labels must repeat.

    Raises:
        IntegrityError: a file is missing, damaged, or belongs to another data set.
    """

    def __init__(self, folder: Path, targets: Tensor) -> None:
        self._images = {kind: _array(folder, kind, (len(SEVERITIES) * len(targets), 32, 32, 3)) for kind in KINDS}
        self.samples = len(targets)
        labels = _array(folder, LABELS, (len(SEVERITIES) * len(targets),))
        if not np.array_equal(labels, np.tile(targets.numpy(), len(SEVERITIES))):
            raise IntegrityError(f"{folder / LABELS}.npy: are not the labels of the test split, repeated")
        self.sha256 = _sha256([folder / f"{name}.npy" for name in (*KINDS, LABELS)])

    def batches(self, kind: str, severity: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, uint8 (B, 3, 32, 32), and their positions in the test split."""
        first = (severity - 1) * self.samples
        for start in range(0, self.samples, batch_size):
            stop = min(start + batch_size, self.samples)
            images = torch.from_numpy(self._images[kind][first + start : first + stop].copy())
            yield images.permute(0, 3, 1, 2).contiguous(), torch.arange(start, stop)


def _array(folder: Path, name: str, shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    path = folder / f"{name}.npy"
    try:
        array: npt.NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IntegrityError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
        raise IntegrityError(f"{path}: should be whole numbers of shape {shape}, not {array.dtype} of {array.shape}")
    return array


def _sha256(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
