"""FCFD: its loss against loops, its mixed paths against networks cut by hand, and the pairs that it refuses."""

import pytest
import torch
from golden_rows.embeddings import SPEC, Given
from support.taps import make_tap
from torch import Tensor

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.fcfd import FCFD, bridge, fcfd_feature_loss
from kd_bench.models.heads import rectified_stages

from .pairs import built, same, state_of


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square(own: list[float], other: list[float]) -> float:
    return sum((a - b) ** 2 for a, b in zip(own, other, strict=True)) / len(own)


def test_all_maps_are_compared_and_those_of_the_last_stage_twice():
    teacher = [random_map(2, 3, 2, 2), random_map(2, 4, 2, 1, seed=1)]
    compared = [[random_map(2, 3, 2, 2, seed=2)], [random_map(2, 4, 2, 1, seed=3), random_map(2, 4, 2, 1, seed=4)]]
    wanted = sum(
        square(one.flatten().tolist(), target.flatten().tolist())
        for maps, target in zip(compared, teacher, strict=True)
        for one in maps
    )

    def pooled(stage: Tensor) -> list[float]:
        return [sum(max(0.0, x) for x in c.flatten().tolist()) / c.numel() for sample in stage for c in sample]

    wanted += sum(square(pooled(one), pooled(teacher[-1])) for one in compared[-1])
    assert fcfd_feature_loss(compared, teacher).item() == pytest.approx(wanted, rel=1e-9)


def test_a_mixed_path_is_one_network_up_to_a_stage_and_the_other_behind_it(compose):
    made = built(compose, "fcfd")
    batch, method = made.batch(), made.method
    student, teacher = made.outputs(batch)
    bridged = [[carry(student.stages[i])] for carry, (i, _) in zip(method.to_teacher, method.pairs, strict=True)]
    tail = made.teacher.tap.network
    crossed = bridged[0][0]
    wanted = []
    for layer in (tail.layer2, tail.layer3):
        for block in layer:
            _, crossed = block(crossed)
        wanted.append(crossed)
    logits = method._mixed((True, 0), bridged, teacher)
    assert torch.allclose(logits, tail.fc(crossed.mean(dim=(2, 3))), atol=1e-5)
    assert [len(maps) for maps in bridged] == [1, 2, 2]
    assert all(torch.allclose(maps[1], one, atol=1e-5) for maps, one in zip(bridged[1:], wanted, strict=True))
    back = method.to_student[1](teacher.stages[2])
    for block in made.student.network.layer3:
        _, back = block(back)
    logits = method._mixed((False, 1), bridged, teacher)
    assert torch.allclose(logits, made.student.network.fc(back.mean(dim=(2, 3))), atol=1e-5)


def test_mixed_paths_teach_the_student_and_leave_running_statistics_alone(compose):
    made = built(compose, "fcfd")
    batch = made.batch()
    outputs = made.outputs(batch)
    before = state_of(made.student)
    for seed in range(6):  # paths of both directions
        torch.manual_seed(seed)
        terms = made.terms(False, *outputs, batch)
    assert same(before, state_of(made.student))
    terms["mixed_kd"].backward()
    assert all(parameter.grad is None for parameter in made.teacher.parameters())
    assert made.student.network.conv1.weight.grad.any() or made.student.network.layer3[0].conv1.weight.grad.any()
    assert all(module.track_running_stats for module in made.student.modules() if hasattr(module, "running_mean"))


def test_paths_are_drawn_anew_and_differ(compose):
    made = built(compose, "fcfd")
    assert len(made.method.crossings) == 4
    batch, seen = made.batch(), set()
    outputs = made.outputs(batch)
    original = made.method._mixed
    for seed in range(12):
        drawn: list[tuple[bool, int]] = []

        def noted(crossing, compared, teacher, drawn=drawn):
            drawn.append(crossing)
            return original(crossing, compared, teacher)

        made.method._mixed = noted
        torch.manual_seed(seed)
        made.terms(False, *outputs, batch)
        assert len(set(drawn)) == 2
        seen |= set(drawn)
    assert seen == set(made.method.crossings)


@pytest.mark.parametrize(
    ("source", "target"),
    [((3, 4, 4), (5, 4, 4)), ((3, 4, 4), (5, 2, 2)), ((3, 2, 3), (5, 4, 6)), ((3, 7, 7), (5, 4, 4))],
)
def test_a_bridge_ends_in_the_shape_of_the_target(source, target):
    made = bridge(source, target, rectified=True)
    assert made(torch.rand(2, *source)).shape == (2, *target)
    assert isinstance(made[-1], torch.nn.LeakyReLU)
    assert len(bridge(source, target, rectified=False)) == 2


def test_stages_of_other_sizes_and_too_many_paths_are_refused():
    with pytest.raises(ConfigError, match=r"fcfd needs paired stages of one size or of twice the size; .* 9x9 and 2x2"):
        bridge((3, 9, 9), (3, 2, 2), rectified=True)
    method = FCFD(1.0, 1.0, 4.0, 1.0, 1.0, 3, 20, 0, teacher_batch_statistics=False)
    two = Given([random_map(2, 3, 4, 4), random_map(2, 3, 2, 2)])
    with pytest.raises(ConfigError, match=r"method.mixed_paths=3: there are 2 in both directions"):
        method.build_adapters(two, two, SPEC)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("resnet8_cifar", [True] * 4), ("wrn_16_1_cifar", [False] * 4), ("mobilenetv2_cifar", [True] + [False] * 4)],
)
def test_a_stage_is_rectified_where_a_relu_ends_it(name, wanted):
    spec = DataSpec(10, (32, 32), (0.5,) * 3, (0.25,) * 3)
    assert rectified_stages(make_tap(name, spec), spec) == wanted
