"""Steps of an augmentation against torchvision's transforms given the same parameters."""

import math
from itertools import permutations

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from kd_bench.config.augmentation_keys import Steps
from kd_bench.data.augmentation import Augmentation
from kd_bench.data.batch import Batch
from kd_bench.data.operations import (
    AUTO_AUGMENT,
    DRAWN,
    OPERATIONS,
    RAND_AUGMENT,
    SIGNED,
    TRIVIAL_AUGMENT,
    operate,
)
from kd_bench.data.randomness import STEP, STEP_STRIDE, VIEW_STRIDE, uniform
from kd_bench.data.steps import STEPS, policy_table

ALL = tuple(OPERATIONS)
SPACES = [
    (RAND_AUGMENT, v2.RandAugment()),
    (AUTO_AUGMENT, v2.AutoAugment()),
    (TRIVIAL_AUGMENT, v2.TrivialAugmentWide()),
]


def pictures(count: int, height: int = 12, width: int = 9) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


def steps(*nodes: dict) -> list:
    return TypeAdapter(Steps).validate_python(list(nodes))


def published(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def by_torchvision(transform, image: torch.Tensor, name: str, magnitude: float) -> torch.Tensor:
    nearest = InterpolationMode.NEAREST
    return transform._apply_image_or_video_transform(image, published(name), magnitude, nearest, {torch.Tensor: None})


@pytest.mark.parametrize(("space", "transform"), SPACES)
@pytest.mark.parametrize("name", DRAWN)
def test_magnitudes_are_those_of_torchvision(space, transform, name):
    if published(name) not in transform._AUGMENTATION_SPACE:
        assert name == "identity"
        return
    magnitudes, signed = transform._AUGMENTATION_SPACE[published(name)]
    expected = magnitudes(space.bins, 12, 9)
    found = [space.magnitude(name, level, 12, 9) for level in range(space.bins)]
    assert (name in SIGNED) == signed
    assert found == pytest.approx([0.0] * space.bins if expected is None else expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(("space", "transform"), SPACES)
def test_operations_are_those_of_torchvision_image_by_image(space, transform):
    """All operations at three levels with both signs, in one batch."""
    names = [name for name in ALL if published(name) in transform._AUGMENTATION_SPACE]
    cells = [(name, level, minus) for name in names for level in (0, 3, space.bins - 1) for minus in (False, True)]
    images = pictures(len(cells))
    chosen = torch.tensor([ALL.index(name) for name, _, _ in cells])
    levels = torch.tensor([level for _, level, _ in cells])
    minus = torch.tensor([minus for _, _, minus in cells])
    found = operate(images, space, ALL, chosen, levels, minus)
    assert found.dtype == torch.uint8
    for row, (name, level, negative) in enumerate(cells):
        magnitude = space.magnitude(name, level, 12, 9) * (-1 if negative and name in SIGNED else 1)
        assert torch.equal(found[row], by_torchvision(transform, images[row], name, magnitude)), (name, level)


def test_images_that_get_no_operation_stay():
    images = pictures(3)
    none = torch.full((3,), -1)
    assert torch.equal(operate(images, RAND_AUGMENT, DRAWN, none, none + 5, none > 0), images)


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_policies_are_those_of_torchvision(policy):
    expected = v2.AutoAugment(v2.AutoAugmentPolicy(policy))._policies
    table = policy_table(policy)
    assert table.shape == (25, 2, 3)
    for pair, rows in zip(expected, table.tolist(), strict=True):
        for (name, probability, level), (operation, share, found) in zip(pair, rows, strict=True):
            assert (published(ALL[int(operation)]), share, int(found)) == (name, probability, level or 0)


def test_policies_of_cifar_begin_as_in_the_paper():
    """Cubuk et al. 2019, table 7: Invert 0.1 and Contrast 0.2 at 6; Rotate 0.7 at 2 and TranslateX 0.3 at 9."""
    named = [
        [(ALL[int(op)], share, int(level)) for op, share, level in pair] for pair in policy_table("cifar10").tolist()
    ]
    assert named[0] == [("invert", 0.1, 0), ("contrast", 0.2, 6)]
    assert named[1] == [("rotate", 0.7, 2), ("translate_x", 0.3, 9)]


class Numbers:
    """Random numbers of a step by what they are asked for, to compute with them again."""

    def __init__(self, index: torch.Tensor) -> None:
        self.index = index

    def __call__(self, which: int) -> torch.Tensor:
        return uniform(2, 1, STEP + which, self.index)


def applied(node: dict, images: torch.Tensor) -> tuple[torch.Tensor, Numbers]:
    (step,) = steps(node)
    draw = Numbers(torch.arange(len(images)))
    return STEPS[type(step)](step, images, draw), draw


def test_rand_augment_applies_operation_after_operation():
    images, transform = pictures(40), v2.RandAugment()
    found, draw = applied({"kind": "rand_augment", "operations": 3, "magnitude": 12}, images)
    for row, image in enumerate(images):
        expected = image
        for number in range(3):
            name = DRAWN[int(draw(2 * number)[row] * 14)]
            minus = -1 if name in SIGNED and draw(2 * number + 1)[row] < 0.5 else 1
            magnitudes = transform._AUGMENTATION_SPACE[published(name)][0](31, 12, 9)
            magnitude = 0.0 if magnitudes is None else minus * float(magnitudes[12])
            expected = by_torchvision(transform, expected, name, magnitude)
        assert torch.equal(found[row], expected)


def test_trivial_augment_applies_one_operation_at_any_level():
    images, transform = pictures(60), v2.TrivialAugmentWide()
    found, draw = applied({"kind": "trivial_augment"}, images)
    levels = (draw(1) * 31).long().tolist()
    assert len(set(levels)) > 20
    for row, image in enumerate(images):
        name = DRAWN[int(draw(0)[row] * 14)]
        minus = -1 if name in SIGNED and draw(2)[row] < 0.5 else 1
        magnitudes = transform._AUGMENTATION_SPACE[published(name)][0](31, 12, 9)
        magnitude = 0.0 if magnitudes is None else minus * float(magnitudes[levels[row]])
        assert torch.equal(found[row], by_torchvision(transform, image, name, magnitude))


@pytest.mark.parametrize("policy", ["cifar10", "imagenet"])
def test_auto_augment_applies_each_operation_of_a_pair_with_its_probability(policy):
    images, transform = pictures(80), v2.AutoAugment(v2.AutoAugmentPolicy(policy))
    found, draw = applied({"kind": "auto_augment", "policy": policy}, images)
    for row, image in enumerate(images):
        expected = image
        for number, (name, share, level) in enumerate(transform._policies[int(draw(0)[row] * 25)]):
            if draw(1 + 2 * number)[row] < share:
                magnitudes, signed = transform._AUGMENTATION_SPACE[name]
                minus = -1 if signed and draw(2 + 2 * number)[row] < 0.5 else 1
                magnitude = 0.0 if level is None else minus * float(magnitudes(10, 12, 9)[level])
                expected = transform._apply_image_or_video_transform(
                    expected, name, magnitude, InterpolationMode.NEAREST, {torch.Tensor: None}
                )
        assert torch.equal(found[row], expected)


def test_colour_jitter_is_torchvisions_in_its_order():
    images = pictures(60)
    found, draw = applied(
        {"kind": "color_jitter", "brightness": 0.4, "contrast": 0.3, "saturation": 1.5, "hue": 0.1}, images
    )
    jitter = v2.ColorJitter(0.4, 0.3, 1.5, 0.1)
    limits = [jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue]
    adjusts = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue]
    orders = set()
    for row, image in enumerate(images):
        factors = [low + (high - low) * float(draw(2 + n)[row]) for n, (low, high) in enumerate(limits)]
        candidates = {}
        for order in permutations(range(4)):
            expected = image
            for place in order:
                expected = adjusts[place](expected, factors[place])
            candidates[order] = expected
        matching = [order for order, expected in candidates.items() if torch.equal(expected, found[row])]
        assert matching
        orders.update(matching)
    assert len(orders) > 12


def test_erasing_is_torchvisions_rectangle():
    images = pictures(200, 20, 24)
    found, draw = applied({"kind": "random_erasing", "probability": 0.6, "area": [0.1, 0.4]}, images)
    changed = 0
    for row, image in enumerate(images):
        if draw(0)[row] >= 0.6:
            assert torch.equal(found[row], image)
            continue
        rectangle = None
        for attempt in range(5):
            share, form, top, left = (float(draw(1 + 4 * attempt + n)[row]) for n in range(4))
            area, ratio = 480 * (0.1 + 0.3 * share), (10 / 3) ** (2 * form - 1)
            tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if tall < 20 and wide < 24:
                rectangle = int(top * (20 - tall + 1)), int(left * (24 - wide + 1)), tall, wide
                break
        expected = image if rectangle is None else F.erase(image, *rectangle, v=torch.zeros(1, dtype=torch.uint8))
        assert torch.equal(found[row], expected)
        changed += rectangle is not None
    assert changed > 90


def test_noise_fills_what_is_erased_evenly_and_is_the_samples_own():
    images = torch.zeros(30, 3, 32, 32, dtype=torch.uint8)
    node = {"kind": "random_erasing", "probability": 1.0, "area": [0.3, 0.3], "fill": "noise"}
    found, _ = applied(node, images)
    values = found[found > 0].double()
    assert float(values.mean()) == pytest.approx(128, abs=3)
    assert float(values.std()) == pytest.approx(256 / math.sqrt(12), abs=3)
    assert len({found[row].numpy().tobytes() for row in range(30)}) == 30
    assert torch.equal(found, applied(node, images)[0])


@pytest.mark.parametrize("size", [4, 5])
def test_cutout_blackens_a_square_around_any_pixel(size):
    images = torch.full((300, 3, 12, 9), 7, dtype=torch.uint8)
    found, draw = applied({"kind": "cutout", "size": size}, images)
    centres = set()
    for row in range(300):
        top, left = int(draw(1)[row] * 12) - size // 2, int(draw(2)[row] * 9) - size // 2
        centres.add((top, left))
        expected = images[row].clone()
        expected[:, max(top, 0) : top + size, max(left, 0) : left + size] = 0
        assert torch.equal(found[row], expected)
    assert len(centres) > 80


def test_the_crops_and_the_flip_of_a_list_are_those_of_the_keys():
    images = pictures(64)
    found, draw = applied({"kind": "crop", "padding": 2}, images)
    for row in range(64):
        top, left = int(draw(0)[row] * 5), int(draw(1)[row] * 5)
        assert torch.equal(found[row], F.crop(F.pad(images[row], [2, 2, 2, 2]), top, left, 12, 9))
    flipped, draw = applied({"kind": "flip", "probability": 0.2}, images)
    for row in range(64):
        assert torch.equal(flipped[row], F.hflip(images[row]) if draw(0)[row] < 0.2 else images[row])
    whole, _ = applied({"kind": "resized_crop", "area": [1.0, 1.0]}, images[:, :, :9])
    assert whole.shape == (64, 3, 9, 9)


EVERY_STEP = [
    {"kind": "crop", "padding": 2}, {"kind": "resized_crop"}, {"kind": "flip"}, {"kind": "rand_augment"},
    {"kind": "trivial_augment"}, {"kind": "auto_augment", "policy": "cifar10"},
    {"kind": "color_jitter", "brightness": 0.4, "hue": 0.1}, {"kind": "random_erasing", "fill": "noise"},
    {"kind": "cutout", "size": 4},
]  # fmt: skip


@pytest.mark.parametrize("nodes", [[node] for node in EVERY_STEP] + [EVERY_STEP], ids=lambda nodes: nodes[0]["kind"])
def test_a_sample_gets_the_same_pixels_in_any_batch_and_others_in_another_epoch_or_view(nodes):
    augmentation, images, index = Augmentation(steps=steps(*nodes)), pictures(30), torch.arange(100, 130)
    whole = augmentation(images, index, seed=3, epoch=5)
    assert whole.dtype == torch.uint8
    assert whole.shape == images.shape
    for part in torch.randperm(30, generator=torch.Generator().manual_seed(0)).split(7):
        assert torch.equal(augmentation(images[part], index[part], seed=3, epoch=5), whole[part])
    for other in ({"seed": 4}, {"epoch": 6}, {"view": 1}):
        assert not torch.equal(augmentation(images, index, **{"seed": 3, "epoch": 5, **other}), whole)


def test_every_step_has_its_own_numbers():
    """No stream of a step reaches into the next step or view."""
    asked = []
    for node in EVERY_STEP:
        (step,) = steps(node | ({"operations": 8} if node["kind"] == "rand_augment" else {}))

        def draw(which: int) -> torch.Tensor:
            asked.append(which)
            return torch.full((2,), 0.9999)  # erasing that never fits asks for most

        step = step.model_copy(update={"area": [1.0, 1.0]} if node["kind"] == "random_erasing" else {})
        STEPS[type(step)](step, pictures(2), draw)
    assert max(asked) < STEP_STRIDE
    assert STEP + 20 * STEP_STRIDE <= VIEW_STRIDE


def test_strong_views_and_the_teachers_images_share_crop_and_flip():
    images, index = pictures(20), torch.arange(20)
    invert = steps({"kind": "cutout", "size": 3})
    shared = {"crop_padding": 2, "horizontal_flip": True}
    batch = Batch(images, index, index)
    plain = Augmentation(**shared).views(batch, 1, 2, 2)
    strong = Augmentation(**shared, strong_steps=invert, strong_views=(1,)).views(batch, 1, 2, 2)
    both = Augmentation(**shared, steps=invert).views(batch, 1, 2, 2)
    assert torch.equal(strong.images[0], plain.images[0])
    assert torch.equal(strong.images[1], both.images[1])
    assert strong.teacher_images is None
    taught = Augmentation(**shared, steps=invert, teacher_steps=[]).views(batch, 1, 2, 2)
    assert torch.equal(taught.images, both.images)
    assert torch.equal(taught.teacher_images, plain.images)
    halves = Augmentation(**shared, steps=invert, teacher_steps=[]).repeated_halves(batch, 1, 2)
    assert torch.equal(halves.teacher_images, Augmentation(**shared).repeated_halves(batch, 1, 2).images)


def test_a_strong_view_without_steps_of_the_recipe_is_rand_augment():
    images, index = pictures(20), torch.arange(20)
    default = Augmentation(strong_views=(0,))(images, index, 1, 2)
    named = steps({"kind": "rand_augment", "operations": 2, "magnitude": 10})
    assert torch.equal(default, Augmentation(steps=named)(images, index, 1, 2))


@pytest.mark.parametrize(
    ("node", "words"),
    [
        ({"kind": "sharpen"}, "kind"),
        ({"kind": "rand_augment", "magnitude": 31}, "less than or equal to 30"),
        ({"kind": "random_erasing", "area": [0.5, 0.1]}, "area should be"),
        ({"kind": "auto_augment", "policy": "svhn"}, "cifar10"),
        ({"kind": "flip", "chance": 1}, "chance"),
    ],
)
def test_bad_steps_are_refused(node, words):
    with pytest.raises(ValidationError, match=words):
        steps(node)
