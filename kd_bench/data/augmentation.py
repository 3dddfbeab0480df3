"""Augmentation of whole batches in torch, with randomness per sample.

Shapes: ``B`` batch, ``V`` views, ``H, W`` image. Everything works on uint8 and on whatever device holds the batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kd_bench.config.augmentation_keys import STRONG_DEFAULT, AnyStep, Mixing
from kd_bench.data.batch import Batch
from kd_bench.data.mixing import mix
from kd_bench.data.randomness import (
    AREA,
    CROP_COLUMN,
    CROP_ROW,
    FLIP,
    RATIO,
    STEP,
    STEP_STRIDE,
    VIEW_STRIDE,
    integers,
    uniform,
)
from kd_bench.data.steps import STEPS, horizontal_flip, random_crop, resized_crop, shares_of_windows
from kd_bench.data.windows import Window, window, window_numbers


@dataclass(frozen=True)
class Augmentation:
    """Random crops, then a horizontal flip with probability 1/2, then steps, as the recipe asks for them.

    Attributes:
        crop_padding: black pixels on each side from which a window of the image's size is cut.
        resized_crop: least and greatest share of the area that is cut out and resized to the image's size, with an
            aspect ratio of 3/4 to 4/3 (Szegedy et al. 2015, arXiv:1409.4842); a side longer than the image is cut off.
        steps: what follows.
        strong_steps: what follows in strong views; ``STRONG_DEFAULT`` if None.
        teacher_steps: what follows in the images for the teacher, if it is to see others than the student.
        mixing: of the images of a batch with each other, if any.
        strong_views: the views that are strong.
    """

    crop_padding: int = 0
    horizontal_flip: bool = False
    resized_crop: list[float] | None = None
    steps: Sequence[AnyStep] | None = None
    strong_steps: Sequence[AnyStep] | None = None
    teacher_steps: Sequence[AnyStep] | None = None
    mixing: Mixing | None = None
    strong_views: tuple[int, ...] = ()

    def __call__(self, images: Tensor, index: Tensor, seed: int, epoch: int, view: int = 0) -> Tensor:
        """Augment ``images`` (B, 3, H, W) as a function of (seed, epoch, index, view); nothing is mixed."""
        return self._pair(images, index, seed, epoch, view, cut=False)[0]

    def windows(self, seed: int, epoch: int, view: int, index: Tensor) -> list["Windows"]:
        """Return where the resized crop of each sample (B,) lies, for images of any size."""
        assert self.resized_crop is not None
        least, greatest = self.resized_crop
        return [Windows((least, greatest), each) for each in window_numbers(seed, epoch, view, index).tolist()]

    def _pair(
        self, images: Tensor, index: Tensor, seed: int, epoch: int, view: int, cut: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return a view's images, and those for the teacher if they are others.

        Args:
            cut: whether ``images`` are resized crops already.
        """
        shared = self._shared(images, index, seed, epoch, view * VIEW_STRIDE, cut)
        strong = STRONG_DEFAULT if self.strong_steps is None else self.strong_steps
        lists = [strong if view in self.strong_views else self.steps, self.teacher_steps]
        student, teacher = (_stepped(shared, each, index, seed, epoch, view * VIEW_STRIDE) for each in lists)
        return student, None if self.teacher_steps is None else teacher

    def _shared(self, images: Tensor, index: Tensor, seed: int, epoch: int, base: int, cut: bool) -> Tensor:
        """Crop and flip, which all images of a view share."""
        if self.crop_padding:
            span = 2 * self.crop_padding + 1
            rows = integers(seed, epoch, base + CROP_ROW, index, span)
            columns = integers(seed, epoch, base + CROP_COLUMN, index, span)
            images = random_crop(images, self.crop_padding, rows, columns)
        if self.resized_crop is not None and not cut:
            images = resized_crop(images, *self._windows(seed, epoch, base, index))
        if self.horizontal_flip:
            images = horizontal_flip(images, uniform(seed, epoch, base + FLIP, index) < 0.5)
        return images

    def _windows(self, seed: int, epoch: int, base: int, index: Tensor) -> list[Tensor]:
        """Draw heights, widths, tops and lefts (B,) of random windows, as shares of the image's sides."""
        assert self.resized_crop is not None
        streams = AREA, RATIO, CROP_ROW, CROP_COLUMN
        return shares_of_windows(self.resized_crop, *(uniform(seed, epoch, base + each, index) for each in streams))

    def views(self, batch: Batch, seed: int, epoch: int, views: int, rotations: bool = False) -> Batch:
        """Return the augmented batch, uint8: (B, 3, H, W) for one view, else (V, B, 3, H, W).

        Images of five dimensions are one for each view, which the resized crop has been cut for. With ``rotations`` V
        is 4: the first view as it is and turned by 90, 180 and 270 degrees, which needs squares.
        """
        cut = batch.images.dim() == 5
        pairs = [
            self._pair(batch.images[view] if cut else batch.images, batch.index, seed, epoch, view, cut)
            for view in range(views)
        ]

        def stacked(images: list[Tensor]) -> Tensor:
            if rotations:
                images = [images[0].rot90(quarters, (2, 3)) for quarters in range(4)]
            return images[0] if len(images) == 1 else torch.stack(images)

        taught = [teacher for _, teacher in pairs if teacher is not None]
        return batch._replace(
            images=stacked([student for student, _ in pairs]), teacher_images=stacked(taught) if taught else None
        )

    def repeated_halves(self, batch: Batch, seed: int, epoch: int) -> Batch:
        """Augment as ``views`` does, the first half as view 1: its samples were seen as view 0 in the batch before."""
        half, cut = len(batch.index) // 2, batch.images.dim() == 5
        stored = batch.images[0] if cut else batch.images
        first = self._pair(stored[:half], batch.index[:half], seed, epoch, 1, cut)
        second = self._pair(stored[half:], batch.index[half:], seed, epoch, 0, cut)
        taught = None if first[1] is None or second[1] is None else torch.cat([first[1], second[1]])
        return batch._replace(images=torch.cat([first[0], second[0]]), teacher_images=taught)

    def mixed(self, batch: Batch, classes: int, seed: int, epoch: int) -> Batch:
        """Return an augmented batch of floats with its images mixed, if the recipe asks for that."""
        return batch if self.mixing is None else mix(batch, self.mixing, classes, seed, epoch)


@dataclass(frozen=True)
class Windows:
    """The window of one sample in an image of any size."""

    area: tuple[float, float]
    numbers: list[list[float]]

    def within(self, height: int, width: int) -> Window:
        """Return the window of an image of ``height`` x ``width`` pixels."""
        return window(height, width, self.area, self.numbers)


def _stepped(
    images: Tensor, steps: Sequence[AnyStep] | None, index: Tensor, seed: int, epoch: int, base: int
) -> Tensor:
    for number, step in enumerate(steps or ()):
        stream = base + STEP + number * STEP_STRIDE

        def draw(which: int, stream: int = stream) -> Tensor:
            return uniform(seed, epoch, stream + which, index)

        images = STEPS[type(step)](step, images, draw)
    return images


def as_float(images: Tensor) -> Tensor:
    """Turn uint8 in [0, 255] into float32 in [0, 1]."""
    return images.to(torch.float32) / 255.0


def floats(batch: Batch) -> Batch:
    """Return a batch whose images are floats in [0, 1]."""
    taught = batch.teacher_images
    return batch._replace(images=as_float(batch.images), teacher_images=None if taught is None else as_float(taught))
