"""Mixing of batches against torchvision's MixUp and CutMix given the same share and rectangle."""

import pytest
import torch
from pydantic import ValidationError
from scipy import stats
from torchvision.transforms import v2

from kd_bench.config.augmentation_keys import Mixing
from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import Batch
from kd_bench.data.mixing import cutmix, mix, mixup, rectangle, soft_targets

CLASSES = 5


def batch(first: int = 0, size: int = 6, views: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(2)
    images = torch.rand(views, size, 3, 10, 8, generator=generator)
    return Batch(images[0] if views == 1 else images, torch.arange(size) % CLASSES, torch.arange(first, first + size))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_mixup_is_torchvisions(share, monkeypatch):
    given = batch()
    monkeypatch.setattr(v2.MixUp, "make_params", lambda self, inputs: {"lam": share})
    images, labels = v2.MixUp(num_classes=CLASSES)(given.images, given.targets)
    assert torch.allclose(mixup(given.images, share), images)
    assert torch.allclose(soft_targets(given.targets, share, CLASSES), labels)


@pytest.mark.parametrize(("row", "column"), [(0.5, 0.5), (0.0, 0.99), (0.9, 0.1)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_cutmix_is_torchvisions(share, row, column, monkeypatch):
    given, numbers = batch(), iter([column, row])  # it draws the column first
    transform = v2.CutMix(num_classes=CLASSES)
    monkeypatch.setattr(transform, "_dist", type("Fixed", (), {"sample": lambda self, shape: torch.tensor(share)})())
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor([int(next(numbers) * high)]))
    images, labels = transform(given.images, given.targets)
    part = rectangle(10, 8, share, row, column)
    kept = 1 - (part.bottom - part.top) * (part.right - part.left) / 80
    assert torch.equal(cutmix(given.images, part), images)
    assert torch.allclose(soft_targets(given.targets, kept, CLASSES), labels)


@pytest.mark.parametrize(("mixup_alpha", "cutmix_alpha"), [(0.4, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_labels_are_mixed_as_the_pixels_are(mixup_alpha, cutmix_alpha):
    """Images of one value each: their mean is the mean of their labels' values."""
    values = torch.linspace(0, 1, 6)
    given = batch()._replace(images=values[:, None, None, None].expand(6, 3, 10, 8), targets=torch.arange(6))
    mixing = Mixing(mixup=mixup_alpha, cutmix=cutmix_alpha)
    for epoch in range(20):
        mixed = mix(given, mixing, 6, seed=1, epoch=epoch)
        assert torch.allclose(mixed.images.mean((1, 2, 3)), mixed.soft_targets @ values, atol=1e-6)
        assert torch.equal(mixed.targets, given.targets)
        assert torch.equal(mixed.labels, mixed.soft_targets)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_distributed_as_beta(alpha):
    shares = [
        float(mix(batch(first), Mixing(mixup=alpha), CLASSES, 0, 0).soft_targets[1, 1]) for first in range(0, 3000, 6)
    ]
    assert stats.kstest(shares, stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_switch_and_probability_are_shares_of_the_batches():
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    given = batch()._replace(images=torch.linspace(0, 1, 6)[:, None, None, None].expand(6, 3, 10, 8))
    for first in range(0, 6000, 6):
        moved = given._replace(index=given.index + first)
        mixed = mix(moved, Mixing(mixup=1.0, cutmix=1.0, probability=0.8, switch=0.25), CLASSES, 0, 0)
        different = len(mixed.images[1, 0].unique())
        changed = not torch.equal(mixed.images, given.images)
        kinds["cutmix" if different == 2 else "mixup" if changed else "none"] += 1
    assert kinds["none"] == pytest.approx(200, abs=60)  # and CutMix without a single pixel
    assert kinds["cutmix"] == pytest.approx(200, abs=45)
    assert kinds["mixup"] == pytest.approx(600, abs=55)


def test_views_and_the_teachers_images_are_mixed_alike_and_anew_in_each_epoch():
    given = batch(views=2)._replace(teacher_images=batch(views=2).images)
    augmentation = Augmentation(mixing=Mixing(mixup=1.0, cutmix=1.0))
    mixed = augmentation.mixed(given, CLASSES, 3, 4)
    for view in (0, 1):
        alone = given._replace(images=given.images[view], teacher_images=None)
        assert torch.equal(mixed.images[view], augmentation.mixed(alone, CLASSES, 3, 4).images)
    assert torch.equal(mixed.teacher_images, mixed.images)
    assert torch.equal(augmentation.mixed(given, CLASSES, 3, 4).images, mixed.images)
    for seed, epoch in ((4, 4), (3, 5)):
        assert not torch.equal(augmentation.mixed(given, CLASSES, seed, epoch).images, mixed.images)


def test_without_mixing_a_batch_is_itself():
    given = batch()
    assert Augmentation().mixed(given, CLASSES, 0, 0) is given
    assert given.labels is given.targets


@pytest.mark.parametrize("node", [{}, {"mixup": -1.0}, {"cutmix": 1.0, "switch": 2.0}])
def test_mixing_that_mixes_nothing_is_refused(node):
    with pytest.raises(ValidationError):
        Mixing(**node)
