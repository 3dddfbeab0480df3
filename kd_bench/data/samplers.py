"""Which samples make a training batch: a function of (seed, epoch), so that nothing needs saving."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import Sampler

from kd_bench.data.randomness import ORDER, PARTNER, uniform

Sampling = Literal["plain", "class_pairs", "repeated_halves"]


class EpochOrder(Sampler[Tensor]):
    """Index tensors of one epoch's batches; the order is a function of (seed, epoch).

    Lightning calls ``set_epoch``, counting from 0 in each stage of a run; ``offset`` is the number of epochs that
    earlier stages used up. For the first epoch, and the first one after a resume, it calls too late: that epoch is
    ``start``. A last batch of a single sample is left out: batch norm cannot train on it.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        self.samples, self.batch_size, self.seed, self.offset = samples, batch_size, seed, offset
        self.set_epoch(start)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch + self.offset

    def __len__(self) -> int:
        return len(self.sizes())

    def sizes(self) -> list[int]:
        """Of each batch, not counting partners and repetitions."""
        full, rest = divmod(self.samples, self.batch_size)
        return [self.batch_size] * full + [rest] * (rest > 1 or not full)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.split(self.order(), self.batch_size)[: len(self)])

    def order(self) -> Tensor:
        """All samples, shuffled for this epoch."""
        return uniform(self.seed, self.epoch, ORDER, torch.arange(self.samples)).argsort(stable=True)


class ClassPairs(EpochOrder):
    """Each batch is followed by a partner for each of its samples: any of the same class, itself included.

    A batch has 2 * ``batch_size`` indices then; the partners' order is that of the samples.

    Args:
        targets: (N,) classes of the training samples.
    """

    def __init__(self, targets: Tensor, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        super().__init__(len(targets), batch_size, seed, offset, start)
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


class RepeatedHalves(EpochOrder):
    """Each batch repeats the second half of the batch before it as its first half.

    Every sample is seen twice in an epoch but for those of the first and the last half. What is too little for a half
    at the end is left out.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, offset: int = 0, start: int = 0) -> None:
        super().__init__(samples, batch_size, seed, offset, start)
        self.half = max(1, min(batch_size, samples) // 2)

    def sizes(self) -> list[int]:
        return [self.half] * max(1, self.samples // self.half - 1)

    def __iter__(self) -> Iterator[Tensor]:
        order = self.order()
        return (order[step * self.half : (step + 2) * self.half] for step in range(len(self)))


class Share(Sampler[Tensor]):
    """What one of several processes trains on: an equal part of every batch.

    Of samples and partners, and of first and second halves, it is the same part. What is too little for all at the end
    of a batch is left out, and so is a batch that would leave each with a single sample.

    Args:
        groups: that a batch consists of, one after the other.
    """

    def __init__(self, whole: EpochOrder, rank: int, world: int, groups: int) -> None:
        self.whole, self.rank, self.world, self.groups = whole, rank, world, groups

    def set_epoch(self, epoch: int) -> None:
        self.whole.set_epoch(epoch)

    def __len__(self) -> int:
        return sum(size // self.world > 1 for size in self.whole.sizes())

    def __iter__(self) -> Iterator[Tensor]:
        for index in self.whole:
            rows = index.view(self.groups, -1)
            size = rows.shape[1] // self.world
            if size > 1:
                yield rows[:, self.rank * size : (self.rank + 1) * size].flatten()
