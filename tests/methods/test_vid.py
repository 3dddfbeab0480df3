"""Variational information distillation against the density of scipy."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from kd_bench.errors import ConfigError
from kd_bench.methods.vid import VID, Gaussian, vid_loss

from .pairs import built


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_vid_is_a_gaussians_negative_log_likelihood_without_its_constant():
    mean, teacher, log_scale = random_map(2, 3, 4, 4), random_map(2, 3, 4, 4, seed=1), random_map(3, seed=2)
    deviation = (F.softplus(log_scale) + 1e-5).sqrt().view(1, 3, 1, 1)
    likelihood = stats.norm.logpdf(teacher.numpy(), mean.numpy(), deviation.numpy()).mean()
    expected = -likelihood - 0.5 * math.log(2 * math.pi)
    assert vid_loss(mean, teacher, log_scale).item() == pytest.approx(expected, rel=1e-9)


def test_the_best_variance_is_the_mean_squared_error():
    mean, teacher = random_map(2, 1, 4, 4), random_map(2, 1, 4, 4, seed=1)
    best = math.log(math.expm1((mean - teacher).pow(2).mean().item() - 1e-5))
    log_scale = torch.tensor([best], dtype=torch.float64, requires_grad=True)
    vid_loss(mean, teacher, log_scale).backward()
    assert log_scale.grad is not None
    assert log_scale.grad.item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("variance", "least"), [(0.01, 1e-5), (5.0, 1e-5), (5.0, 1.5)])
def test_the_variance_starts_as_configured(variance, least):
    log_scale = Gaussian(4, 6, variance, least).log_scale
    assert (F.softplus(log_scale) + least).tolist() == pytest.approx([variance] * 6, rel=1e-5)


def test_no_variance_is_below_its_floor():
    mean, teacher = random_map(2, 1, 4, 4), random_map(2, 1, 4, 4, seed=1)
    log_scale = torch.tensor([-200.0], dtype=torch.float64)
    squared = (mean - teacher).pow(2).mean().item()
    assert vid_loss(mean, teacher, log_scale, 0.5).item() == pytest.approx((squared / 0.5 + math.log(0.5)) / 2)


def test_an_initial_variance_at_the_floor_is_refused():
    with pytest.raises(ConfigError, match=r"initial_variance=0.5 .* greater than method.least_variance=0.5"):
        VID(1.0, 1.0, 0.5, 1, least_variance=0.5)


def test_the_floor_is_that_of_every_stage(compose):
    made = built(compose, "vid")
    batch = made.batch()
    losses = []
    for floor in (1e-5, 1.0):
        made.method.least_variance = floor
        losses.append([loss.item() for loss in made.method.stage_losses(*made.outputs(batch))])
    assert all(low != high for low, high in zip(*losses, strict=True))


def test_variances_are_trained_and_the_stem_is_left_out(compose):
    made = built(compose, "vid")
    made.module.training_step(made.batch(), 0).backward()
    assert made.method.pairs == [(1, 1), (2, 2), (3, 3)]
    assert all(gaussian.log_scale.grad.any() for gaussian in made.method.gaussians)
