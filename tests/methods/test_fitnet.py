"""The regressor of hints, for every ratio of sizes."""

import pytest
import torch
from torch import nn

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.fitnet import Regressor, hint_loss
from kd_bench.training.pair import build

from .pairs import built

Shape = tuple[int, int, int]


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel", "stride"),
    [
        ((16, 8, 8), (32, 8, 8), nn.Conv2d, (1, 1), (1, 1)),
        ((8, 16, 16), (12, 8, 8), nn.Conv2d, (3, 3), (2, 2)),
        ((8, 4, 4), (6, 8, 8), nn.ConvTranspose2d, (4, 4), (2, 2)),
        ((8, 10, 10), (6, 8, 8), nn.Conv2d, (3, 3), (1, 1)),
        ((8, 7, 7), (6, 3, 3), nn.Conv2d, (5, 5), (1, 1)),
        ((8, 7, 9), (6, 5, 8), nn.Conv2d, (3, 2), (1, 1)),
        ((8, 16, 9), (12, 8, 5), nn.Conv2d, (3, 3), (2, 2)),
    ],
)
def test_the_convolution_follows_from_the_sizes(student, teacher, kind, kernel, stride):
    regressor = Regressor(student, teacher)
    assert type(regressor.conv) is kind
    assert (regressor.conv.kernel_size, regressor.conv.stride) == (kernel, stride)
    assert regressor.conv.bias is not None
    guided = regressor(torch.randn(2, *student, generator=torch.Generator().manual_seed(0)))
    assert guided.shape == (2, *teacher)
    assert guided.min() == 0  # rectified


@pytest.mark.parametrize(("student", "teacher"), [((8, 3, 3), (8, 8, 8)), ((8, 8, 2), (8, 8, 8))])
def test_a_student_map_that_is_too_small_is_refused(student, teacher):
    with pytest.raises(ConfigError, match=r"student map at least half as large .* student \dx\d, teacher 8x8"):
        Regressor(student, teacher)


def test_hints_are_compared_by_the_mean_over_all_elements():
    one = torch.tensor([[[[1.0, 2.0]], [[0.0, -1.0]]]])
    assert hint_loss(one, torch.zeros_like(one)).item() == (1 + 4 + 0 + 1) / 4


def test_only_the_hinted_stage_and_what_precedes_it_learn_from_the_hint(compose):
    made = built(compose, "fitnet")
    batch = made.batch()
    hint = made.method(*made.outputs(batch), batch, None)["hint"]
    hint.backward()
    touched = {name.split(".")[0] for name, p in made.student.network.named_parameters() if p.grad is not None}
    assert touched == {"conv1", "bn1", "layer1", "layer2"}


def test_a_stage_that_does_not_exist_is_refused_with_those_that_do(compose):
    cfg = compose("method=fitnet")
    cfg.method.hint_stage = 4
    with pytest.raises(ConfigError, match=r"method.hint_stage=4: allowed 0 to 3; .*resnet8_cifar.*resnet20_cifar"):
        build(check(cfg))
