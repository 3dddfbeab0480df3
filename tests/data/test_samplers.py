"""Which samples make a batch: pairs of a class, and halves that come twice, against loops in plain Python."""

from itertools import chain, pairwise
from typing import get_args

import pytest
import torch

from kd_bench.data.augmentation import Augmentation, floats
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.datamodule import Batches, ImageDataModule
from kd_bench.data.randomness import PARTNER, uniform
from kd_bench.data.samplers import SAMPLERS, ClassPairs, EpochOrder, RepeatedHalves, SamplerKind, Share
from kd_bench.data.source import ImageArrays, Split

TARGETS = torch.tensor([2, 0, 2, 1, 0, 2, 2, 0, 1, 2, 4])  # class 3 has no sample, class 4 a single one


def batches(sampler: EpochOrder) -> list[list[int]]:
    return [batch.tolist() for batch in sampler]


# Pairs of a class.


def slow_partners(index: list[int], seed: int, epoch: int) -> list[int]:
    """For each sample one of its class, by its own number in [0, 1)."""
    partners = []
    for sample in index:
        members = [other for other in range(len(TARGETS)) if TARGETS[other] == TARGETS[sample]]
        number = float(uniform(seed, epoch, PARTNER, torch.tensor([sample])))
        partners.append(members[int(number * len(members))])
    return partners


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_class_pairs_are_the_slow_loop(epoch):
    sampler = ClassPairs(TARGETS, 4, seed=5)
    sampler.set_epoch(epoch)
    plain = EpochOrder(TARGETS, 4, seed=5)
    plain.set_epoch(epoch)
    assert batches(sampler) == [index + slow_partners(index, 5, epoch) for index in batches(plain)]
    assert len(sampler) == len(plain) == 3


def test_partners_are_all_of_the_class_and_of_no_other():
    seen: dict[int, set[int]] = {sample: set() for sample in range(len(TARGETS))}
    sampler = ClassPairs(TARGETS, 4, seed=0)
    for epoch in range(100):
        sampler.set_epoch(epoch)
        for batch in sampler:
            samples, partners = batch.chunk(2)
            for sample, partner in zip(samples.tolist(), partners.tolist(), strict=True):
                seen[sample].add(partner)
    members = {c: {i for i in range(len(TARGETS)) if TARGETS[i] == c} for c in range(5)}
    assert seen == {sample: members[int(TARGETS[sample])] for sample in seen}  # itself included


def test_class_pairs_are_a_function_of_seed_and_epoch():
    def of(seed: int, epoch: int, offset: int = 0) -> list[list[int]]:
        sampler = ClassPairs(TARGETS, 4, seed, offset)
        torch.manual_seed(epoch)
        sampler.set_epoch(epoch)
        return batches(sampler)

    assert of(3, 5) == of(3, 5)
    assert of(3, 2, offset=3) == of(3, 5)
    assert of(3, 6) != of(3, 5)
    assert of(4, 5) != of(3, 5)


# Halves that come twice.


def slow_halves(order: list[int], half: int) -> list[list[int]]:
    """Cut into halves; what is too little for one is dropped; each meets the next."""
    halves = [order[start : start + half] for start in range(0, len(order), half)]
    whole = [each for each in halves if len(each) == half]
    return [first + second for first, second in pairwise(whole)]


@pytest.mark.parametrize(
    ("samples", "batch_size", "half", "length"),
    [
        (20, 4, 2, 9),  # 10 halves
        (21, 4, 2, 9),  # one sample is too little for a half
        (100, 10, 5, 19),
        (103, 10, 5, 19),
        (5, 4, 2, 1),
        (4, 4, 2, 1),
        (7, 10, 3, 1),  # fewer samples than a batch: two halves of 3
        (3, 10, 1, 2),
        (2, 64, 1, 1),
        (20, 5, 2, 9),
    ],
)
def test_halves_are_the_slow_loop(samples, batch_size, half, length):
    sampler = RepeatedHalves(torch.zeros(samples), batch_size, seed=3)
    for epoch in (0, 4):
        sampler.set_epoch(epoch)
        plain = EpochOrder(torch.zeros(samples), batch_size, seed=3)
        plain.set_epoch(epoch)
        expected = slow_halves(plain.order().tolist(), half)
        assert batches(sampler) == expected
        assert len(sampler) == len(expected) == length


def test_the_second_half_comes_again_as_the_first():
    given = batches(RepeatedHalves(torch.zeros(43), 8, seed=1))
    assert all(before[4:] == after[:4] for before, after in pairwise(given))
    counts = [list(chain(*given)).count(sample) for sample in range(43)]
    assert sorted(counts) == [0] * 3 + [1] * 8 + [2] * 32  # 10 halves of 4; the first and the last come once


def test_a_single_sample_is_a_batch():
    sampler = RepeatedHalves(torch.zeros(1), 8, seed=0)
    assert (batches(sampler), len(sampler)) == ([[0]], 1)


def test_halves_are_a_function_of_seed_and_epoch():
    def of(seed: int, epoch: int, offset: int = 0) -> list[list[int]]:
        sampler = RepeatedHalves(torch.zeros(40), 8, seed, offset)
        sampler.set_epoch(epoch)
        return batches(sampler)

    assert of(3, 5) == of(3, 5) == of(3, 1, offset=4)
    assert of(3, 6) != of(3, 5)
    assert of(4, 5) != of(3, 5)


@pytest.mark.parametrize("kind", SAMPLERS.values())
def test_a_run_that_is_taken_up_again_starts_at_its_epoch(kind):
    """The first epoch after a resume is the start; Lightning's ``set_epoch`` comes too late for it."""

    def sampler(offset: int, start: int) -> EpochOrder:
        return kind(TARGETS, 4, 9, offset, start)

    resumed, uninterrupted = sampler(offset=2, start=3), sampler(offset=0, start=0)
    uninterrupted.set_epoch(5)
    assert batches(resumed) == batches(uninterrupted)
    resumed.set_epoch(4)
    uninterrupted.set_epoch(6)
    assert batches(resumed) == batches(uninterrupted)


# The data module makes use of them.


class FakeTrainer:
    def __init__(self, current_epoch: int) -> None:
        self.training, self.current_epoch = True, current_epoch


def data(**options) -> ImageDataModule:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 3, 5, 5), dtype=torch.uint8, generator=generator)
    split = Split(images, torch.arange(60) % 4)
    spec = DataSpec(4, (5, 5), (0.5,) * 3, (0.25,) * 3)
    arrays = ImageArrays(split, split, list("abcd"))
    return ImageDataModule(arrays, spec, Augmentation(1, True), 8, 7, 0.2, **options)


def test_a_batch_of_class_pairs_holds_both_with_equal_targets():
    module = data(sampler="class_pairs")
    module.epoch_offset, module.first_epoch = 1, 2
    given = list(module.train_dataloader())
    sampler = ClassPairs(module.train.targets, 8, 7, 1, 2)
    assert [batch.index.tolist() for batch in given] == batches(sampler)
    for batch in given:
        samples, partners = batch.targets.chunk(2)
        assert torch.equal(samples, partners)
        assert torch.equal(batch.images, module.train.images[batch.index])


def test_a_batch_of_repeated_halves_is_augmented_as_such():
    module = data(sampler="repeated_halves")
    assert [batch.index.tolist() for batch in module.train_dataloader()] == batches(
        RepeatedHalves(module.train.targets, 8, 7)
    )
    module.trainer, module.epoch_offset = FakeTrainer(2), 3
    batch = Batches(module.train)[torch.arange(8)]
    expected = floats(module.augmentation.repeated_halves(batch, 7, 5))
    assert torch.equal(module.on_after_batch_transfer(batch, 0).images, expected.images)


def test_a_repeated_sample_is_augmented_anew_and_a_new_one_as_ever():
    module = data(sampler="repeated_halves")
    module.trainer = FakeTrainer(0)
    first, second = (module.on_after_batch_transfer(b, 0) for b in list(module.train_dataloader())[:2])
    assert torch.equal(first.index[4:], second.index[:4])
    assert not torch.equal(first.images[4:], second.images[:4])
    plain = floats(module.augmentation.views(Batches(module.train)[first.index], 7, 0, views=2)).images
    assert torch.equal(first.images[4:], plain[0, 4:])
    again = floats(module.augmentation.views(Batches(module.train)[second.index], 7, 0, views=2)).images
    assert torch.equal(second.images[:4], again[1, :4])


def test_rotations_reach_the_batch():
    module = data(rotations=True)
    module.trainer = FakeTrainer(1)
    batch = Batches(module.train)[torch.arange(8)]
    expected = floats(module.augmentation.views(batch, 7, 1, 1, rotations=True))
    assert expected.images.shape == (4, 8, 3, 5, 5)
    assert torch.equal(module.on_after_batch_transfer(batch, 0).images, expected.images)


def test_every_kind_that_a_method_may_ask_for_has_its_class():
    assert set(SAMPLERS) == set(get_args(SamplerKind))


class Backwards(EpochOrder):
    """Samples and, as the second half of a batch, the same in the other direction; images are black."""

    groups = 2

    def __iter__(self):
        return (torch.cat([index, index.flip(0)]) for index in super().__iter__())

    @classmethod
    def augmented(cls, augmentation, batch, seed, epoch, views, rotations) -> Batch:
        return batch._replace(images=torch.zeros(len(batch.index)))


def test_a_class_in_the_table_is_all_that_a_new_kind_takes(monkeypatch):
    monkeypatch.setitem(SAMPLERS, "backwards", Backwards)
    module = data(sampler="backwards")
    given = list(module.train_dataloader())
    assert all(torch.equal(batch.index[:8], batch.index[8:].flip(0)) for batch in given)
    module.trainer = FakeTrainer(0)
    assert module.on_after_batch_transfer(given[0], 0).images.tolist() == [0.0] * 16
    module.rank, module.world = 1, 2
    for batch, whole in zip(module.train_dataloader(), given, strict=True):
        assert batch.index.tolist() == [*whole.index[4:8].tolist(), *whole.index[12:].tolist()]


# Shares of several processes.


def shares(whole: EpochOrder, world: int, epoch: int = 2) -> list[list[list[int]]]:
    """By process: its batches in one epoch."""
    found = []
    for rank in range(world):
        share = Share(whole, rank, world)
        share.set_epoch(epoch)
        found.append([batch.tolist() for batch in share])
        assert len(share) == len(found[-1])
    return found


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("samples", [96, 97, 100, 103, 107, 12, 5])
def test_processes_share_every_batch_equally(samples, world):
    """All but the remainder of the last batch, and that batch only where two samples are left for each."""
    whole = EpochOrder(torch.zeros(samples), 12, seed=4)
    parts = shares(whole, world)
    for position, batch in enumerate(batches(whole)):
        mine = [part[position] for part in parts if position < len(part)]
        size = len(batch) // world
        expected = [batch[rank * size : (rank + 1) * size] for rank in range(world)] if size > 1 else []
        assert mine == expected


def test_partners_go_where_their_samples_go():
    whole = ClassPairs(torch.arange(40) % 5, 8, seed=4)
    first, second = shares(whole, 2)
    for one, other, batch in zip(first, second, batches(whole), strict=True):
        assert one == batch[:4] + batch[8:12]
        assert other == batch[4:8] + batch[12:]


def test_what_comes_again_comes_to_the_same_process():
    for part in shares(RepeatedHalves(torch.zeros(43), 8, seed=1), 2):
        assert all(before[2:] == after[:2] for before, after in pairwise(part))
