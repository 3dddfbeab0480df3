"""Files in the layout of CIFAR-10-C, made here: read as they are, or refused by name."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.source import ImageArrays, Split
from kd_bench.errors import IntegrityError
from kd_bench.evaluation.cifar_c import KINDS, CifarC
from kd_bench.evaluation.robustness import on_cifar_c

TARGETS = torch.tensor([3, 1, 4, 1, 5, 9, 2])


def content(kind: str, severity: int, position: int) -> int:
    """The value of all pixels of an image."""
    return KINDS.index(kind) * 10 + severity + 30 * position % 100


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "CIFAR-10-C"
    path.mkdir()
    for kind in KINDS:
        values = [content(kind, severity, position) for severity in range(1, 6) for position in range(len(TARGETS))]
        images = np.array(values, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), dtype=np.uint8)
        images[:, :, :, 2] += 1  # channels come last
        np.save(path / f"{kind}.npy", images)
    np.save(path / "labels.npy", np.tile(TARGETS.numpy(), 5).astype(np.uint8))
    return path


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_each_severity_is_a_block_of_the_file_in_the_order_of_the_test_split(folder, batch_size):
    files = CifarC(folder, TARGETS)
    for kind, severity in (("gaussian_noise", 1), ("fog", 3), ("jpeg_compression", 5)):
        batches = list(files.batches(kind, severity, batch_size))
        images, index = torch.cat([part for part, _ in batches]), torch.cat([part for _, part in batches])
        assert images.shape == (7, 3, 32, 32)
        assert index.tolist() == list(range(7))
        expected = [content(kind, severity, position) for position in range(7)]
        assert images[:, 0, 5, 6].tolist() == expected
        assert images[:, 2, 5, 6].tolist() == [value + 1 for value in expected]


def test_the_content_is_hashed(folder):
    digest = hashlib.sha256()
    for name in (*KINDS, "labels"):
        digest.update((folder / f"{name}.npy").read_bytes())
    assert CifarC(folder, TARGETS).sha256 == digest.hexdigest()


def test_accuracy_by_corruption_and_severity_comes_from_the_right_images(folder):
    """The networks of this test are right on an image whose value is even."""
    arrays = ImageArrays(
        *[Split(torch.zeros(7, 3, 32, 32, dtype=torch.uint8), TARGETS)] * 2, [str(k) for k in range(10)]
    )
    spec = DataSpec(10, (32, 32), (0.5,) * 3, (0.5,) * 3)
    data = ImageDataModule(arrays, spec, Augmentation(), 4, 0, 0.3)
    values, truth = [], {}

    def student(batches) -> float:
        values.append([int(v) for batch in batches for v in batch.images[:, 0, 0, 0]])
        return sum(value % 2 == 0 for value in values[-1]) / 7

    for kind in KINDS:
        rows = [[content(kind, severity, position) for position in range(7)] for severity in range(1, 6)]
        truth[kind] = [sum(value % 2 == 0 for value in row) / 7 for row in rows]
    found = on_cifar_c(folder, data, 0.75, student, lambda batches: 0.5)
    assert found.top1 == truth
    assert (found.name, found.samples, found.severities, found.clean_top1) == ("CIFAR-10-C", 7, [1, 2, 3, 4, 5], 0.75)
    errors = [sum(1 - value for value in row) / 2.5 for row in truth.values()]
    assert found.mce == pytest.approx(np.mean(errors))
    assert found.teacher_mean_top1 == 0.5


def damage(folder: Path, name: str, array: np.ndarray | bytes | None) -> None:
    path = folder / f"{name}.npy"
    if array is None:
        path.unlink()
    elif isinstance(array, bytes):
        path.write_bytes(array)
    else:
        np.save(path, array, allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("fog", None, r"fog\.npy cannot be read"),
        ("fog", b"no array", r"fog\.npy cannot be read"),
        ("fog", b"", r"fog\.npy cannot be read"),
        ("fog", np.array([object()], dtype=object), r"fog\.npy cannot be read"),
        (
            "fog",
            np.zeros((34, 32, 32, 3), dtype=np.uint8),
            r"fog\.npy: should be whole numbers of shape \(35, 32, 32, 3\)",
        ),
        ("fog", np.zeros((35, 32, 32, 3), dtype=np.float32), "not float32"),
        ("labels", np.zeros(35, dtype=np.int64), "are not the labels of the test split"),
        ("labels", np.zeros(7, dtype=np.int64), r"labels\.npy: should be whole numbers of shape \(35,\)"),
    ],
)
def test_files_that_are_not_right_are_refused(folder, name, array, message):
    damage(folder, name, array)
    with pytest.raises(IntegrityError, match=message):
        CifarC(folder, TARGETS)
