"""Variational information distillation against the density of scipy."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

from kd_bench.methods.vid import Gaussian, vid_loss

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


@pytest.mark.parametrize("variance", [0.01, 5.0])
def test_the_variance_starts_as_configured(variance):
    log_scale = Gaussian(4, 6, variance).log_scale
    assert (F.softplus(log_scale) + 1e-5).tolist() == pytest.approx([variance] * 6, rel=1e-5)


def test_variances_are_trained_and_the_stem_is_left_out(compose):
    made = built(compose, "vid")
    made.module.training_step(made.batch(), 0).backward()
    assert made.method.pairs == [(1, 1), (2, 2), (3, 3)]
    assert all(gaussian.log_scale.grad.any() for gaussian in made.method.gaussians)
