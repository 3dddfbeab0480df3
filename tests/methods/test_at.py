"""Attention transfer against loops over samples, channels and positions."""

import math
from types import SimpleNamespace

import pytest
import torch
from golden_rows.given import adapt, outputs, run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_bench.errors import ConfigError
from kd_bench.methods.at import AT, at_loss

from .slow import mean, reproducible


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def pooled(channel: list[list[float]], height: int, width: int) -> list[list[float]]:
    """Adaptive average pooling: output i covers the inputs from floor(i * n / m) to ceil((i + 1) * n / m)."""

    def windows(size: int, wanted: int) -> list[range]:
        return [range(i * size // wanted, -(-(i + 1) * size // wanted)) for i in range(wanted)]

    rows, columns = windows(len(channel), height), windows(len(channel[0]), width)
    return [[mean([channel[y][x] for y in ys for x in xs]) for xs in columns] for ys in rows]


def slow_attention(sample: list[list[list[float]]], height: int, width: int, power: int) -> list[float]:
    channels = [pooled(channel, height, width) for channel in sample]
    energy = [mean([channel[y][x] ** power for channel in channels]) for y in range(height) for x in range(width)]
    length = math.sqrt(math.fsum(value**2 for value in energy))
    return [value / length for value in energy]


def slow_at(student: Tensor, teacher: Tensor, power: int) -> float:
    height, width = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    differences = []
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        maps = slow_attention(own, height, width, power), slow_attention(other, height, width, power)
        differences += [(ours - theirs) ** 2 for ours, theirs in zip(*maps, strict=True)]
    return mean(differences)


@pytest.mark.parametrize("power", [1, 2, 3])
@pytest.mark.parametrize(
    ("student", "teacher"),
    [
        ((3, 4, 5, 5), (3, 2, 5, 5)),
        ((2, 3, 8, 8), (2, 5, 4, 4)),  # student larger
        ((2, 3, 4, 4), (2, 3, 8, 8)),  # student smaller
        ((2, 3, 7, 5), (2, 2, 3, 4)),  # windows that overlap, not square
        ((2, 3, 6, 2), (2, 3, 3, 4)),  # each smaller in one direction
    ],
)
def test_at_is_the_mean_square_of_normalised_attention(student, teacher, power):
    own, other = random_map(*student), random_map(*teacher, seed=1)
    assert at_loss(own, other, power).item() == pytest.approx(slow_at(own, other, power), rel=1e-9)


@reproducible
@given(st.integers(0, 1000), st.sampled_from([0.01, 3.0, 250.0]))
def test_attention_knows_no_scale(seed, scale):
    own, other = random_map(2, 3, 4, 4, seed=seed), random_map(2, 2, 4, 4, seed=seed + 1)
    assert at_loss(scale * own, other, 2).item() == pytest.approx(at_loss(own, other, 2).item(), rel=1e-9)
    assert at_loss(scale * other, other, 2).item() == pytest.approx(0, abs=1e-20)


def test_a_dead_map_gives_finite_gradients():
    dead = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = at_loss(dead, torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), 2)
    loss.backward()
    assert loss.isfinite()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_the_stem_is_left_out_and_the_rest_added_up():
    own = [random_map(2, 3, 8, 8, seed=i).requires_grad_() for i in range(3)]
    other = [random_map(2, 4, 8, 8, seed=9 + i) for i in range(3)]
    method = AT(ce_weight=0.0, at_weight=10.0, power=2, skip_stages=1)
    adapt(method, own, other)
    value = run(method, outputs(own), outputs(other))["at"]
    assert value.item() == pytest.approx(10 * sum(slow_at(own[i], other[i], 2) for i in (1, 2)), rel=1e-9)
    gradients = torch.autograd.grad(value, own, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [False, True, True]


def test_leaving_out_every_stage_is_refused():
    shapes = [(16, 8, 8), (16, 8, 8), (32, 4, 4), (64, 2, 2)]
    network = SimpleNamespace(name="resnet8_cifar", stage_shapes=shapes, stage_pairs=None)
    method = AT(ce_weight=1.0, at_weight=1.0, power=2, skip_stages=4)
    with pytest.raises(ConfigError, match=r"method.skip_stages=4 leaves 0 of 4 pairs of stages, .*\(64, 2, 2\)"):
        method.build_adapters(network, network, None)
