"""From splits to batches. One data module serves every data set, in memory or on disk."""

import os
import signal
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from kd_bench.data.augmentation import Augmentation, floats
from kd_bench.data.batch import Batch, DataSpec
from kd_bench.data.samplers import SAMPLERS, Dated, EpochOrder, Share
from kd_bench.data.source import ImageArrays, LazyImages, Split
from kd_bench.data.splits import carve
from kd_bench.errors import ConfigError, IntegrityError, KDBenchError

EVALUATION_BATCH = 512
EVALUATION_PIXELS = 1 << 23  # of one batch: 512 images up to 128x128, 167 of 224x224
WORKER_SECONDS = 600.0  # for one batch; a worker that hangs must not hang the run


class Batches(Dataset[Batch]):
    """A split whose item is a whole batch: an index tensor in, a :class:`Batch` of uint8 images out."""

    def __init__(self, split: Split) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: Tensor) -> Batch:
        return Batch(self.split.images[index], self.split.targets[index], index)


@dataclass(frozen=True)
class AugmentedBatches(Dataset[Batch]):
    """Training batches of photographs, cut from them as they are stored and augmented: uint8, made by the workers.

    Attributes:
        positions: (N,) of the split's samples in the training split, which their random numbers are functions of.
    """

    split: Split
    positions: Tensor
    augmentation: Augmentation
    sampler: type[EpochOrder]
    seed: int
    views: int
    rotations: bool

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, item: tuple[int, Tensor]) -> Batch:
        epoch, index = item
        images, positions = self.split.images, self.positions[index]
        assert not isinstance(images, Tensor)
        batch = Batch(self._cut(images, index, positions, epoch), self.split.targets[index], positions)
        return self.sampler.augmented(self.augmentation, batch, self.seed, epoch, self.views, self.rotations)

    def _cut(self, images: LazyImages, index: Tensor, positions: Tensor, epoch: int) -> Tensor:
        """Return the resized crops, (V, B, 3, H, W)."""
        numbers = self.sampler.views_of(len(index), self.views)
        used = sorted(set(numbers.flatten().tolist()))
        by_view = {view: self.augmentation.windows(self.seed, epoch, view, positions) for view in used}

        def boxes(row: int, height: int, width: int) -> list[tuple[int, int, int, int]]:
            windows = (by_view[view][row].within(height, width) for view in numbers[:, row].tolist())
            return [(each.left, each.top, each.left + each.width, each.top + each.height) for each in windows]

        return images.parts(index, len(numbers), boxes)


class InOrder(Sampler[Tensor]):
    """Every sample once, in order, ``batch_size`` at a time."""

    def __init__(self, samples: int, batch_size: int = EVALUATION_BATCH) -> None:
        self.samples, self.batch_size = samples, batch_size

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.split(torch.arange(self.samples), self.batch_size))


class BatchLoader(DataLoader[Batch]):
    """Batches of a split, in the sampler's order whatever the number of workers.

    Args:
        sampler: gives index tensors, or what ``augmented`` takes.
        workers: processes that decode images which lie on disk; images in memory need none.
        augmented: what makes the batches, in place of the split as it is.
    """

    def __init__(
        self,
        split: Split,
        sampler: Iterable[Any],
        workers: int = 0,
        augmented: AugmentedBatches | None = None,
    ) -> None:
        workers = 0 if split.in_memory else workers
        super().__init__(
            augmented or Batches(split),
            sampler=sampler,
            batch_size=None,
            collate_fn=_as_is,
            # An own generator: the loader must not draw its base seed from the global one, which belongs to training.
            generator=torch.Generator(),
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_main_process if workers else None,
            timeout=WORKER_SECONDS if workers else 0,
        )

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch's own class of iterators has no more to it
        try:
            batches = super().__iter__()
        except OSError as error:  # no more processes, files or shared memory
            warnings.warn(f"no worker processes can be started, decoding without them: {error}", stacklevel=2)
            self.num_workers, self.timeout, self.worker_init_fn = 0, 0, None
            batches = super().__iter__()
        return _in_own_words(batches)


def _in_own_words(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yield the batches; errors of workers become one line, as if there were no workers."""
    try:
        yield from batches
    except IntegrityError as error:
        del batches  # with the traceback's hold on it: the workers end now, not whenever the error is forgotten
        # A worker's error comes with its traceback as text, and its own words at the end.
        words = str(error).rstrip().rpartition("IntegrityError: ")[2]
        raise IntegrityError(words) from error.with_traceback(None)
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        del batches
        reason = f"{str(error).splitlines()[0]}; trainer.workers=0 works without processes"
        raise KDBenchError(f"loading data failed: {reason}") from error.with_traceback(None)


def _as_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_main_process(worker: int) -> None:
    """Make a worker end without a word: Ctrl-C and a scheduler's SIGTERM reach all processes of a run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


class ImageDataModule(pl.LightningDataModule):
    """Training, validation and test batches of one data set.

    Args:
        arrays: the data set; its test split is touched by evaluation only.
        spec: what the networks know of it.
        augmentation: of the training batches.
        batch_size: samples a training step.
        seed: of order and augmentation.
        validation_fraction: share of the training data carved out for selection.
        train_samples: stratified subset of the rest to train on; all of it if null.
        views: augmented views of each training image.
        rotations: of each training image, in place of views.
        sampler: the name in ``SAMPLERS`` of what makes training batches.
        workers: processes that decode images which lie on disk.
        watch_test: evaluate the test split too after each epoch, for recipes that select on it.
    """

    def __init__(
        self,
        arrays: ImageArrays,
        spec: DataSpec,
        augmentation: Augmentation,
        batch_size: int,
        seed: int,
        validation_fraction: float,
        train_samples: int | None = None,
        views: int = 1,
        rotations: bool = False,
        sampler: str = "plain",
        workers: int = 0,
        watch_test: bool = False,
    ) -> None:
        super().__init__()
        self.watch_test = watch_test
        self.spec, self.augmentation = spec, augmentation
        self.views, self.rotations, self.sampler = views, rotations, SAMPLERS[sampler]
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.epoch_offset = 0  # epochs that an earlier stage of the same run has used up
        self.first_epoch = 0  # of this stage: more than 0 where it is taken up again
        self.rank, self.world = 0, 1  # of the processes that train together
        targets = arrays.train.targets
        validation, train = carve(targets, round(validation_fraction * len(targets)), "validation")
        if train_samples is not None:
            if train_samples > len(train):
                raise ConfigError(f"dataset.train_samples={train_samples}: there are only {len(train)}")
            subset, _ = carve(targets[train], train_samples, "train_samples")
            train = train[subset]
        self.train, self.validation = arrays.train.subset(train), arrays.train.subset(validation)
        self.test = arrays.test

    def train_dataloader(self) -> DataLoader[Batch]:
        order: EpochOrder | Share
        order = self.sampler(self.train.targets, self.batch_size, self.seed, self.epoch_offset, self.first_epoch)
        if self.world > 1:
            order = Share(order, self.rank, self.world)
        if not len(order):
            raise ConfigError(f"trainer.devices={self.world}: {len(self.train)} training samples are too few")
        if not self.augments_in_workers:
            return BatchLoader(self.train, order, self.workers)
        batches = self._augmented(self.train, torch.arange(len(self.train)), self.sampler, self.views, self.rotations)
        return BatchLoader(self.train, Dated(order), self.workers, batches)

    @property
    def augments_in_workers(self) -> bool:
        """Whether training images are cut from photographs as they are stored, by those who decode them."""
        return self.train.at_full_resolution and self.augmentation.resized_crop is not None

    def _augmented(
        self, split: Split, positions: Tensor, sampler: type[EpochOrder], views: int = 1, rotations: bool = False
    ) -> AugmentedBatches:
        return AugmentedBatches(split, positions, self.augmentation, sampler, self.seed, views, rotations)

    def augmented_in_order(self, epoch: int, positions: Tensor | None = None) -> Iterator[Batch]:
        """Yield training samples once, in order, in the first view of an epoch: uint8, not mixed.

        Args:
            positions: (N,) of the samples; all of the training split if None.
        """
        if positions is None:
            positions = torch.arange(len(self.train))
        split = self.train.subset(positions)
        plain = self.evaluation_loader(split)
        if self.augments_in_workers:
            dated = [(epoch, index) for index in plain.sampler]
            yield from BatchLoader(split, dated, self.workers, self._augmented(split, positions, EpochOrder))
            return
        for batch in plain:
            yield self.augmentation.views(batch._replace(index=positions[batch.index]), self.seed, epoch, views=1)

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        watched = [self.validation, self.test] if self.watch_test else [self.validation]
        if self.rank:  # the first process alone evaluates; Lightning wants the others to take part
            watched = [split.subset(torch.arange(1)) for split in watched]
        return [self.evaluation_loader(split) for split in watched]

    def evaluation_loader(self, split: Split) -> DataLoader[Batch]:
        """Return every sample of a split once, in order, as stored."""
        height, width = split.images.shape[-2:]
        batch_size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))
        return BatchLoader(split, InOrder(len(split), batch_size), self.workers)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment on the device, where whole batches are cheap, what was not augmented by the workers; then mix."""
        if self.trainer is None or not self.trainer.training:
            return floats(batch)
        epoch = self.trainer.current_epoch + self.epoch_offset
        if not self.augments_in_workers:
            batch = self.sampler.augmented(self.augmentation, batch, self.seed, epoch, self.views, self.rotations)
        return self.augmentation.mixed(floats(batch), self.spec.num_classes, self.seed, epoch)
