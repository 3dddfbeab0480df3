"""Photographs as they are stored: windows, pixels and evaluation as torchvision makes them, whoever decodes them."""

import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kd_bench.data.augmentation import Augmentation, floats
from kd_bench.data.batch import DataSpec
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.image_folder import ImageFolder
from kd_bench.data.reading.decoding import Fit, decode, decode_parts
from kd_bench.data.windows import ATTEMPTS, window, window_numbers
from kd_bench.errors import ConfigError

SIZE = 32


def photograph(height: int, width: int, seed: int, mode: str = "RGB") -> Image.Image:
    """Smooth colours with some noise, as a photograph has them."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (6, 7, 3), np.uint8)).resize((width, height))
    noise = generator.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, form: str = "JPEG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form)
    return buffer.getvalue()


def by_torchvision(content: bytes, transform) -> torch.Tensor:
    return F.pil_to_tensor(transform(Image.open(io.BytesIO(content)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize(("top", "left", "height", "width"), [(3, 5, 60, 80), (0, 0, 100, 140), (90, 2, 7, 9)])
def test_a_part_is_torchvisions_resized_crop_to_the_pixel(mode, top, left, height, width):
    content = encoded(photograph(100, 140, 1, mode))
    (found,) = decode_parts(content, lambda *_: [(left, top, left + width, top + height)], SIZE, SIZE)
    expected = by_torchvision(content, lambda image: F.resized_crop(image, top, left, height, width, [SIZE, SIZE]))
    assert found.dtype == torch.uint8
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("height", "width"), [(100, 140), (140, 100), (64, 64), (37, 301), (20, 25)])
@pytest.mark.parametrize("share", [0.875, 1.0])
def test_evaluation_is_torchvisions_resize_and_centre_crop_to_the_pixel(height, width, share):
    content = encoded(photograph(height, width, 2))
    published = v2.Compose([v2.Resize(round(SIZE / share)), v2.CenterCrop(SIZE)])
    found = decode(content, Fit(SIZE, SIZE, "two_steps", share))
    assert torch.equal(found, by_torchvision(content, published))


def test_224_of_256_is_what_the_published_share_gives():
    assert Fit(224, 224, "two_steps", 0.875).scaled(500, 375) == (int(256 * 500 / 375), 256)


class Scripted:
    """Torchvision's random numbers, taken from ours: where it draws uniformly, and where it draws an integer."""

    def __init__(self, numbers: list[list[float]], monkeypatch) -> None:
        self.attempts, self.place = numbers, 0
        monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, low, high: self.uniform(low, high))
        monkeypatch.setattr(torch, "randint", self.randint)

    def uniform(self, low, high):
        attempt, number = divmod(self.place, 2)
        self.place += 1
        value = float(low) + (float(high) - float(low)) * self.attempts[attempt][number]
        return torch.tensor(value, dtype=torch.float64)

    def randint(self, low, high, size):
        attempt = self.place // 2 - 1
        number = 3 if getattr(self, "asked", False) else 2
        self.asked = True
        return torch.tensor([low + int((high - low) * self.attempts[attempt][number])])


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (100, 100), (40, 600)])
def test_windows_are_those_of_torchvision_given_the_same_numbers(height, width, monkeypatch):
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    for numbers in window_numbers(3, 1, 0, torch.arange(40)).tolist():
        with monkeypatch.context() as patch:
            Scripted(numbers, patch)
            expected = v2.RandomResizedCrop(SIZE, scale=(0.08, 1.0)).make_params([image])
        assert window(height, width, (0.08, 1.0), numbers)._asdict() == expected


@pytest.mark.parametrize(("height", "width"), [(30, 300), (300, 30)])
def test_an_image_too_slim_for_every_window_gives_its_middle(height, width):
    found = window(height, width, (1.0, 1.0), [[0.5] * 4] * ATTEMPTS)
    assert (found.height, found.width) == ((30, 40) if height == 30 else (40, 30))
    assert (found.top, found.left) == ((height - found.height) // 2, (width - found.width) // 2)


def test_windows_cover_the_range_of_areas_and_ratios():
    found = [window(400, 500, (0.2, 0.5), n) for n in window_numbers(0, 0, 0, torch.arange(2000)).tolist()]
    areas = [each.height * each.width / 200_000 for each in found]
    ratios = [math.log(each.width / each.height) for each in found]
    assert 0.195 < min(areas) < 0.21
    assert 0.49 < max(areas) < 0.505
    assert max(map(abs, ratios)) == pytest.approx(math.log(4 / 3), abs=0.02)
    assert abs(sum(ratios) / 2000) < 0.02


# --- A folder of photographs ---

CROPS = Augmentation(resized_crop=[0.08, 1.0], horizontal_flip=True)


@pytest.fixture
def root(tmp_path) -> Path:
    number = 0
    for part, count in (("train", 7), ("test", 2)):
        for name in "ab":
            folder = tmp_path / "photographs" / part / name
            folder.mkdir(parents=True)
            for image in range(count):
                number += 1
                photograph(60 + 3 * number, 90 - number, number).save(folder / f"{image}.jpg")
    return tmp_path / "photographs"


def module(root: Path, augmentation: Augmentation = CROPS, workers: int = 0, **options) -> ImageDataModule:
    arrays = ImageFolder(str(root), [SIZE, SIZE], crop_share=0.875, full_resolution=True).load()
    spec = DataSpec(2, (SIZE, SIZE), (0.5,) * 3, (0.5,) * 3)
    return ImageDataModule(arrays, spec, augmentation, 4, 5, 0.2, workers=workers, **options)


class Training:
    training = True

    def __init__(self, epoch: int) -> None:
        self.current_epoch = epoch


def epoch_of(data: ImageDataModule, epoch: int) -> list:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    data.trainer = Training(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_a_training_image_is_torchvisions_crop_of_the_file_and_its_mirror_image(root):
    data = module(root)
    plain = module(root, Augmentation(resized_crop=[0.08, 1.0]))
    for batch, unflipped in zip(epoch_of(data, 3), epoch_of(plain, 3), strict=True):
        for row, index in enumerate(batch.index.tolist()):
            content = (root / data.train.images.names[index].decode()).read_bytes()
            numbers = window_numbers(5, 3, 0, torch.tensor([index])).tolist()[0]
            image = Image.open(io.BytesIO(content))
            box = window(image.height, image.width, (0.08, 1.0), numbers)
            expected = by_torchvision(content, lambda image, box=box: F.resized_crop(image, *box, [SIZE, SIZE])) / 255
            assert torch.equal(unflipped.images[row], expected)
            assert torch.equal(batch.images[row], expected) or torch.equal(batch.images[row], expected.flip(-1))
            assert int(batch.targets[row]) == int(data.train.targets[index])


def test_evaluation_images_are_torchvisions(root):
    data = module(root)
    (batch,) = data.evaluation_loader(data.test)
    published = v2.Compose([v2.Resize(round(SIZE / 0.875)), v2.CenterCrop(SIZE)])
    for row, name in enumerate(data.test.images.names):
        assert torch.equal(batch.images[row], by_torchvision((root / name.decode()).read_bytes(), published))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on a machine with one core
@pytest.mark.parametrize("options", [{}, {"views": 2}, {"rotations": True}, {"sampler": "repeated_halves"}])
def test_an_epoch_is_the_same_with_any_workers_and_from_any_start(root, options):
    """A resumed run makes its loader anew and begins with a later epoch."""
    first = module(root, **options)
    epochs = [epoch_of(first, epoch) for epoch in range(3)]
    assert not torch.equal(epochs[0][0].images, epochs[1][0].images)
    resumed = module(root, workers=2, **options)
    resumed.first_epoch = 2
    for ours, theirs in zip(epochs[2], epoch_of(resumed, 2), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.targets, theirs.targets)


def test_views_of_an_image_are_different_windows(root):
    for batch in epoch_of(module(root, views=2), 0):
        assert batch.images.shape[:2] == (2, len(batch.index))
        assert (batch.images[0] != batch.images[1]).flatten(1).any(1).all()
    (single, *_), (double, *_) = epoch_of(module(root), 0), epoch_of(module(root, views=2), 0)
    assert torch.equal(single.images, double.images[0])


def test_repeated_samples_are_seen_in_two_views(root):
    batches = epoch_of(module(root, sampler="repeated_halves"), 0)
    views = {}
    for view in (0, 1):
        data = module(root, views=2)
        for batch in epoch_of(data, 0):
            views |= {(view, index): batch.images[view][row] for row, index in enumerate(batch.index.tolist())}
    for batch in batches:
        half = len(batch.index) // 2
        for row, index in enumerate(batch.index.tolist()):
            assert torch.equal(batch.images[row], views[int(row < half), index])


def test_samples_in_order_are_those_of_the_first_view(root):
    data = module(root)
    seen = {int(i): batch.images[row] for batch in epoch_of(data, 2) for row, i in enumerate(batch.index)}
    chosen = torch.tensor([1, 4, 5])
    (batch,) = data.augmented_in_order(2, chosen)
    assert torch.equal(batch.index, chosen)
    for row, index in enumerate(chosen.tolist()):
        assert torch.equal(floats(batch).images[row], seen[index])


def test_stretching_is_refused(root):
    with pytest.raises(ConfigError, match=r"^dataset\.source\.resize=stretch: full_resolution keeps"):
        ImageFolder(str(root), [SIZE, SIZE], resize="stretch", full_resolution=True)


def test_a_run_reads_them_with_any_workers(root, compose, tmp_path):
    from kd_bench.runs.run import run

    def trained(*more: str):
        return run(
            compose(
                "dataset=image_folder", f"dataset.source.root={root}", "dataset.source.full_resolution=true",
                "dataset.num_classes=2", f"dataset.image_size=[{SIZE},{SIZE}]", "dataset.validation_fraction=0.2",
                "student=resnet8_cifar", "teacher=none", "teacher.name=null", "method=scratch", "recipe.epochs=2",
                "recipe.batch_size=4", "logger=none", "trainer.progress=none", "trainer.threads=1", *more,
            )
        )  # fmt: skip

    records = [trained(f"paths.runs={tmp_path / f'runs{n}'}", f"trainer.workers={n}") for n in (0, 1)]
    assert records[0].run_id == records[1].run_id
    assert records[0].student.weights_sha256 == records[1].student.weights_sha256
    decoded_first = trained(f"paths.runs={tmp_path / 'runs2'}", "dataset.source.full_resolution=false")
    assert decoded_first.run_id != records[0].run_id
