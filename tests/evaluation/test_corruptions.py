"""Generated corruptions: each against a slow formula, and the same pixels on every machine and in every batch."""

import hashlib

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from kd_bench.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupted


def photographs(count: int = 6, height: int = 32, width: int = 32) -> torch.Tensor:
    """Smooth images with an edge, uint8 (B, 3, H, W)."""
    rows = torch.linspace(0, 1, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 1, width, dtype=torch.float64)
    images = torch.stack([torch.sin(6 * (rows + k * columns) / (k + 1)).abs() for k in range(count)])
    images[:, : height // 3] *= 0.5
    return (255 * torch.stack([images, images.flip(1), 1 - images], dim=1)).round().to(torch.uint8)


def apply(kind: str, severity: int, images: torch.Tensor | None = None, first: int = 0) -> torch.Tensor:
    images = photographs() if images is None else images
    return corrupted(images, first + torch.arange(len(images)), kind, severity)


EVERY = [(kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES]


@pytest.mark.parametrize(("kind", "severity"), EVERY)
def test_corruption_depends_on_image_and_position_alone(kind, severity):
    """Not on the batch, the size of the batch or the global generator."""
    images = photographs()
    before = images.clone()
    whole = apply(kind, severity, images)
    assert torch.equal(images, before)
    torch.manual_seed(1)
    parts = [corrupted(images[index], index, kind, severity) for index in torch.tensor([5, 0, 3, 1, 2, 4]).split(2)]
    assert torch.equal(torch.cat(parts), whole[[5, 0, 3, 1, 2, 4]])
    assert (whole.dtype, whole.shape) == (torch.uint8, images.shape)


@pytest.mark.parametrize("kind", CORRUPTIONS)
@pytest.mark.parametrize("size", [(8, 8), (32, 32), (28, 40)])
def test_higher_severities_change_images_more(kind, size):
    images = photographs(6, *size)
    changes = [(apply(kind, s, images).double() - images.double()).square().mean() for s in SEVERITIES]
    assert 0 < changes[0] < changes[1] < changes[2]


@pytest.mark.parametrize("kind", ["gaussian_noise", "salt_and_pepper", "occlusion"])
def test_random_corruptions_differ_from_image_to_image(kind):
    alike = photographs(1).expand(4, -1, -1, -1)
    assert len({image.numpy().tobytes() for image in apply(kind, 2, alike)}) == 4
    assert torch.equal(apply(kind, 2, alike[:1], first=3), apply(kind, 2, alike)[3:])


# Change NAME in kd_bench.evaluation.corruptions together with these: records of the old pixels are not comparable.
PIXELS = "52c936ef9a0c4222"


def test_the_pixels_of_the_set_are_fixed():
    digest = hashlib.sha256()
    for kind, severity in EVERY:
        digest.update(apply(kind, severity).numpy().tobytes())
    assert digest.hexdigest()[:16] == PIXELS


def test_gaussian_noise_has_its_moments():
    grey = torch.full((20, 3, 32, 32), 128, dtype=torch.uint8)
    noise = apply("gaussian_noise", 1, grey).double() - 128
    assert float(noise.mean()) == pytest.approx(0, abs=0.2)
    assert float(noise.std()) == pytest.approx(0.06 * 255, rel=0.01)
    within = (noise.abs() < 0.06 * 255).double().mean()
    assert float(within) == pytest.approx(0.683, abs=0.01)
    neighbours = noise.numpy()
    assert abs(np.corrcoef(neighbours[..., 1:].ravel(), neighbours[..., :-1].ravel())[0, 1]) < 0.01


def test_salt_and_pepper_changes_its_share_to_black_and_white_alike():
    grey = torch.full((20, 3, 32, 32), 100, dtype=torch.uint8)
    changed = apply("salt_and_pepper", 2, grey)
    assert float((changed != 100).double().mean()) == pytest.approx(0.06, abs=0.003)
    assert set(changed.unique().tolist()) == {0, 100, 255}
    assert float((changed == 0).double().sum() / (changed == 255).double().sum()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_gaussian_blur_is_scipys_filter(severity):
    images, sigma = photographs(), (0.04, 0.06, 0.09)[severity - 1] * 32
    smooth = images.double().numpy()
    for axis in (2, 3):
        smooth = gaussian_filter1d(smooth, sigma, axis, mode="mirror", radius=int(np.ceil(3 * sigma)))
    assert np.abs(apply("gaussian_blur", severity, images).double().numpy() - smooth).max() <= 0.5 + 1e-6


def test_blur_of_tiny_images_stays_within_them():
    assert apply("gaussian_blur", 3, photographs(2, 2, 2)).shape == (2, 3, 2, 2)


def test_pixelation_is_the_mean_of_blocks():
    images = photographs()
    blocks = images.double().numpy().reshape(6, 3, 16, 2, 16, 2).mean(axis=(3, 5))
    expected = blocks.repeat(2, axis=2).repeat(2, axis=3)
    assert np.abs(apply("pixelation", 1, images).double().numpy() - expected).max() <= 0.5 + 1e-6


def test_contrast_and_brightness_are_linear():
    images = photographs().double().numpy()
    mean = images.mean(axis=(1, 2, 3), keepdims=True)
    assert np.abs(apply("low_contrast", 3).double().numpy() - (mean + 0.2 * (images - mean))).max() <= 0.5 + 1e-6
    assert np.abs(apply("brightness", 2).double().numpy() - (images + 51).clip(0, 255)).max() <= 0.5 + 1e-6


def test_occlusion_is_one_black_rectangle_of_its_size_anywhere():
    white = torch.full((300, 3, 32, 32), 255, dtype=torch.uint8)
    black = apply("occlusion", 3, white) == 0
    assert (black.sum(dim=(1, 2, 3)) == 3 * 16 * 16).all()
    corners = [tuple(int(axis.min()) for axis in torch.where(image[0])) for image in black]
    for image, (row, column) in zip(black, corners, strict=True):
        assert image[:, row : row + 16, column : column + 16].all()
    assert {row for row, _ in corners} == {column for _, column in corners} == set(range(17))
