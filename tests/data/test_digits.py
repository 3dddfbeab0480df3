"""scikit-learn's digits as this program serves them, against scikit-learn's own arrays."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.digits import Digits
from kd_bench.data.source import ImageArrays, Split
from kd_bench.errors import ConfigError, IntegrityError

CONTENT_SHA256 = "629bbfbddd79fa5d12d5d37de620d67735a56e0f65889a2cb03b3338d6b1b8b8"


@pytest.fixture(scope="module")
def arrays() -> ImageArrays:
    return Digits(test_fraction=0.4).load()


@pytest.fixture(scope="module")
def bunch():
    return load_digits()


def module(arrays: ImageArrays, **options) -> ImageDataModule:
    spec = DataSpec(10, (8, 8), (0.3056,) * 3, (0.3764,) * 3)
    settings = {"batch_size": 64, "seed": 0, "validation_fraction": 0.2, **options}
    return ImageDataModule(arrays, spec, Augmentation(), **settings)


def as_rows(split: Split) -> Counter:
    """The samples of a split as a multiset of (target, pixels)."""
    return Counter((int(t), i.numpy().tobytes()) for i, t in zip(split.images, split.targets, strict=True))


def test_sizes_and_types(arrays):
    assert len(arrays.test) == round(0.4 * 1797) == 719
    assert len(arrays.train) + len(arrays.test) == 1797
    for split in (arrays.train, arrays.test):
        assert split.images.dtype == torch.uint8
        assert split.images.shape == (len(split), 3, 8, 8)
        assert split.targets.dtype == torch.int64
        assert torch.equal(split.images[:, 0], split.images[:, 1])
        assert torch.equal(split.images[:, 0], split.images[:, 2])
    assert arrays.class_names == [str(digit) for digit in range(10)]


def test_class_counts_are_scikit_learns(arrays, bunch):
    everything = torch.cat([arrays.train.targets, arrays.test.targets])
    assert Counter(everything.tolist()) == Counter(bunch.target.tolist())
    counts = torch.bincount(arrays.test.targets).tolist()
    assert counts == pytest.approx([0.4 * n for n in np.bincount(bunch.target)], abs=1)


def test_values_are_scikit_learns(arrays, bunch):
    """Levels 0 to 16 become 0 to 255: every sample is found again in scikit-learn's arrays."""
    scaled = np.round(bunch.images * 255 / 16).astype(np.uint8)
    expected = Counter(
        (int(target), np.repeat(image[None], 3, axis=0).tobytes())
        for image, target in zip(scaled, bunch.target, strict=True)
    )
    assert as_rows(arrays.train) + as_rows(arrays.test) == expected
    assert sorted(set(scaled.flatten().tolist())) == [round(level * 255 / 16) for level in range(17)]


def test_the_configured_statistics_are_those_of_the_training_images(arrays, compose):
    dataset = compose().dataset
    pixels = arrays.train.images[:, 0].double().div(255)
    assert list(dataset.mean) == pytest.approx([float(pixels.mean())] * 3, abs=5e-3)
    assert list(dataset.std) == pytest.approx([float(pixels.std())] * 3, abs=5e-3)


def test_content_is_frozen(arrays):
    assert arrays.content_sha256 == CONTENT_SHA256


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("field", ["images", "targets"])
def test_the_content_hash_sees_a_single_changed_value(arrays, part, field):
    split = getattr(arrays, part)
    changed = getattr(split, field).clone()
    changed.view(-1)[-1] += 1
    other = replace(arrays, **{part: replace(split, **{field: changed})})
    assert other.content_sha256 != CONTENT_SHA256


def test_the_content_hash_sees_the_order(arrays):
    turned = replace(arrays, test=arrays.test.subset(torch.arange(len(arrays.test)).flip(0)))
    assert turned.content_sha256 != CONTENT_SHA256


def test_splits_are_disjoint_and_complete(arrays):
    """By identity: the test split never reaches training, and every training sample is in exactly one part."""
    marked = replace(arrays.train, targets=arrays.train.targets, images=arrays.train.images.clone())
    numbers = torch.arange(len(marked))
    marked.images[:, 0, 0, 0], marked.images[:, 1, 0, 0] = (numbers // 256).byte(), (numbers % 256).byte()
    data = module(replace(arrays, train=marked))
    of = lambda split: {int(i[0, 0, 0]) * 256 + int(i[1, 0, 0]) for i in split.images}  # noqa: E731
    train, validation = of(data.train), of(data.validation)
    assert len(train) == len(data.train) == 862
    assert len(validation) == len(data.validation) == 216
    assert train.isdisjoint(validation)
    assert train | validation == set(range(1078))
    assert data.test is arrays.test


def test_training_subsets_are_stratified_and_nested(arrays):
    full = as_rows(module(arrays).train)
    subsets = [module(arrays, train_samples=count).train for count in (50, 100, 400)]
    assert [len(subset) for subset in subsets] == [50, 100, 400]
    for small, large in zip([as_rows(s) for s in subsets], [*(as_rows(s) for s in subsets[1:]), full], strict=True):
        assert small <= large
    share = torch.bincount(module(arrays).train.targets) / 862
    assert torch.bincount(subsets[1].targets).tolist() == pytest.approx((100 * share).tolist(), abs=1)


def test_a_subset_leaves_validation_and_test_alone(arrays):
    data = module(arrays, train_samples=100)
    assert torch.equal(data.validation.images, module(arrays).validation.images)
    assert torch.equal(data.test.images, arrays.test.images)


def test_a_subset_larger_than_the_data_is_refused(arrays):
    with pytest.raises(ConfigError, match=r"^dataset\.train_samples=863: there are only 862$"):
        module(arrays, train_samples=863)
    assert len(module(arrays, train_samples=862).train) == 862


def relabelled(arrays: ImageArrays, part: str, old: int, new: int) -> ImageArrays:
    split = getattr(arrays, part)
    return replace(arrays, **{part: replace(split, targets=torch.where(split.targets == old, new, split.targets))})


@pytest.mark.parametrize(
    ("classes", "image_size"), [(9, (8, 8)), (11, (8, 8)), (10, (32, 32)), (10, (8, 9)), (10, (9, 8))]
)
def test_a_configuration_that_does_not_fit_the_data_is_refused(arrays, classes, image_size):
    with pytest.raises(ConfigError) as caught:
        arrays.check("digits", classes, image_size)
    found, configured = "10 classes of 8x8", f"{classes} classes of {image_size[0]}x{image_size[1]}"
    assert found in str(caught.value)
    assert configured in str(caught.value).partition(found)[2]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("part", "old", "new", "problem"),
    [
        ("train", 9, 10, "{count} labels out of range 0 to 9: 10 of image {first}, 10 of image "),
        ("test", 0, -1, "{count} labels out of range 0 to 9: -1 of image {first}, -1 of image "),
        ("test", 3, 4, "no image of 1 of 10 classes: 3"),  # an empty class
    ],
)
def test_labels_that_are_no_classes_are_refused(arrays, part, old, new, problem):
    hit = (getattr(arrays, part).targets == old).nonzero().flatten().tolist()
    with pytest.raises(IntegrityError) as caught:
        relabelled(arrays, part, old, new).check("digits", 10, (8, 8))
    assert str(caught.value).startswith(f"digits: the {part} split has " + problem.format(count=len(hit), first=hit[0]))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("count", [1, 7])
def test_test_images_that_are_trained_on_are_counted_and_warned_of(arrays, count):
    assert arrays.duplicates == 0
    images = arrays.test.images.clone()
    images[:count] = arrays.train.images[torch.arange(count) * 3]
    leaking = replace(arrays, test=replace(arrays.test, images=images))
    assert leaking.duplicates == count
    with pytest.warns(UserWarning, match=f"^digits: {count} of 719 test images are trained on too$"):
        leaking.check("digits", 10, (8, 8))


def test_good_data_pass(arrays):
    arrays.check("digits", 10, (8, 8))
