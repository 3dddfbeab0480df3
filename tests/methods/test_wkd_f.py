"""WKD-F: its statistics against numpy, block by block, and what it refuses."""

import numpy as np
import pytest
import torch
from golden_rows.embeddings import SPEC, Given
from torch import Tensor
from torch.nn import functional as F

from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress
from kd_bench.methods.wkd_f import WKDF, blocks, bottleneck, wkd_feature_losses

from .pairs import built


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("grid", "height", "width"), [(1, 2, 1), (2, 4, 6), (3, 7, 5)])
def test_the_distances_are_those_of_means_and_deviations_of_each_block(grid, height, width):
    student, teacher = random_map(2, 3, height, width), random_map(2, 3, height, width, seed=1)
    mean = deviation = 0.0
    for sample in range(2):
        for channel in range(3):
            for rows in blocks(height, grid):
                for columns in blocks(width, grid):
                    own, other = (each[sample, channel, rows, columns].numpy() for each in (student, teacher))
                    mean += (own.mean() - other.mean()) ** 2
                    roots = [np.sqrt(each.var(ddof=1) + 1e-5) for each in (own, other)]
                    deviation += (roots[0] - roots[1]) ** 2
    found = wkd_feature_losses(student, teacher, grid, 1e-5)
    assert [each.item() for each in found] == pytest.approx([mean / 2 / grid**2, deviation / 2 / grid**2], rel=1e-9)


@pytest.mark.parametrize(("length", "grid"), [(8, 4), (7, 3), (5, 4), (4, 4)])
def test_blocks_are_those_of_adaptive_pooling(length, grid):
    line = random_map(1, 1, length)
    means = torch.stack([line[:, :, block].mean(dim=2) for block in blocks(length, grid)], dim=2)
    assert torch.allclose(F.adaptive_avg_pool1d(line, grid), means)


def test_the_weight_falls_to_nothing(compose):
    made = built(compose, "wkd_f")
    made.method.decay_start_epoch = 4
    batch = made.batch()
    outputs = made.outputs(batch)
    losses = [made.method(*outputs, batch, Progress(epoch, 8, 0, 1))["wkd_f"].item() for epoch in (0, 3, 5, 7)]
    assert losses[0] > 0
    assert losses == pytest.approx([losses[0], losses[0], losses[0] / 2, 0.0], abs=1e-9)


def test_a_bottleneck_keeps_the_size_and_takes_no_other():
    assert bottleneck((4, 3, 5), (6, 3, 5))(torch.rand(2, 4, 3, 5)).shape == (2, 6, 3, 5)
    with pytest.raises(ConfigError, match=r"method.projector=bottleneck needs last stages of one size; .* 4x4 and 2x2"):
        bottleneck((4, 4, 4), (6, 2, 2))


def test_blocks_of_one_position_are_refused():
    method = WKDF(1.0, 1.0, 1.0, grid=4, projector="conv", decay_start_epoch=0, eps=1e-5)
    maps = Given([random_map(2, 4, 4, 4)])
    with pytest.raises(ConfigError, match=r"method.grid=4: a block of the last stage, 4x4, has a single position"):
        method.build_adapters(maps, maps, SPEC)
