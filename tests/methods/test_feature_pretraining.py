"""AB, FSP and FT: their losses written out, and what each of their two stages trains."""

import math

import pytest
import torch
from torch import Tensor, nn

from kd_bench.config.check import check
from kd_bench.errors import ConfigError
from kd_bench.methods.ab import Connector, ab_loss
from kd_bench.methods.fsp import flow_matrix, fsp_losses
from kd_bench.methods.ft import factor_loss
from kd_bench.training.pair import build

from .pairs import built, optimizer_of, state_of
from .slow import mean


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(compose, choice: str, pretraining: bool):
    """What two steps of a stage change: names in the student's network and in the method."""
    made = built(compose, choice)
    made.module.pretraining = pretraining
    optimizer = optimizer_of(made.module)
    parts = {"student": made.student.network, "method": made.method}
    before = {part: state_of(module) for part, module in parts.items()}
    for step in range(2):
        optimizer.zero_grad()
        made.module.training_step(made.batch(seed=step), step).backward()
        optimizer.step()
    return {
        part: {name for name, p in module.named_parameters() if not torch.equal(p, before[part][name])}
        for part, module in parts.items()
    }


@pytest.mark.parametrize("choice", ["ab", "fsp"])
def test_boundaries_and_flows_train_all_but_the_classifier_and_then_labels_train_all(compose, choice):
    everything = {name for name, _ in built(compose, choice).student.network.named_parameters()}
    first, second = trained(compose, choice, True), trained(compose, choice, False)
    assert first["student"] == {name for name in everything if not name.startswith("fc")}
    assert second == {"student": everything, "method": set()}


def test_the_paraphraser_is_trained_alone_and_then_left_as_it_is(compose):
    first, second = trained(compose, "ft", True), trained(compose, "ft", False)
    assert not first["student"]
    assert {name.split(".")[0] for name in first["method"]} == {"paraphraser"}
    assert {name.split(".")[1] for name in first["method"]} == {"encoder", "decoder"}
    assert second["student"]
    assert {name.split(".")[0] for name in second["method"]} == {"translator"}


def slow_ab(student: Tensor, teacher: Tensor, margin: float) -> float:
    losses = []
    for own, other in zip(student.flatten(1).tolist(), teacher.flatten(1).tolist(), strict=True):
        sides = [(s, 1 if t > 0 else -1) for s, t in zip(own, other, strict=True)]
        losses.append(math.fsum(max(margin - side * s, 0) ** 2 for s, side in sides))
    return mean(losses)


def test_ab_is_the_squared_distance_to_the_margin():
    student, teacher = 2 * random_map(3, 2, 4, 4), random_map(3, 2, 4, 4, seed=1)
    teacher[0, 0] = 0  # not active
    assert ab_loss(student, teacher, 1.5).item() == pytest.approx(slow_ab(student, teacher, 1.5), rel=1e-9)
    assert ab_loss(student, teacher.clamp(min=0), 1.5) == ab_loss(student, teacher, 1.5)
    assert ab_loss(1.6 * teacher.sign() - 0.01, teacher.sign(), 1.5) > 0
    assert ab_loss(2 * torch.where(teacher > 0, 1.0, -1.0), teacher, 1.5) == 0


def test_boundaries_of_maps_of_one_shape_need_no_connector_unless_the_student_gives_none_before_the_relu(compose):
    assert all(isinstance(part, nn.Identity) for part in built(compose, "ab").method.connectors)
    made = built(compose, "ab", pair="vit")
    assert made.method.connectors
    assert all(isinstance(part, Connector) for part in made.method.connectors)
    rectified = made.method._connector((4, 2, 2), (4, 2, 2), signed=False)
    assert isinstance(rectified, Connector)


def test_the_last_boundary_weighs_most(compose):
    made = built(compose, "ab")
    student, teacher = made.outputs(made.batch())
    losses = made.method.stage_losses(student, teacher)
    alone = [slow_ab(student.pre_activation[i], teacher.pre_activation[i], 1.0) for i in (1, 2, 3)]
    expected = [0.003 * weight * loss for weight, loss in zip((0.25, 0.5, 1), alone, strict=True)]
    assert [loss.item() for loss in losses] == pytest.approx(expected, rel=1e-5)


def test_a_flow_matrix_holds_mean_products_of_channels():
    shallow, deep = random_map(2, 3, 4, 4), random_map(2, 2, 2, 2, seed=1)
    flow = flow_matrix(shallow, deep)
    assert flow.shape == (2, 3, 2)
    pooled = [
        mean(shallow[1, 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten().tolist()) for y in (0, 1) for x in (0, 1)
    ]
    expected = mean([a * b for a, b in zip(pooled, deep[1, 0].flatten().tolist(), strict=True)])
    assert flow[1, 2, 0].item() == pytest.approx(expected, rel=1e-9)


def test_equal_flows_have_no_loss_whatever_the_place():
    stages = [random_map(2, 3, 4, 4), random_map(2, 4, 4, 4, seed=1), random_map(2, 2, 2, 2, seed=2)]
    shifted = [stage.roll((1, 1), dims=(2, 3)) for stage in stages[:2]]
    assert [loss.item() for loss in fsp_losses(stages, stages)] == [0, 0]
    assert fsp_losses(shifted, stages[:2])[0].item() == pytest.approx(0, abs=1e-20)
    assert fsp_losses(stages[:2], [stages[0], stages[1].roll(1, dims=2)])[0] > 0


def test_flows_between_other_numbers_of_channels_are_refused(compose):
    cfg = compose("method=fsp", "teacher=resnet32x4_cifar")
    with pytest.raises(ConfigError, match=r"method=fsp compares channels one by one.*resnet32x4_cifar: \[\(32, 8, 8\)"):
        build(check(cfg))


@pytest.mark.parametrize("exponent", [1, 2, 3])
def test_the_exponent_is_that_of_each_position(exponent):
    student, teacher = random_map(2, 3, 2, 2), random_map(2, 5, 2, 2, seed=1)
    powers = []
    for own, other in zip(student, teacher, strict=True):
        maps = [factor.pow(2).mean(dim=0).flatten().tolist() for factor in (own, other)]
        lengths = [sum(value**2 for value in values) ** 0.5 for values in maps]
        for a, b in zip(*maps, strict=True):
            difference = a / lengths[0] - b / lengths[1]
            powers.append(abs(difference) if exponent == 1 else difference**exponent)
    assert factor_loss(student, teacher, 2, exponent).item() == pytest.approx(sum(powers) / len(powers), rel=1e-9)


def test_factors_that_differ_by_a_scale_are_alike():
    factor, other = random_map(2, 3, 4, 4), random_map(2, 5, 8, 8, seed=1)
    assert factor_loss(-4 * factor, factor, 2).item() == pytest.approx(0, abs=1e-12)
    assert factor_loss(factor, other, 2) > 0
