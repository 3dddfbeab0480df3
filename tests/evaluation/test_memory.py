"""Bytes of activations, counted by hand."""

import torch
from torch import nn

from kd_bench.evaluation.memory import peak_activation_bytes

IMAGE = torch.rand(1, 3, 8, 8)
WIDE = nn.Conv2d(3, 16, 3, padding=1)
MAP = 4 * 16 * 8 * 8  # bytes of one output of WIDE


def test_an_operation_keeps_its_input_alive():
    assert peak_activation_bytes(lambda: WIDE(IMAGE)) == MAP
    assert peak_activation_bytes(lambda: WIDE(IMAGE).relu()) == 2 * MAP


def test_what_is_no_longer_needed_is_freed():
    """The second map is made while the first is alive; when the narrow one is made, the first is gone."""
    narrow = nn.Conv2d(16, 4, 3, padding=1)
    network = nn.Sequential(WIDE, nn.ReLU(), narrow, nn.ReLU(inplace=True), nn.Flatten())
    assert peak_activation_bytes(lambda: network(IMAGE)) == 2 * MAP


def test_a_skip_connection_costs_its_map():
    def residual() -> torch.Tensor:
        first = WIDE(IMAGE)
        second = first.relu()
        return first + second.sigmoid()

    assert peak_activation_bytes(residual) == 4 * MAP  # first, second, its sigmoid, their sum


def test_views_and_changes_in_place_cost_nothing():
    assert peak_activation_bytes(lambda: IMAGE.flatten().view(2, -1)) == 0
    assert peak_activation_bytes(lambda: WIDE(IMAGE).relu_().flatten(1)) == MAP


def test_counting_again_gives_the_same():
    counts = {peak_activation_bytes(lambda: WIDE(IMAGE).relu()) for _ in range(5)}
    assert counts == {2 * MAP}
