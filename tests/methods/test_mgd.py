"""MGD against loops over samples, channels and positions, with its random mask written down."""

import pytest
import torch
from golden_rows.embeddings import Given, built
from golden_rows.given import outputs, run
from torch import Tensor

from kd_bench.methods.mgd import MGD, without_random_channels


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def convolved(sample: list[list[list[float]]], weight: Tensor, bias: Tensor) -> list[list[list[float]]]:
    """A 3x3 convolution with zeros around the map."""
    height, width = len(sample[0]), len(sample[0][0])

    def value(kernel: list[list[list[float]]], y: int, x: int) -> float:
        return sum(
            kernel[c][dy][dx] * sample[c][y + dy - 1][x + dx - 1]
            for c in range(len(sample))
            for dy in range(3)
            for dx in range(3)
            if 0 <= y + dy - 1 < height and 0 <= x + dx - 1 < width
        )

    return [
        [[value(kernel, y, x) + offset for x in range(width)] for y in range(height)]
        for kernel, offset in zip(weight.tolist(), bias.tolist(), strict=True)
    ]


def test_mgd_is_the_squared_distance_of_a_map_generated_from_kept_channels():
    own, other = random_map(2, 3, 3, 2), random_map(2, 3, 3, 2, seed=1)
    method = built(MGD(0.0, 0.5, 0.4), Given([own]), Given([other]))
    torch.manual_seed(7)
    loss = run(method, outputs([own]), outputs([other]))["mgd"]
    torch.manual_seed(7)
    kept = (torch.rand(2, 3) >= 0.4).tolist()
    assert 0 < sum(map(sum, kept)) < 6
    first, second, total = method.generator[0], method.generator[2], 0.0
    for sample, target, keep in zip(own.tolist(), other.tolist(), kept, strict=True):
        masked = [[[v * flag for v in row] for row in channel] for channel, flag in zip(sample, keep, strict=True)]
        hidden = [
            [[max(v, 0.0) for v in row] for row in channel] for channel in convolved(masked, first.weight, first.bias)
        ]
        made = convolved(hidden, second.weight, second.bias)
        total += sum(
            (a - b) ** 2
            for one, two in zip(made, target, strict=True)
            for r, s in zip(one, two, strict=True)
            for a, b in zip(r, s, strict=True)
        )
    assert loss.item() == pytest.approx(0.5 * total / 2, rel=1e-9)


def test_whole_channels_are_masked_and_the_rest_is_not_scaled():
    masked = without_random_channels(torch.ones(50, 40, 2, 2), 0.15)
    assert set(masked.unique().tolist()) == {0.0, 1.0}
    assert (masked.flatten(2).amin(dim=2) == masked.flatten(2).amax(dim=2)).all()
    assert masked.mean().item() == pytest.approx(0.85, abs=0.03)


def test_channels_are_aligned_where_they_differ_and_the_larger_map_is_pooled():
    own, other = random_map(2, 3, 4, 4), random_map(2, 5, 2, 2, seed=1)
    method = built(MGD(0.0, 1.0, 0.15), Given([own]), Given([other]))
    assert (method.align.in_channels, method.align.out_channels) == (3, 5)
    assert run(method, outputs([own]), outputs([other]))["mgd"].isfinite()
