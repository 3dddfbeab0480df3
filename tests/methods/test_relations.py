"""Losses on relations between samples against loops over samples."""

import math

import pytest
import torch
from golden_rows.relations import ROWS
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_bench.methods.correlation import correlation_loss
from kd_bench.methods.pkt import pkt_loss
from kd_bench.methods.rkd import angles, distances, rkd_angle_loss, rkd_distance_loss
from kd_bench.methods.sp import sp_loss

from .slow import Rows, mean, reproducible

LOSSES = [rkd_distance_loss, rkd_angle_loss, pkt_loss]
every_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dot(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


def smooth_l1(difference: float) -> float:
    return difference**2 / 2 if abs(difference) < 1 else abs(difference) - 0.5


# RKD.


def slow_distances(rows: Rows) -> list[list[float]]:
    plain = [[math.dist(one, other) for other in rows] for one in rows]
    scale = mean([value for row in plain for value in row if value > 0])
    return [[value / scale for value in row] for row in plain]


def slow_cosine(at: list[float], one: list[float], other: list[float]) -> float:
    first, second = ([a - b for a, b in zip(end, at, strict=True)] for end in (one, other))
    lengths = math.sqrt(dot(first, first)) * math.sqrt(dot(second, second))
    return dot(first, second) / lengths if lengths else 0.0


def slow_angles(rows: list[list[float]]) -> list[float]:
    return [slow_cosine(at, one, other) for at in rows for one in rows for other in rows]


@reproducible
@given(st.integers(2, 7), st.integers(1, 6), st.integers(0, 1000))
def test_rkd_is_the_smooth_distance_of_distances_and_of_angles(samples, units, seed):
    own, other = random(samples, units, seed=seed), random(samples, units + 2, seed=seed + 1)
    ours, theirs = ([value for row in slow_distances(each.tolist()) for value in row] for each in (own, other))
    expected = mean([smooth_l1(a - b) for a, b in zip(ours, theirs, strict=True)])
    assert rkd_distance_loss(own, other).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    ours, theirs = slow_angles(own.tolist()), slow_angles(other.tolist())
    expected = mean([smooth_l1(a - b) for a, b in zip(ours, theirs, strict=True)])
    assert rkd_angle_loss(own, other).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_rkd_in_float32_keeps_its_digits_far_from_the_origin():
    near = random(8, 16)
    exact = angles(near)
    assert (angles((near + 20).float()) - exact).abs().max() < 1e-5
    assert (distances((near + 20).float()) - distances(near)).abs().max() < 1e-5


@every_loss
def test_samples_that_coincide_or_vanish_give_finite_gradients(loss):
    for own in (torch.zeros(4, 5), torch.ones(4, 5), torch.eye(4)[[0, 0, 1, 2]]):
        own.requires_grad_()
        value = loss(own, random(4, 3).float())
        value.backward()
        assert value.isfinite()
        assert own.grad is not None
        assert own.grad.isfinite().all()


@every_loss
def test_turning_and_scaling_the_space_changes_nothing(loss):
    own, other = random(6, 5), random(6, 4, seed=1)
    turn, _ = torch.linalg.qr(random(5, 5, seed=2))
    expected = loss(own, other).item()
    assert expected > 1e-6
    assert loss(3 * own @ turn, other).item() == pytest.approx(expected, rel=1e-6)
    assert loss(3 * other, other).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_rkd_knows_no_origin(loss):
    own, other = random(6, 5), random(6, 4, seed=1)
    assert loss(own + random(5, seed=3), other).item() == pytest.approx(loss(own, other).item(), rel=1e-9)


# SP.


def slow_similarities(maps: Tensor) -> list[list[float]]:
    rows = maps.flatten(1).tolist()
    products = [[dot(one, other) for other in rows] for one in rows]
    return [[value / math.sqrt(dot(row, row)) for value in row] for row in products]


def test_sp_is_the_squared_distance_of_similarities():
    own, other = random(5, 3, 4, 4), random(5, 2, 6, 5, seed=1)
    ours, theirs = slow_similarities(own), slow_similarities(other)
    squares = [(ours[i][j] - theirs[i][j]) ** 2 for i in range(5) for j in range(5)]
    assert sp_loss(own, other).item() == pytest.approx(math.fsum(squares) / 25, rel=1e-9)
    assert sp_loss(7 * own, other).item() == pytest.approx(sp_loss(own, other).item(), rel=1e-9)
    assert sp_loss(7 * other, other).item() == pytest.approx(0, abs=1e-20)


def test_similarities_of_bfloat16_maps_are_taken_in_float32():
    own = random(5, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = sp_loss(own, random(5, 2, 4, 4, seed=1).float())
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(sp_loss(own.double(), random(5, 2, 4, 4, seed=1)).item(), rel=1e-4)


# PKT.


def slow_probabilities(rows: Rows) -> list[list[float]]:
    directions = [[value / (math.sqrt(dot(list(row), list(row))) + 1e-7) for value in row] for row in rows]
    shifted = [[(dot(one, other) + 1) / 2 for other in directions] for one in directions]
    return [[value / math.fsum(row) for value in row] for row in shifted]


def slow_pkt(student: Rows, teacher: Rows) -> float:
    ours, theirs = slow_probabilities(student), slow_probabilities(teacher)
    return mean(
        [
            q * math.log((q + 1e-7) / (p + 1e-7))
            for own, other in zip(ours, theirs, strict=True)
            for p, q in zip(own, other, strict=True)
        ]
    )


@reproducible
@given(st.integers(2, 7), st.integers(0, 1000))
def test_pkt_is_a_divergence_of_neighbour_probabilities(samples, seed):
    own, other = random(samples, 4, seed=seed), random(samples, 6, seed=seed + 1)
    expected = slow_pkt(own.tolist(), other.tolist())
    assert pkt_loss(own, other).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    case = {"hyperparameters": {"eps": 1e-07, "loss_weight": 30000.0}}
    row = ROWS["pkt"](case, {"student_embedding": own, "teacher_embedding": other})
    assert row["loss"].item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert row["loss_weighted"].item() == pytest.approx(30000 * expected, rel=1e-9, abs=1e-8)


# Correlation.

LINEAR = ("projection_linear_weight", "projection_linear_bias")


def slow_linear(rows: Rows, weight: Rows, bias: list[float]) -> list[list[float]]:
    return [[dot(list(row), list(unit)) + offset for unit, offset in zip(weight, bias, strict=True)] for row in rows]


def slow_correlation(student: Rows, teacher: Rows) -> float:
    pairs = zip(student, teacher, strict=True)
    difference = [[abs(a - b) for a, b in zip(own, other, strict=True)] for own, other in pairs]
    return mean([dot(difference[i], difference[i + 1]) for i in range(len(difference) - 1)])


def test_correlation_is_a_sum_over_neighbours():
    arrays = {
        "student_embedding": random(8, 16),
        "teacher_embedding": random(8, 24, seed=1),
        "student_projection_linear_weight": random(32, 16, seed=2),
        "student_projection_linear_bias": random(32, seed=3),
        "teacher_projection_linear_weight": random(32, 24, seed=4),
        "teacher_projection_linear_bias": random(32, seed=5),
    }
    row = ROWS["correlation"]({"hyperparameters": {"loss_weight": 0.02, "projection_dim": 32}}, arrays)
    own, other = (
        slow_linear(*(arrays[f"{of}_{name}"].tolist() for name in ("embedding", *LINEAR)))
        for of in ("student", "teacher")
    )
    expected = slow_correlation(own, other)
    assert row["loss"].item() == pytest.approx(expected, rel=1e-9)
    assert row["loss_weighted"].item() == pytest.approx(0.02 * expected, rel=1e-9)
    torch.testing.assert_close(row["projected_student"], torch.tensor(own, dtype=torch.float64))
    torch.testing.assert_close(row["projected_teacher"], torch.tensor(other, dtype=torch.float64))


def test_correlation_looks_at_neighbours_alone():
    """Where every second sample agrees it is 0, whatever the others are."""
    own, other = random(6, 4), random(6, 4, seed=1)
    assert correlation_loss(own, own).item() == 0
    other[::2] = own[::2]
    assert correlation_loss(own, other).item() == 0
    assert correlation_loss(own[[0, 2, 4, 1, 3, 5]], other[[0, 2, 4, 1, 3, 5]]).item() > 0
