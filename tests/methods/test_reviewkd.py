"""Knowledge review: its loss on maps of all sizes, its fusion in numpy, and its warm-up."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from kd_bench.methods.base import Progress
from kd_bench.methods.reviewkd import Fusion, hierarchical_context_loss

from .pairs import built


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mean_square(difference: Tensor, size: int) -> float:
    return F.adaptive_avg_pool2d(difference, size).pow(2).mean().item()


@pytest.mark.parametrize(
    ("size", "weights"),
    [
        (8, {8: 1, 4: 0.5, 2: 0.25, 1: 0.125}),
        (5, {5: 1, 4: 0.5, 2: 0.25, 1: 0.125}),
        (4, {4: 1, 2: 0.5, 1: 0.25}),
        (2, {2: 1, 1: 0.5}),
        (1, {1: 1}),
    ],
)
def test_the_loss_is_a_weighted_mean_over_the_sizes_below_the_maps(size, weights):
    student, teacher = random_map(2, 3, size, size).double(), random_map(2, 3, size, size, seed=1).double()
    expected = sum(weight * mean_square(student - teacher, n) for n, weight in weights.items()) / sum(weights.values())
    assert hierarchical_context_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)
    assert hierarchical_context_loss(teacher, teacher).item() == 0


def normalised(x: np.ndarray) -> np.ndarray:
    mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5)


def test_a_fusion_weighs_the_level_and_what_is_deeper_by_two_maps():
    fusion = Fusion(3, 4, 5, deepest=False)
    level, deeper = random_map(2, 3, 4, 4), random_map(2, 4, 2, 2, seed=1)
    assert fusion.gates is not None
    x = normalised(np.einsum("oc,bchw->bohw", fusion.conv1.weight[:, :, 0, 0].detach(), level))
    y = deeper.numpy().repeat(2, axis=2).repeat(2, axis=3)
    scores = np.einsum("oc,bchw->bohw", fusion.gates.weight[:, :, 0, 0].detach(), np.concatenate([x, y], axis=1))
    gates = 1 / (1 + np.exp(-(scores + fusion.gates.bias.detach().numpy()[:, None, None])))
    expected = (gates[:, :1] * x + gates[:, 1:] * y).repeat(2, axis=2).repeat(2, axis=3)
    compared, fused = fusion(level, deeper, (8, 8))
    np.testing.assert_allclose(fused.detach(), expected, rtol=1e-4, atol=1e-5)
    assert compared.shape == (2, 5, 8, 8)


def test_the_weight_rises_over_the_first_epochs(compose):
    made = built(compose, "reviewkd")
    batch = made.batch()
    outputs = made.outputs(batch)
    losses = [made.method(*outputs, batch, Progress(epoch, 240, 0, 1))["review"].item() for epoch in (0, 9, 19, 200)]
    assert losses == pytest.approx([losses[-1] * share for share in (0.05, 0.5, 1.0, 1.0)], rel=1e-5)


def test_the_teacher_is_seen_before_its_last_relu_where_it_can_be(compose):
    made = built(compose, "reviewkd")
    student, teacher = made.outputs(made.batch())
    seen = made.method.review(student, teacher)
    assert seen != made.method.review(student, teacher._replace(pre_activation=None))
    assert seen == made.method.review(student, teacher._replace(stages=[]))
