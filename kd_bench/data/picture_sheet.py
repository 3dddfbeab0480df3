"""A sheet of pictures that shows what an augmentation does: each of its parts alone, then all together."""

from collections.abc import Iterator
from copy import copy
from dataclasses import fields

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.augmentation import Augmentation, floats
from kd_bench.data.datamodule import ImageDataModule

LEAST_SIDE, MOST_SIDE = 64, 112  # pixels of a picture on the sheet
GAP, TITLE = 4, 18  # pixels between pictures, and of a title


def picture_sheet(data: ImageDataModule, samples: int, epochs: int) -> Image.Image:
    """Draw rows of training samples and columns of epochs, for each part of the augmentation and for the whole.

    The first column is the image as it is evaluated.
    """
    positions = torch.linspace(0, len(data.train) - 1, samples).long()
    (plain,) = data.evaluation_loader(data.train.subset(positions))
    blocks = []
    for title, augmentation in parts(data.augmentation):
        alone = copy(data)
        alone.augmentation = augmentation
        drawn = [_augmented(alone, epoch, positions) for epoch in range(epochs)]
        blocks.append((title, torch.stack([floats(plain).images, *drawn], dim=1)))
    return _page(blocks)


def _augmented(data: ImageDataModule, epoch: int, positions: Tensor) -> Tensor:
    batches = list(data.augmented_in_order(epoch, positions))
    whole = batches[0]._replace(
        images=torch.cat([batch.images for batch in batches]),
        targets=torch.cat([batch.targets for batch in batches]),
        index=torch.cat([batch.index for batch in batches]),
        teacher_images=None,
    )
    return data.augmentation.mixed(floats(whole), data.spec.num_classes, data.seed, epoch).images


def parts(augmentation: Augmentation) -> Iterator[tuple[str, Augmentation]]:
    """Yield the parts of an augmentation with titles, each alone; then what student and teacher see."""
    if augmentation.crop_padding:
        yield f"crop_padding {augmentation.crop_padding}", Augmentation(crop_padding=augmentation.crop_padding)
    if augmentation.resized_crop is not None:
        yield f"resized_crop {augmentation.resized_crop}", Augmentation(resized_crop=augmentation.resized_crop)
    if augmentation.horizontal_flip:
        yield "horizontal_flip", Augmentation(horizontal_flip=True)
    for name in ("steps", "strong_steps", "teacher_steps"):
        for step in getattr(augmentation, name) or ():
            words = ", ".join(f"{key} {value}" for key, value in step.model_dump(exclude={"kind"}).items())
            yield f"{name}: {step.kind} {words}", Augmentation(steps=[step])
    if augmentation.mixing is not None:
        words = ", ".join(f"{key} {value}" for key, value in augmentation.mixing.model_dump().items())
        yield f"mixing: {words}", Augmentation(mixing=augmentation.mixing)
    given = {field.name: getattr(augmentation, field.name) for field in fields(augmentation)}
    yield "all together", Augmentation(**{**given, "strong_views": ()})
    if augmentation.strong_views:
        yield "all together, strong view", Augmentation(**{**given, "strong_views": (0,)})
    if augmentation.teacher_steps is not None:
        given["steps"] = augmentation.teacher_steps
        yield "all together, teacher", Augmentation(**{**given, "strong_views": ()})


def _page(blocks: list[tuple[str, Tensor]]) -> Image.Image:
    """Put blocks of pictures (rows, columns, 3, H, W) below each other, each under its title."""
    rows, columns, _, height, width = blocks[0][1].shape
    longest = max(height, width)
    factor = MOST_SIDE / longest if longest > MOST_SIDE else max(LEAST_SIDE / longest, 1)
    tall, wide = round(height * factor), round(width * factor)
    block = TITLE + rows * (tall + GAP)
    page = Image.new("RGB", (columns * (wide + GAP) + GAP, len(blocks) * block + GAP), "white")
    pen = ImageDraw.Draw(page)
    for number, (title, pictures) in enumerate(blocks):
        pen.text((GAP, number * block + GAP), title, fill="black")
        for row in range(rows):
            mode = {"mode": "nearest"} if factor >= 1 else {"mode": "bilinear", "antialias": True}
            line = F.interpolate(pictures[row], (tall, wide), **mode)
            for column, picture in enumerate((line * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()):
                place = (GAP + column * (wide + GAP), number * block + TITLE + GAP + row * (tall + GAP))
                page.paste(Image.fromarray(picture), place)
    return page
