"""Keys of ``recipe.augmentation`` beyond crop and flip: its lists of steps, and mixing.

A step is a node with its ``kind`` and its ranges. ``kd_bench.data.steps`` does them.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kd_bench.config.ranges import Fraction, NonNegative, PositiveFraction, PositiveInt

MOST_STEPS = 20  # their random streams must not run into those of another view


class Step(BaseModel):
    """Base class of all steps."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Crop(Step):
    """A window of the image's size, cut out after padding with black."""

    kind: Literal["crop"]
    padding: PositiveInt = 4


class ResizedCrop(Step):
    """A window of random area and ratio, resized to the image's size; of the image as decoded, never of the file."""

    kind: Literal["resized_crop"]
    area: Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)] = [0.08, 1.0]

    @model_validator(mode="after")
    def _ordered(self) -> "ResizedCrop":
        _check_order("area", self.area)
        return self


class Flip(Step):
    """A mirror image, left to right."""

    kind: Literal["flip"]
    probability: Fraction = 0.5


class RandAugment(Step):
    """Operations drawn from 14, all of one magnitude (Cubuk et al. 2020, arXiv:1909.13719)."""

    kind: Literal["rand_augment"]
    operations: Annotated[int, Field(ge=1, le=8)] = 2
    magnitude: Annotated[int, Field(ge=0, le=30)] = 9  # of 31 bins


class TrivialAugment(Step):
    """One operation of 14 with a magnitude drawn from 31 bins (Müller & Hutter 2021, arXiv:2103.10158)."""

    kind: Literal["trivial_augment"]


class AutoAugment(Step):
    """One of 25 pairs of operations found for a data set (Cubuk et al. 2019, arXiv:1805.09501)."""

    kind: Literal["auto_augment"]
    policy: Literal["cifar10", "imagenet"]


class ColorJitter(Step):
    """Brightness, contrast, saturation and hue in random order; each strength is the half width of its range."""

    kind: Literal["color_jitter"]
    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    probability: Fraction = 1.0


class RandomErasing(Step):
    """A rectangle of noise or black in place of what was there (Zhong et al. 2020, arXiv:1708.04896)."""

    kind: Literal["random_erasing"]
    probability: Fraction = 0.5
    area: Annotated[list[PositiveFraction], Field(min_length=2, max_length=2)] = [0.02, 0.33]
    fill: Literal["noise", "black"] = "black"

    @model_validator(mode="after")
    def _ordered(self) -> "RandomErasing":
        _check_order("area", self.area)
        return self


class Cutout(Step):
    """A black square with its centre anywhere in the image (DeVries & Taylor 2017, arXiv:1708.04552)."""

    kind: Literal["cutout"]
    size: PositiveInt = 16
    probability: Fraction = 1.0


AnyStep = Annotated[
    Crop | ResizedCrop | Flip | RandAugment | TrivialAugment | AutoAugment | ColorJitter | RandomErasing | Cutout,
    Field(discriminator="kind"),
]
Steps = Annotated[list[AnyStep], Field(max_length=MOST_STEPS)]


class Mixing(Step):
    """Mixing of each image of a batch with another, and of their labels.

    Attributes:
        mixup: parameter of the Beta distribution of the shares in mixup (Zhang et al. 2018, arXiv:1710.09412); 0: none.
        cutmix: the same for CutMix, where it is a rectangle that is mixed (Yun et al. 2019, arXiv:1905.04899).
        probability: share of the batches that are mixed.
        switch: where both are given, share of the mixed batches that get CutMix.
    """

    mixup: NonNegative = 0.0
    cutmix: NonNegative = 0.0
    probability: PositiveFraction = 1.0
    switch: Fraction = 0.5

    @model_validator(mode="after")
    def _one_at_least(self) -> "Mixing":
        if not self.mixup and not self.cutmix:
            raise ValueError("mixing needs mixup or cutmix greater than 0")
        return self


def _check_order(name: str, limits: list[float]) -> None:
    if limits[0] > limits[1]:
        raise ValueError(f"{name} should be [least, greatest]")


STRONG_DEFAULT: list[AnyStep] = [RandAugment(kind="rand_augment", operations=2, magnitude=10)]
"""Steps of a strong view where the recipe names none and the method asks for one."""
