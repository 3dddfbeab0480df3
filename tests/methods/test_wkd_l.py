"""WKD-L: similar classes, transport plans and their decay, against definitions and a linear program."""

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.methods.losses import cosine_decay
from kd_bench.methods.wkd_l import WKDL, class_similarities, transport_costs, transport_loss
from kd_bench.models.features import Outputs

from . import slow
from .slow import random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)
shapes = st.tuples(st.integers(1, 4), st.integers(3, 6))


def random_costs(classes: int, seed: int) -> Tensor:
    """Costs of classes that are points on a plane."""
    points = random_logits((classes, 2), seed, scale=0.5)
    return transport_costs(torch.cdist(points, points), 1.0)


def without(values: list[float], label: int) -> list[float]:
    return [value for k, value in enumerate(values) if k != label]


def sinkhorn(left: list[float], right: list[float], costs: list[list[float]], strength: float, steps: int) -> float:
    """Cost of the plan after some steps, one number at a time."""
    count = range(len(left))
    kernel = [[math.exp(-cost / strength) for cost in row] for row in costs]
    rows = [1 / len(left)] * len(left)
    for _ in range(steps):
        columns = [right[j] / (math.fsum(kernel[i][j] * rows[i] for i in count) + 1e-8) for j in count]
        rows = [left[i] / (math.fsum(kernel[i][j] * columns[j] for j in count) + 1e-8) for i in count]
    return math.fsum(rows[i] * kernel[i][j] * columns[j] * costs[i][j] for i in count for j in count)


@reproducible
@given(shapes, seeds, st.sampled_from([0.05, 1.0]), st.sampled_from([1, 10]))
def test_the_plan_is_sinkhorns_over_the_other_classes(shape, seed, strength, steps):
    student, teacher, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed)
    costs = random_costs(shape[1], seed)
    samples = []
    for own, other, label in zip(student.tolist(), teacher.tolist(), labels.tolist(), strict=True):
        among = [without(row, label) for row in without(costs.tolist(), label)]  # type: ignore[arg-type]
        softened = [slow.softmax(without(row, label), 2.0) for row in (own, other)]
        samples.append(sinkhorn(*softened, among, strength, steps))
    found = transport_loss(student, teacher, labels, costs, 2.0, strength, steps)
    assert found.item() == pytest.approx(slow.mean(samples), rel=1e-9)


def test_a_weak_entropy_and_many_steps_give_the_cheapest_transport():
    student, teacher, label = random_logits((1, 5), 0), random_logits((1, 5), 1), torch.tensor([2])
    costs = random_costs(5, 3)
    left, right = (np.array(slow.softmax(without(row[0], 2), 2.0)) for row in (student.tolist(), teacher.tolist()))
    among = np.delete(np.delete(costs.numpy(), 2, 0), 2, 1)
    rows = np.kron(np.eye(4), np.ones(4))
    columns = np.kron(np.ones(4), np.eye(4))
    cheapest = linprog(among.flatten(), A_eq=np.vstack([rows, columns]), b_eq=np.concatenate([left, right]))
    found = transport_loss(student, teacher, label, costs, 2.0, 0.05, 5000)
    assert found.item() == pytest.approx(cheapest.fun, rel=1e-3)


def test_equal_logits_are_nearly_free_and_the_labels_are_not_compared():
    logits, labels, costs = random_logits((3, 5), 0), torch.tensor([0, 3, 4]), random_costs(5, 1)
    moved = logits.clone()
    moved[torch.arange(3), labels] += 7
    together = transport_loss(logits, logits, labels, costs, 2.0, 0.05, 10)
    assert 0 < together.item() < 0.1 * transport_loss(logits, -logits, labels, costs, 2.0, 0.05, 10).item()
    assert transport_loss(moved, logits, labels, costs, 2.0, 0.05, 10).item() == pytest.approx(together.item())


@pytest.mark.parametrize("sharpening", [0.0, 1.0, 2.0])
def test_costs_are_sharpened_distances(sharpening):
    distances = torch.tensor([[0.0, 0.3], [0.9, -0.1]])
    found = transport_costs(distances, sharpening).flatten().tolist()
    wanted = [1 - math.exp(-sharpening * d) if sharpening else d for d in (0.0, 0.3, 0.9, -0.1)]
    assert found == pytest.approx([max(cost, 0) + 1e-8 for cost in wanted], abs=1e-7)


def test_similarities_are_linear_cka():
    features = torch.stack([random_logits((7, 3), seed) for seed in range(4)])
    identity, ones = np.eye(7), np.ones((7, 7))
    centering = identity - ones / 7
    kernels = [of.numpy() @ of.numpy().T for of in features]

    def independence(left: Any, right: Any) -> float:
        return float(np.trace(left @ centering @ right @ centering))

    for a in range(4):
        for b in range(4):
            norm = math.sqrt(independence(kernels[a], kernels[a]) * independence(kernels[b], kernels[b]))
            wanted = independence(kernels[a], kernels[b]) / norm
            assert class_similarities(features)[a, b].item() == pytest.approx(wanted, rel=1e-9)


def test_similarities_are_those_of_all_blocks_of_samples():
    features = torch.stack([random_logits((150, 3), seed) for seed in range(2)])
    centered = features - features.mean(dim=1, keepdim=True)
    cross = torch.linalg.matrix_norm(centered[0].T @ centered[1]) ** 2
    norms = [torch.linalg.matrix_norm(of.T @ of) for of in centered]
    wanted = cross / (norms[0] * norms[1])
    assert class_similarities(features)[0, 1].item() == pytest.approx(wanted.item(), rel=1e-9)


def test_classes_without_spread_resemble_none():
    assert class_similarities(torch.ones(2, 3, 4)).tolist() == [[0, 0], [0, 0]]


def made() -> WKDL:
    method = WKDL(1.0, 1.0, 600.0, 8.0, 1.0, 0.05, 10, 3)
    method.build_adapters(None, None, SimpleNamespace(num_classes=3))  # type: ignore[arg-type]
    return method


def training_set(targets: Tensor, embeddings: Tensor) -> TrainingSet:
    def outputs() -> Iterator[tuple[Batch, Outputs]]:
        for index in torch.arange(len(targets)).split(4):
            yield Batch(torch.zeros(0), targets[index], index), Outputs(embeddings[index], [], embeddings[index])

    return TrainingSet(targets, 3, outputs)


def test_each_class_counts_with_as_many_samples_as_the_smallest_has():
    targets = torch.tensor([0, 2, 2, 0, 1, 2, 0, 1, 0, 2])
    embeddings = random_logits((10, 4), 0)
    method = made()
    method.prepare(training_set(targets, embeddings))
    first = torch.stack([embeddings[targets == label][:2] for label in range(3)])
    expected = 1 - class_similarities(first).fill_diagonal_(1)
    torch.testing.assert_close(method.class_distances, expected.float())
    assert "class_distances" in method.state_dict()


def test_a_class_with_one_sample_is_refused():
    with pytest.raises(ConfigError, match=r"method=wkd_l compares classes by at least 2 .*; class 1 has 1"):
        made().prepare(training_set(torch.tensor([0, 2, 2, 0, 1]), random_logits((5, 4), 0)))


@pytest.mark.parametrize(
    ("epoch", "start", "expected"), [(149, 150, 1.0), (194, 150, 0.5), (239, 150, 0.0), (119, 0, 0.5)]
)
def test_the_weight_falls_along_a_cosine(epoch, start, expected):
    assert cosine_decay(epoch, 240, start) == pytest.approx(expected, abs=1e-12)


def test_a_run_that_ends_before_the_decay_keeps_the_whole_weight():
    assert [cosine_decay(epoch, 10, start) for start in (10, 150) for epoch in (0, 9)] == [1.0] * 4


def test_the_decay_multiplies_the_transport_alone():
    method, labels = made(), torch.tensor([0, 2, 1, 1])
    logits = [Outputs(random_logits((4, 3), seed), [], torch.zeros(0)) for seed in (0, 1)]
    batch = Batch(labels, labels, labels)
    method.class_distances = random_costs(3, 0)
    before, during = (method(*logits, batch, Progress(epoch, 9, 0, 9)) for epoch in (2, 5))
    assert [during[name] for name in ("ce", "soft_target")] == [before[name] for name in ("ce", "soft_target")]
    assert during["transport"].item() == pytest.approx(0.5 * before["transport"].item())
