"""Augmentation against slow loops, and as a function of (seed, epoch, index, view) and of nothing else."""

import math

import numpy as np
import pytest
import torch

from kd_bench.data.augmentation import Augmentation, as_float, floats
from kd_bench.data.batch import Batch
from kd_bench.data.steps import horizontal_flip, random_crop, resized_crop

BOTH = Augmentation(crop_padding=2, horizontal_flip=True)


def pictures(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randint(
        1, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )


def slow_crop(images, padding, rows, columns):
    batch, channels, height, width = images.shape
    result = torch.zeros_like(images)
    for b in range(batch):
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    row, column = y + int(rows[b]) - padding, x + int(columns[b]) - padding
                    if 0 <= row < height and 0 <= column < width:
                        result[b, c, y, x] = images[b, c, row, column]
    return result


@pytest.mark.parametrize(("padding", "height", "width"), [(1, 8, 8), (2, 5, 7), (4, 3, 3)])
def test_random_crop_is_the_slow_loop(padding, height, width):
    span = 2 * padding + 1
    images = pictures(span * span, height, width)
    rows = torch.arange(span).repeat_interleave(span)
    columns = torch.arange(span).repeat(span)
    cropped = random_crop(images, padding, rows, columns)
    assert torch.equal(cropped, slow_crop(images, padding, rows, columns))
    assert cropped.dtype == torch.uint8
    assert cropped.is_contiguous()


def test_a_crop_at_the_padding_changes_nothing():
    images = pictures(4)
    middle = torch.full((4,), 3)
    assert torch.equal(random_crop(images, 3, middle, middle), images)


def test_horizontal_flip_mirrors_the_columns_of_the_chosen():
    images = pictures(3)
    flipped = horizontal_flip(images, torch.tensor([True, False, True]))
    expected = [[image[c, y, ::-1] for c in range(3) for y in range(8)] for image in images.numpy()]
    for position in (0, 2):
        rows = [row.tolist() for row in expected[position]]
        assert flipped[position].reshape(24, 8).tolist() == rows
    assert torch.equal(flipped[1], images[1])


def crop_offset(image: torch.Tensor, cropped: torch.Tensor, padding: int) -> tuple[int, int]:
    """Which offsets gave ``cropped``, by trying them all."""
    span = range(2 * padding + 1)
    found = [
        (row, column)
        for row in span
        for column in span
        if torch.equal(slow_crop(image[None], padding, [row], [column])[0], cropped)
    ]
    assert len(found) == 1
    return found[0]


def test_offsets_cover_all_values_and_the_flip_is_a_fair_coin():
    image = pictures(1, 4, 4)
    many = image.expand(300, -1, -1, -1)
    cropped = Augmentation(crop_padding=1)(many, torch.arange(300), seed=0, epoch=0)
    assert {crop_offset(image[0], each, 1) for each in cropped} == {(r, c) for r in range(3) for c in range(3)}
    flipped = Augmentation(horizontal_flip=True)(many, torch.arange(300), seed=0, epoch=0)
    share = sum(torch.equal(each, image[0].flip(-1)) for each in flipped) / 300
    assert share == pytest.approx(0.5, abs=0.1)
    assert all(torch.equal(each, image[0]) or torch.equal(each, image[0].flip(-1)) for each in flipped)


def test_same_seed_epoch_and_index_give_the_same_pixels_whatever_the_batch():
    images, index = pictures(50), torch.arange(100, 150)
    whole = BOTH(images, index, seed=3, epoch=5)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    for part in order.split(7):
        assert torch.equal(BOTH(images[part], index[part], seed=3, epoch=5), whole[part])
    torch.manual_seed(99)
    assert torch.equal(BOTH(images, index, seed=3, epoch=5), whole)


@pytest.mark.parametrize("other", [{"seed": 4}, {"epoch": 6}, {"view": 1}])
def test_another_seed_epoch_or_view_gives_other_pixels(other):
    images, index = pictures(50), torch.arange(50)
    chosen = {"seed": 3, "epoch": 5, "view": 0}
    first, second = BOTH(images, index, **chosen), BOTH(images, index, **{**chosen, **other})
    assert (first != second).flatten(1).any(1).float().mean() > 0.8


def test_no_augmentation_returns_the_images():
    images = pictures(5)
    assert torch.equal(Augmentation()(images, torch.arange(5), seed=0, epoch=0), images)


def test_views_are_stacked_augmentations_as_floats():
    batch = Batch(pictures(6), torch.arange(6), torch.arange(6))
    single = floats(BOTH.views(batch, seed=1, epoch=2, views=1))
    double = floats(BOTH.views(batch, seed=1, epoch=2, views=2))
    assert single.images.shape == (6, 3, 8, 8)
    assert double.images.shape == (2, 6, 3, 8, 8)
    assert single.images.dtype == double.images.dtype == torch.float32
    assert torch.equal(double.images[0], single.images)
    for view in (0, 1):
        augmented = BOTH(batch.images, batch.index, seed=1, epoch=2, view=view)
        assert torch.equal(double.images[view], as_float(augmented))
    assert not torch.equal(double.images[0], double.images[1])
    assert double.targets is batch.targets
    assert double.index is batch.index


def test_as_float_divides_by_255():
    levels = torch.arange(256, dtype=torch.uint8)
    assert as_float(levels).dtype == torch.float32
    assert as_float(levels).tolist() == pytest.approx([level / 255 for level in range(256)], abs=1e-7)
    assert as_float(levels)[[0, 255]].tolist() == [0.0, 1.0]


def test_rotations_are_quarter_turns_of_each_augmented_image():
    batch = Batch(pictures(6), torch.arange(6), torch.arange(6))
    plain = floats(BOTH.views(batch, seed=1, epoch=2, views=1))
    turned = floats(BOTH.views(batch, seed=1, epoch=2, views=1, rotations=True))
    assert turned.images.shape == (4, 6, 3, 8, 8)
    assert turned.images.dtype == torch.float32
    for quarters in range(4):
        for sample in range(6):
            for channel in range(3):
                expected = np.rot90(plain.images[sample, channel].numpy(), quarters)
                assert np.array_equal(turned.images[quarters, sample, channel].numpy(), expected)
    assert turned.targets is batch.targets


def test_a_quarter_turn_goes_against_the_clock():
    """What is at the right end of the top row comes to the left end."""
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    image[..., 0, 1] = 255
    batch = Batch(image, torch.zeros(1), torch.zeros(1, dtype=torch.int64))
    turned = floats(Augmentation().views(batch, 0, 0, 1, True))
    found = [turned.images[quarters, 0, 0].flatten().tolist() for quarters in range(4)]
    assert found == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("size", [8, 2, 1])
def test_the_first_half_of_a_repeated_batch_is_view_1_and_the_second_view_0(size):
    batch = Batch(pictures(size), torch.arange(size), torch.arange(100, 100 + size))
    given = floats(BOTH.repeated_halves(batch, seed=1, epoch=2))
    assert given.images.shape == (size, 3, 8, 8)
    assert given.images.dtype == torch.float32
    for sample in range(size):
        one, index = batch.images[sample : sample + 1], batch.index[sample : sample + 1]
        view = 1 if sample < size // 2 else 0
        expected = as_float(BOTH(one, index, seed=1, epoch=2, view=view))[0]
        assert torch.equal(given.images[sample], expected)
    assert torch.equal(given.index, batch.index)
    assert torch.equal(given.targets, batch.targets)


def slow_bilinear(image: np.ndarray, row: float, column: float) -> float:
    """The value between pixel centres of a grey image, its border going on outside."""
    height, width = image.shape
    top, left = math.floor(row), math.floor(column)
    total = 0.0
    for i, weight in ((top, 1 - (row - top)), (top + 1, row - top)):
        for j, other in ((left, 1 - (column - left)), (left + 1, column - left)):
            total += weight * other * float(image[min(max(i, 0), height - 1), min(max(j, 0), width - 1)])
    return total


def test_a_resized_crop_is_the_window_scaled_up():
    images = torch.randint(0, 256, (2, 3, 6, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    heights, widths = torch.tensor([0.5, 1.0]), torch.tensor([0.4, 0.7])
    tops, lefts = torch.tensor([0.25, 0.0]), torch.tensor([0.1, 0.3])
    made = resized_crop(images, heights, widths, tops, lefts)
    assert (made.dtype, made.shape) == (torch.uint8, images.shape)
    for sample in range(2):
        for i in range(6):
            for j in range(9):
                row = (float(tops[sample]) + (i + 0.5) / 6 * float(heights[sample])) * 6 - 0.5
                column = (float(lefts[sample]) + (j + 0.5) / 9 * float(widths[sample])) * 9 - 0.5
                expected = slow_bilinear(images[sample, 1].numpy(), row, column)
                assert abs(float(made[sample, 1, i, j]) - expected) <= 0.501


def test_the_whole_image_is_a_resized_crop_of_itself():
    images = torch.randint(0, 256, (2, 3, 5, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    one, zero = torch.ones(2), torch.zeros(2)
    assert torch.equal(resized_crop(images, one, one, zero, zero), images)


def test_windows_have_the_wanted_area_and_ratio_and_lie_within_the_image():
    augmentation = Augmentation(resized_crop=[0.2, 0.5])
    heights, widths, tops, lefts = augmentation._windows(1, 2, 0, torch.arange(4000))
    area, ratio = heights * widths, widths / heights
    assert 0.2 - 1e-9 <= float(area.min()) < 0.201
    assert 0.499 < float(area.max()) <= 0.5 + 1e-9
    assert 0.75 - 1e-9 <= float(ratio.min()) < 0.76
    assert 1.32 < float(ratio.max()) <= 4 / 3 + 1e-9
    assert float((tops + heights).max()) <= 1 + 1e-9
    assert float(lefts.min()) >= 0
    assert abs(float(ratio.log().mean())) < 0.01  # as often wide as tall


def test_resized_crops_are_a_function_of_seed_epoch_and_index():
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augmentation, index = Augmentation(resized_crop=[0.1, 1.0]), torch.tensor([5, 3, 9, 0, 1, 2])
    made = augmentation(images, index, seed=1, epoch=2)
    assert torch.equal(made[[2, 0]], augmentation(images[[2, 0]], index[[2, 0]], seed=1, epoch=2))
    assert not torch.equal(made, augmentation(images, index, seed=1, epoch=3))
