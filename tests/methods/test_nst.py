"""Neuron selectivity transfer against loops over channels, and what it does not depend on."""

import math

import pytest
import torch
from golden_rows import ROWS
from torch import Tensor
from torch.nn import functional as F

from kd_bench.methods.nst import nst_loss

from .slow import mean


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def patterns(sample: Tensor) -> list[list[float]]:
    rows = [channel.flatten().tolist() for channel in sample]
    return [[value / math.sqrt(math.fsum(v * v for v in row)) for value in row] for row in rows]


def kernel(ones: list[list[float]], others: list[list[float]]) -> float:
    return mean([math.fsum(a * b for a, b in zip(x, y, strict=True)) ** 2 for x in ones for y in others])


def slow_nst(student: Tensor, teacher: Tensor) -> float:
    pairs = [(patterns(own), patterns(other)) for own, other in zip(student, teacher, strict=True)]
    return mean([kernel(x, x) + kernel(y, y) - 2 * kernel(x, y) for x, y in pairs])


@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((3, 4, 5, 5), (3, 2, 5, 5)),  # more positions than channels: products of channels
        ((2, 9, 2, 2), (2, 7, 2, 2)),  # fewer: products of positions
        ((2, 4, 2, 3), (2, 1, 2, 3)),
        ((1, 5, 1, 1), (1, 3, 1, 1)),
    ],
)
def test_nst_is_the_squared_discrepancy_written_out(student, teacher):
    own, other = random_map(*student), random_map(*teacher, seed=1)
    assert nst_loss(own, other).item() == pytest.approx(slow_nst(own, other), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("student", "teacher"), [((2, 3, 8, 8), (2, 5, 4, 4)), ((2, 3, 4, 4), (2, 3, 8, 6))])
def test_the_larger_map_is_pooled(student, teacher):
    own, other = random_map(*student), random_map(*teacher, seed=1)
    pooled = F.adaptive_avg_pool2d(own, 4), F.adaptive_avg_pool2d(other, 4)
    assert nst_loss(own, other).item() == pytest.approx(slow_nst(*pooled), rel=1e-9)


@pytest.mark.parametrize("size", [2, 6])
def test_order_and_scale_of_channels_do_not_matter(size):
    own, other = random_map(2, 6, size, size), random_map(2, 4, size, size, seed=1)
    loss = nst_loss(own, other).item()
    scales = torch.tensor([0.1, 2.0, 1.0, 5.0, 3.0, 0.7], dtype=torch.float64).view(1, -1, 1, 1)
    assert nst_loss(scales * own[:, [3, 1, 0, 5, 4, 2]], other).item() == pytest.approx(loss, rel=1e-9)
    assert nst_loss(scales * own, own).item() == pytest.approx(0, abs=1e-12)
    assert loss > 0


@pytest.mark.parametrize("size", [2, 6])
def test_dead_channels_give_finite_gradients(size):
    own = F.relu(random_map(2, 8, size, size)).float()
    own[:, :3] = 0
    own.requires_grad_()
    nst_loss(own, random_map(2, 8, size, size, seed=1).float()).backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()
    assert own.grad.any()


def test_the_golden_row_gives_what_the_vectors_from_elsewhere_hold():
    student = {"student_feature_0": random_map(4, 8, 8, 8), "student_feature_1": random_map(4, 12, 4, 4, seed=1)}
    teacher = {
        "teacher_feature_0": random_map(4, 8, 8, 8, seed=2),
        "teacher_feature_1": random_map(4, 20, 4, 4, seed=3),
    }
    outputs = ROWS["nst"]({"hyperparameters": {"loss_weight": 50.0}}, student | teacher)
    stages = [slow_nst(own, other) for own, other in zip(student.values(), teacher.values(), strict=True)]
    expected = {
        "loss": sum(stages),
        "loss_weighted": 50 * sum(stages),
        "loss_stage_0": stages[0],
        "loss_stage_1": stages[1],
    }
    assert {name: value.item() for name, value in outputs.items()} == pytest.approx(expected, rel=1e-9)
