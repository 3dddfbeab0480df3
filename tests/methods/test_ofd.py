"""Margins against scipy, the partial distance against loops, and where the batch norms are found."""

import json
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm
import torch
from scipy import stats
from torch import Tensor, nn

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.ofd import OFD, margins, ofd_loss
from kd_bench.training.pair import build

from .pairs import built
from .slow import mean

NETWORKS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).parent.parent / "golden" / "networks").glob("*.json"))
}


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("weight", "bias"), [(1.0, 0.0), (-0.5, 0.3), (2.0, -3.0), (0.3, -4.0), (0.7, 2.1)])
def test_a_margin_is_the_mean_of_what_is_negative(weight, bias):
    scale = abs(weight)
    expected = stats.truncnorm.mean(-float("inf"), -bias / scale, loc=bias, scale=scale)
    for dtype in (torch.float64, torch.float32):
        got = margins(torch.tensor([weight], dtype=dtype), torch.tensor([bias], dtype=dtype))
        assert got.shape == (1, 1, 1, 1)
        assert got.dtype == torch.float32
        assert got.item() == pytest.approx(expected, rel=2e-7 if dtype == torch.float32 else 6e-8)


def test_a_channel_that_is_hardly_ever_negative_has_three_deviations_and_a_constant_one_is_finite():
    weight, bias = torch.tensor([0.5, -0.5, 0.0, 0.0, 0.0]), torch.tensor([1.6, 9.0, 1.0, 0.0, -2.0])
    assert margins(weight, bias).flatten().tolist() == pytest.approx([-1.5, -1.5, 0, 0, -2])


def slow_ofd(student: Tensor, teacher: Tensor, margin: list[float]) -> float:
    losses = []
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        loss = 0.0
        for channel, least in enumerate(margin):
            for s, t in zip(chain(*own[channel]), chain(*other[channel]), strict=True):
                target = max(t, least)
                loss += 0.0 if t <= 0 and s <= target else (s - target) ** 2
        losses.append(loss)
    return mean(losses)


def test_the_partial_distance_is_the_sum_written_out():
    student, teacher = random_map(3, 2, 4, 4), random_map(3, 2, 4, 4, seed=1)
    got = ofd_loss(student, teacher, torch.tensor([-0.5, -0.1], dtype=torch.float64).view(1, 2, 1, 1))
    assert got.item() == pytest.approx(slow_ofd(student, teacher, [-0.5, -0.1]), rel=1e-9)


def test_a_student_at_the_teacher_or_below_its_margin_has_no_loss():
    teacher = random_map(2, 3, 4, 4)
    margin = torch.full((1, 3, 1, 1), -0.5, dtype=torch.float64)
    assert ofd_loss(teacher, teacher, margin).item() == 0
    far_below = torch.where(teacher > 0, teacher, teacher - 7)
    assert ofd_loss(far_below, teacher, margin).item() == 0


@pytest.mark.parametrize("name", NETWORKS)
def test_the_batch_norms_are_those_of_the_published_networks(name):
    network = timm.create_model(f"{name}_cifar")
    names = network.last_batch_norms()
    assert len(names) == len(network.feature_info)
    expected = NETWORKS[name]["batchnorm_before_relu"]
    assert names == ([None] * len(names) if expected is None else [None, *expected])
    for entry, info in zip(names, network.feature_info, strict=True):
        assert entry is None or network.get_submodule(entry).num_features == info["num_chs"]


def test_margins_follow_the_weights_that_the_teacher_gets_after_the_method_is_built(compose):
    made = built(compose, "ofd")
    batch = made.batch()
    outputs = made.outputs(batch)
    before = made.method(*outputs, batch, None)["overhaul"]
    for module in made.teacher.tap.network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.bias, -3.0)
    assert made.method(*outputs, batch, None)["overhaul"] != before
    assert not any("norms" in name for name in made.method.state_dict())


def test_shallow_stages_weigh_half(compose):
    made = built(compose, "ofd")
    batch = made.batch()
    losses = made.method.stage_losses(*made.outputs(batch))
    student, teacher = made.outputs(batch)
    norm = made.teacher.tap.network.layer1[-1].bn2
    alone = ofd_loss(
        made.method.connectors[0](student.pre_activation[1]), teacher.pre_activation[1], margins(norm.weight, norm.bias)
    )
    assert len(losses) == 3
    assert losses[0].item() == pytest.approx(alone.item() / 4, rel=1e-5)


@pytest.mark.parametrize("batch_statistics", [True, False])
def test_the_teacher_in_train_mode_is_a_choice(batch_statistics):
    method = OFD(1.0, 0.001, 1, teacher_batch_statistics=batch_statistics)
    assert method.requires.batch_statistics is batch_statistics


def test_stages_are_aligned_at_the_last_one_unless_configured():
    method = OFD(1.0, 0.001, 1, True)
    student = SimpleNamespace(name="short", stage_shapes=[(1, 1, 1)] * 4, stage_pairs=None)
    teacher = SimpleNamespace(name="long", stage_shapes=[(1, 1, 1)] * 5)
    assert method._pairs(student, teacher) == [(1, 2), (2, 3), (3, 4)]
    student.stage_pairs = [(0, 0), (2, 4)]
    assert method._pairs(student, teacher) == [(2, 4)]
    student.stage_pairs, method.skip_stages = None, 4
    with pytest.raises(ConfigError, match=r"method.skip_stages=4 leaves no stage; stages of short"):
        method._pairs(student, teacher)


@pytest.mark.parametrize("teacher", ["shufflenetv1_cifar", "resnet18"])
def test_a_teacher_without_such_batch_norms_is_refused_by_name(compose, teacher):
    cfg = compose("method=ofd", f"teacher={teacher}")
    with pytest.raises(ConfigError, match=f"method=ofd takes margins .* which {teacher} does not give"):
        build(check(cfg))
