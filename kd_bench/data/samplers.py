"""Samplers: which samples make a training batch, as a function of (seed, epoch), so that nothing needs saving.

A kind of sampler is a class with a row in ``SAMPLERS``. Beside its batches it says how processes share them, how they
are augmented, which batch sizes fit, and how a listing describes it.
"""

from collections.abc import Iterator
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.utils.data import Sampler

from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import Batch
from kd_bench.data.randomness import ORDER, PARTNER, uniform

SamplerKind = Literal["plain", "class_pairs", "repeated_halves"]


class EpochOrder(Sampler[Tensor]):
    """Index tensors of one epoch's batches; the order is a function of (seed, epoch).

    Lightning calls ``set_epoch``, counting from 0 in each stage of a run; ``offset`` is the number of epochs that
    earlier stages used up. For the first epoch, and the first one after a resume, it calls too late: that epoch is
    ``start``. A last batch of a single sample is left out: batch norm cannot train on it.

    Args:
        targets: (N,) classes of the training samples.
    """

    words: ClassVar[str] = ""  # for listings; the plain sampler goes without saying
    groups: ClassVar[int] = 1  # equal parts of a batch, one after the other, that processes share alike
    divisor: ClassVar[int] = 1  # of the batch size

    def __init__(self, targets: Tensor, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        self.samples, self.batch_size, self.seed, self.offset = len(targets), batch_size, seed, offset
        self.set_epoch(start)

    def set_epoch(self, epoch: int) -> None:
        """Give the batches of ``epoch`` from now on."""
        self.epoch = epoch + self.offset

    def __len__(self) -> int:
        return len(self.sizes())

    def sizes(self) -> list[int]:
        """Return the size of each batch, not counting partners and repetitions."""
        full, rest = divmod(self.samples, self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 1 or not full)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.split(self.order(), self.batch_size)[: len(self)])

    def order(self) -> Tensor:
        """Return all samples (N,), shuffled for this epoch."""
        return uniform(self.seed, self.epoch, ORDER, torch.arange(self.samples)).argsort(stable=True)

    @classmethod
    def trial(cls, batch_size: int) -> Tensor:
        """Return the index of a batch as this sampler would give it, of the first samples, without any data set."""
        return torch.arange(batch_size)

    @classmethod
    def augmented(
        cls, augmentation: Augmentation, batch: Batch, seed: int, epoch: int, views: int, rotations: bool
    ) -> Batch:
        """Return the augmented training batch, uint8, as ``Augmentation.views``."""
        return augmentation.views(batch, seed, epoch, views, rotations)

    @classmethod
    def views_of(cls, size: int, views: int) -> Tensor:
        """Return the number of the view (V, B) that each image of an augmented batch is."""
        return torch.arange(views)[:, None].expand(views, size)


class ClassPairs(EpochOrder):
    """Each batch is followed by a partner for each of its samples: any of the same class, itself included.

    A batch has 2 * ``batch_size`` indices then; the partners' order is that of the samples.
    """

    words = "pairs of one class"
    groups = 2

    def __init__(self, targets: Tensor, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        super().__init__(targets, batch_size, seed, offset, start)
        self.targets = targets
        self.by_class = targets.argsort(stable=True)
        self.counts = torch.bincount(targets)
        self.starts = self.counts.cumsum(0) - self.counts

    def __iter__(self) -> Iterator[Tensor]:
        return (torch.cat([index, self._partners(index)]) for index in super().__iter__())

    def _partners(self, index: Tensor) -> Tensor:
        classes = self.targets[index]
        place = (uniform(self.seed, self.epoch, PARTNER, index) * self.counts[classes]).long()
        return self.by_class[self.starts[classes] + place]

    @classmethod
    def trial(cls, batch_size: int) -> Tensor:
        return torch.arange(batch_size).repeat(2)


class RepeatedHalves(EpochOrder):
    """Each batch repeats the second half of the batch before it as its first half.

    Every sample is seen twice in an epoch but for those of the first and the last half. What is too little for a half
    at the end is left out.
    """

    words = "batches that repeat a half"
    groups = 2
    divisor = 2

    def __init__(self, targets: Tensor, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        super().__init__(targets, batch_size, seed, offset, start)
        self.half = max(1, min(batch_size, self.samples) // 2)

    def sizes(self) -> list[int]:
        return [self.half] * max(1, self.samples // self.half - 1)

    def __iter__(self) -> Iterator[Tensor]:
        order = self.order()
        return (order[step * self.half : (step + 2) * self.half] for step in range(len(self)))

    @classmethod
    def augmented(
        cls, augmentation: Augmentation, batch: Batch, seed: int, epoch: int, views: int, rotations: bool
    ) -> Batch:
        """Return the augmented batch in one view: its first half was seen in the batch before, and looks new now."""
        return augmentation.repeated_halves(batch, seed, epoch)

    @classmethod
    def views_of(cls, size: int, views: int) -> Tensor:
        return (torch.arange(size) < size // 2).long()[None]


SAMPLERS: dict[str, type[EpochOrder]] = {
    "plain": EpochOrder,
    "class_pairs": ClassPairs,
    "repeated_halves": RepeatedHalves,
}


class Share(Sampler[Tensor]):
    """The part of every batch that one of several processes trains on, equal for all.

    Of each of the batch's groups, such as samples and partners, it is the same part. What is too little for all at the
    end of a batch is left out, and so is a batch that would leave each process with a single sample.
    """

    def __init__(self, whole: EpochOrder, rank: int, world: int) -> None:
        self.whole, self.rank, self.world = whole, rank, world

    @property
    def epoch(self) -> int:
        """The epoch whose batches these are."""
        return self.whole.epoch

    def set_epoch(self, epoch: int) -> None:
        """Give the batches of ``epoch`` from now on."""
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(size // self.world > 1 for size in self.whole.sizes())

    def __iter__(self) -> Iterator[Tensor]:
        for index in self.whole:
            rows = index.view(self.whole.groups, -1)
            size = rows.shape[1] // self.world
            if size > 1:
                yield rows[:, self.rank * size : (self.rank + 1) * size].flatten()


class Dated(Sampler[tuple[int, Tensor]]):
    """Batches with their epoch, for workers that have to know it."""

    def __init__(self, order: EpochOrder | Share) -> None:
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        """Give the batches of ``epoch`` from now on."""
        self.order.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        epoch = self.order.epoch
        return ((epoch, index) for index in self.order)
