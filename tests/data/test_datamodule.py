"""Batches: which samples, in which order, at which moment."""

from itertools import chain

import pytest
import torch

from kd_bench.data.augmentation import Augmentation, as_float, floats
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.datamodule import EVALUATION_BATCH, Batches, ImageDataModule, InOrder
from kd_bench.data.randomness import ORDER, uniform
from kd_bench.data.samplers import EpochOrder
from kd_bench.data.source import ImageArrays, Split

SPEC = DataSpec(4, (5, 5), (0.5,) * 3, (0.25,) * 3)


def split(count: int, seed: int) -> Split:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, 5, 5), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % 4)


@pytest.fixture
def data() -> ImageDataModule:
    arrays = ImageArrays(split(120, 1), split(1100, 2), list("abcd"))
    return ImageDataModule(arrays, SPEC, Augmentation(1, True), batch_size=10, seed=7, validation_fraction=0.25)


def order(samples: int, batch_size: int, seed: int, epoch: int, offset: int = 0) -> list[list[int]]:
    sampler = EpochOrder(torch.zeros(samples), batch_size, seed, offset)
    sampler.set_epoch(epoch)
    return [batch.tolist() for batch in sampler]


def test_order_is_the_argsort_of_the_uniforms_of_seed_and_epoch():
    values = uniform(3, 5, ORDER, torch.arange(100)).tolist()
    expected = sorted(range(100), key=values.__getitem__)
    assert order(100, 10, seed=3, epoch=5) == [expected[start : start + 10] for start in range(0, 100, 10)]


def test_order_is_a_function_of_seed_and_epoch():
    first = order(100, 10, seed=3, epoch=5)
    torch.manual_seed(1)
    assert order(100, 10, seed=3, epoch=5) == first
    assert order(100, 10, seed=3, epoch=6) != first
    assert order(100, 10, seed=4, epoch=5) != first
    assert sorted(chain(*first)) == list(range(100))


def test_an_epoch_offset_continues_the_count_of_an_earlier_stage():
    assert order(50, 10, seed=0, epoch=2, offset=3) == order(50, 10, seed=0, epoch=5)
    assert [batch.tolist() for batch in EpochOrder(torch.zeros(50), 10, 0, offset=3)] == order(50, 10, seed=0, epoch=3)


@pytest.mark.parametrize(
    ("samples", "batch_size", "sizes"),
    [
        (100, 10, [10] * 10),
        (105, 10, [10] * 10 + [5]),
        (102, 10, [10] * 10 + [2]),
        (101, 10, [10] * 10),  # batch norm cannot train on the one sample that is left
        (7, 10, [7]),
        (1, 10, [1]),  # nothing else to train on
    ],
)
def test_a_last_batch_of_a_single_sample_is_left_out(samples, batch_size, sizes):
    assert [len(batch) for batch in order(samples, batch_size, 0, 0)] == sizes
    assert len(EpochOrder(torch.zeros(samples), batch_size, 0)) == len(sizes)


def test_the_sample_left_out_is_another_one_each_epoch():
    seen = [set(chain(*order(21, 10, 0, epoch))) for epoch in range(20)]
    left_out = {sample for epoch in seen for sample in range(21) if sample not in epoch}
    assert len(left_out) > 5


@pytest.mark.parametrize("samples", [1, EVALUATION_BATCH, EVALUATION_BATCH + 1, 3 * EVALUATION_BATCH - 1])
def test_evaluation_sees_every_sample_once_and_in_order(samples):
    sampler = InOrder(samples)
    batches = list(sampler)
    assert torch.cat(batches).tolist() == list(range(samples))
    assert len(batches) == len(sampler)


def test_a_batch_holds_what_its_index_says():
    small = split(9, 3)
    index = torch.tensor([4, 0, 8])
    batch = Batches(small)[index]
    for position, sample in enumerate(index.tolist()):
        assert torch.equal(batch.images[position], small.images[sample])
        assert int(batch.targets[position]) == sample % 4
    assert batch.index is index
    assert batch.images.dtype == torch.uint8


def test_loaders_give_the_splits(data):
    test = list(data.evaluation_loader(data.test))
    assert [len(batch.targets) for batch in test] == [512, 512, 76]
    assert torch.equal(torch.cat([batch.images for batch in test]), data.test.images)
    assert torch.equal(torch.cat([batch.targets for batch in test]), data.test.targets)
    validation = list(data.val_dataloader()[0])
    assert torch.equal(torch.cat([batch.images for batch in validation]), data.validation.images)
    train = list(data.train_dataloader())
    assert [len(batch.targets) for batch in train] == [10] * 9
    assert [batch.index.tolist() for batch in train] == order(90, 10, seed=7, epoch=0)
    for batch in train:
        assert torch.equal(batch.images, data.train.images[batch.index])


def test_loaders_leave_the_global_generator_alone(data):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    for loader in (data.train_dataloader(), *data.val_dataloader(), data.evaluation_loader(data.test)):
        for _ in loader:
            assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(torch.get_rng_state(), before)


class FakeTrainer:
    """As much of a trainer as ``on_after_batch_transfer`` asks for."""

    def __init__(self, training: bool, current_epoch: int) -> None:
        self.training, self.current_epoch = training, current_epoch


@pytest.mark.parametrize("views", [1, 2])
def test_training_batches_are_augmented_by_the_epoch_of_the_whole_run(data, views):
    data.views, data.epoch_offset = views, 3
    data.trainer = FakeTrainer(training=True, current_epoch=2)
    batch = Batches(data.train)[torch.arange(10)]
    expected = floats(data.augmentation.views(batch, 7, 5, views))
    assert torch.equal(data.on_after_batch_transfer(batch, 0).images, expected.images)


def test_evaluation_batches_are_not_augmented(data):
    batch = Batches(data.test)[torch.arange(10)]
    for trainer in (None, FakeTrainer(training=False, current_epoch=2)):
        data.trainer = trainer
        given = data.on_after_batch_transfer(batch, 0)
        assert isinstance(given, Batch)
        assert torch.equal(given.images, as_float(batch.images))


def test_large_images_are_evaluated_in_smaller_batches(data):
    """512 of them would be 308 MB of bytes and four times as much as floats."""
    images = torch.zeros(1, 3, 1, 1, dtype=torch.uint8).expand(200, 3, 224, 224)
    batches = list(data.evaluation_loader(Split(images, torch.arange(200) % 4)))
    assert [len(batch.targets) for batch in batches] == [167, 33]
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(200))
