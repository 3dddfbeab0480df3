"""Means over corruptions by hand, and the images that networks are measured on."""

import pytest
import torch

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.digits import Digits
from kd_bench.evaluation import robustness
from kd_bench.evaluation.corruptions import CORRUPTIONS, corrupted
from kd_bench.evaluation.robustness import on_generated, summary


def test_summary_by_hand():
    top1 = {"fog": [0.8, 0.6], "snow": [0.5, 0.1]}
    teacher = {"snow": [0.8, 0.7], "fog": [0.9, 0.7]}
    found = summary("mine", None, 100, (1, 2), 0.8, top1, teacher)
    assert found.mean_top1 == pytest.approx(0.5)
    assert found.relative_top1 == pytest.approx(0.625)
    assert found.teacher_mean_top1 == pytest.approx(0.775)
    assert found.mce == pytest.approx((0.6 / 0.4 + 1.4 / 0.5) / 2)


def test_what_cannot_be_divided_is_undefined():
    perfect = {"fog": [1.0, 1.0], "snow": [0.5, 0.5]}
    assert summary("mine", None, 100, (1, 2), 0.8, perfect, perfect).mce is None
    alone = summary("mine", None, 100, (1, 2), 0.0, perfect, None)
    assert (alone.relative_top1, alone.mce, alone.teacher_mean_top1, alone.teacher_top1) == (None, None, None, None)


@pytest.fixture
def data(monkeypatch) -> ImageDataModule:
    monkeypatch.setattr(robustness, "SAMPLES", 150)
    spec = DataSpec(10, (8, 8), (0.3,) * 3, (0.4,) * 3)
    return ImageDataModule(Digits(0.4).load(), spec, Augmentation(), 32, 0, 0.2)


def test_networks_see_the_same_stratified_images_corrupted_by_their_position(data):
    seen = []

    def network(batches) -> float:
        batches = list(batches)
        seen.append((torch.cat([b.images for b in batches]), torch.cat([b.targets for b in batches])))
        return 0.25

    found = on_generated(data, network, network)
    assert (found.name, found.samples, found.severities) == ("kd_bench corruptions 1", 150, [1, 2, 3])
    assert list(found.top1) == list(CORRUPTIONS)
    clean, targets = seen[0]
    assert torch.bincount(targets).tolist() == [15] * 10
    pairs = len(CORRUPTIONS) * 3
    assert len(seen) == 1 + 2 * pairs
    keys = {image.numpy().tobytes(): position for position, image in enumerate(data.test.images)}
    positions = torch.tensor([keys[image.numpy().tobytes()] for image in clean])
    kinds = [(kind, severity) for kind in CORRUPTIONS for severity in (1, 2, 3)]
    for (kind, severity), (ours, labels), (theirs, _) in zip(
        kinds, seen[1 : 1 + pairs], seen[1 + pairs :], strict=True
    ):
        assert torch.equal(ours, corrupted(clean, positions, kind, severity))
        assert torch.equal(ours, theirs)
        assert torch.equal(labels, targets)
