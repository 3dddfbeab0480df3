"""ICKD, ITRD, HKD and IRG: what their relations do not depend on, and where they have no value to give."""

import math

import pytest
import torch
from golden_rows.embeddings import SPEC, Given
from torch import Tensor

from kd_bench.errors import ConfigError
from kd_bench.methods.hkd import cosine_kernel, hkd_loss, jeffreys, student_t_kernel
from kd_bench.methods.ickd import ickd_loss
from kd_bench.methods.irg import IRG, edges, graph_loss, transformation_loss
from kd_bench.methods.itrd import correlation_loss, mutual_loss, standardized_columns

from .slow import mean


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_channel_correlation_does_not_care_where_things_are():
    own, other = random(2, 3, 4, 4), random(2, 3, 5, 2, seed=1)
    moved = other.flatten(2)[:, :, torch.randperm(10)].view(2, 3, 2, 5)
    assert ickd_loss(own, moved).item() == pytest.approx(ickd_loss(own, other).item(), rel=1e-9)
    assert ickd_loss(other, moved).item() == pytest.approx(0, abs=1e-20)


def test_channel_correlation_is_divided_by_channels_and_batch():
    own, other, total = random(2, 3, 2, 2), random(2, 3, 2, 2, seed=1), 0.0
    for sample, target in zip(own.flatten(2).tolist(), other.flatten(2).tolist(), strict=True):
        for i in range(3):
            rows = []
            for maps in (sample, target):
                products = [sum(a * b for a, b in zip(maps[i], maps[j], strict=True)) for j in range(3)]
                rows.append([value / math.sqrt(sum(v**2 for v in products)) for value in products])
            total += sum((a - b) ** 2 for a, b in zip(*rows, strict=True))
    assert ickd_loss(own, other).item() == pytest.approx(total / 6, rel=1e-9)


def test_a_unit_that_is_dead_for_a_whole_batch_gives_finite_numbers():
    own, other = random(5, 4).requires_grad_(), random(5, 4, seed=1)
    other[:, 1] = 0
    assert torch.equal(standardized_columns(other)[:, 1], torch.zeros(5, dtype=torch.float64))
    loss = correlation_loss(own * torch.tensor([1, 1, 0, 1]), other, 1.01)
    loss.backward()
    assert loss.isfinite()
    assert own.grad is not None
    assert own.grad.isfinite().all()


def test_correlation_knows_no_scale_and_a_perfect_one_is_one_less_a_batch_th():
    own, other = random(5, 4), random(5, 4, seed=1)
    moved = 3 * own + torch.tensor([1.0, -2.0, 0.5, 0.0])
    assert correlation_loss(moved, other, 1.5).item() == pytest.approx(correlation_loss(own, other, 1.5).item())
    assert correlation_loss(own, own, 1.5).item() == pytest.approx(math.log2(4 * (1 / 5) ** 3))


def test_mutual_information_of_rows_that_are_alike_or_all_zero():
    same = random(1, 4).repeat(3, 1)
    assert mutual_loss(random(3, 4), same).item() == pytest.approx(0, abs=1e-12)  # a constant teacher says nothing
    dead = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True)
    mutual_loss(dead, same).backward()
    assert dead.grad is not None
    assert dead.grad.isfinite().all()


def test_kernels_are_rows_of_probabilities_and_alike_give_no_loss():
    stage = random(4, 3, 2, 2)
    for kernel in (cosine_kernel, student_t_kernel):
        assert torch.allclose(kernel(stage.flatten(1)).sum(dim=1), torch.ones(4, dtype=torch.float64))
    assert hkd_loss(stage, stage).item() == 0
    assert hkd_loss(stage, random(4, 5, 3, 3, seed=1)).item() > 0


def test_jeffreys_divergence_is_symmetric_and_divided_by_all_elements():
    one, other = (kernel(random(3, 4)) for kernel in (cosine_kernel, student_t_kernel))
    pairs = zip(one.flatten().tolist(), other.flatten().tolist(), strict=True)
    expected = mean([(p - q) * (math.log(p) - math.log(q)) for p, q in pairs])
    assert jeffreys(one, other).item() == pytest.approx(expected, rel=1e-9)
    assert jeffreys(other, one).item() == pytest.approx(expected, rel=1e-9)


def test_samples_in_opposite_directions_and_dead_maps_give_finite_gradients():
    """Their cosine is -1, which is a probability of 0."""
    opposite = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], requires_grad=True)
    loss = hkd_loss(opposite, torch.rand(3, 2, generator=torch.Generator().manual_seed(0)))
    loss.backward()
    assert loss.isfinite()
    assert opposite.grad is not None
    assert opposite.grad.isfinite().all()


def test_edges_know_no_scale_and_no_rotation():
    embedding = random(5, 3)
    rotation, _ = torch.linalg.qr(random(3, 3, seed=1))
    assert torch.allclose(edges(7 * embedding @ rotation + 1), edges(embedding), atol=1e-9)
    assert edges(embedding).max().item() == pytest.approx(1)
    assert not edges(embedding).diagonal().any()


def test_vertices_count_where_the_shapes_are_the_same():
    own = random(4, 3)
    assert graph_loss(own, own).item() == 0
    expected = mean(((2 * own - own) ** 2).flatten().tolist())  # the edges are the same
    assert graph_loss(2 * own, own).item() == pytest.approx(expected, rel=1e-9)
    assert graph_loss(torch.cat([own, own], dim=1), own).item() == pytest.approx(0, abs=1e-20)


def test_a_transformation_is_compared_and_not_the_stages():
    own = random(4, 3, 2, 2), random(4, 3, 2, 2, seed=1)
    turned = own[0].flip(1), own[1].flip(1)
    assert transformation_loss(own, turned).item() == pytest.approx(0, abs=1e-20)
    assert transformation_loss(own, (own[0], own[0])).item() > 0


def test_a_stage_that_is_not_there_is_refused():
    network = Given([random(2, 3, 4, 4), random(2, 3, 2, 2)])
    method = IRG(1.0, 1.0, 4.0, 0.005, [(0, 1), (1, 2)])
    with pytest.raises(ConfigError, match=r"method.transformations=.*allowed stages: 0 to 1; .*\(3, 2, 2\)"):
        method.build_adapters(network, network, SPEC)
