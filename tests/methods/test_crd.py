"""Contrastive representation distillation against loops over samples, and its draws, memories and resumption."""

import copy
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError
from kd_bench.methods import crd as module
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.methods.crd import CRD, drawn_products, nce_loss
from kd_bench.models.features import Outputs

from .slow import mean

START = Progress(0, 1, 0, 1)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prepared(targets: Tensor, negatives: int, classes: int = 4, size: int = 8) -> CRD:
    method = CRD(1.0, 0.8, size, negatives, temperature=0.07, momentum=0.5)
    torch.manual_seed(0)
    spec: Any = None
    network: Any = SimpleNamespace(embedding_size=6)
    method.build_adapters(network, network, spec)
    method.prepare(TrainingSet(targets, classes, lambda: iter(())))
    return method


def step(method: CRD, targets: Tensor, index: Tensor, seed: int = 0) -> Tensor:
    own, other = (Outputs(random(len(index), 4), [], random(len(index), 6, seed=seed + i)) for i in range(2))
    batch = Batch(torch.zeros(len(index), 3, 1, 1), targets[index], index)
    return method(own, other, batch, START)["crd"]


def test_the_loss_is_one_binary_question_for_each_drawn_row():
    scores = random(3, 6).double().exp() / 10
    noise = 5 / 40
    rows = [
        -math.log(row[0] / (row[0] + noise)) - sum(math.log(noise / (s + noise)) for s in row[1:])
        for row in scores.tolist()
    ]
    assert nce_loss(scores, 40).item() == pytest.approx(mean(rows), rel=1e-5)  # the code adds 1e-7


def test_both_ways_to_the_products_are_one(monkeypatch):
    memory, drawn = random(50, 8), torch.randint(50, (5, 11), generator=torch.Generator().manual_seed(1))
    found = []
    for factor in (0, 32):
        monkeypatch.setattr(module, "WHOLE_MEMORY_UP_TO", factor)
        vectors = random(5, 8, seed=2).requires_grad_()
        products = drawn_products(vectors, memory, drawn)
        (products * random(5, 11, seed=3)).sum().backward()
        found.append((products.detach(), vectors.grad))
    for collected, whole in zip(*found, strict=True):
        torch.testing.assert_close(collected, whole)
    slow = [[float(vectors[i].detach() @ memory[j]) for j in row] for i, row in enumerate(drawn.tolist())]
    torch.testing.assert_close(found[0][0], torch.tensor(slow))


def test_a_large_memory_is_not_multiplied_as_a_whole(monkeypatch):
    monkeypatch.setattr(module, "products_with_all", None)
    limit = 2 * module.WHOLE_MEMORY_UP_TO
    drawn_products(random(2, 8), random(limit + 1, 8), torch.zeros(2, 2, dtype=torch.long))
    with pytest.raises(TypeError):
        drawn_products(random(2, 8), random(limit, 8), torch.zeros(2, 2, dtype=torch.long))


@pytest.mark.parametrize("factor", [0, 32])
def test_a_step_is_both_losses_against_the_memories_before_it(monkeypatch, factor):
    """Written out: scores, constants and the moved rows. Backward works although the rows have moved."""
    monkeypatch.setattr(module, "WHOLE_MEMORY_UP_TO", factor)
    targets, index = torch.arange(40) % 4, torch.tensor([3, 17, 8])
    method = prepared(targets, negatives=9)
    before = copy.deepcopy(method)
    torch.manual_seed(5)
    loss = step(method, targets, index)
    torch.manual_seed(5)
    drawn = torch.cat([index[:, None], before.draw_negatives(targets[index])], dim=1)
    expected = 0.0
    for seed, side, other in ((0, "student", "teacher"), (1, "teacher", "student")):
        vectors = getattr(before, f"{side}_projection")(random(3, 6, seed=seed)).detach()
        vectors = vectors / vectors.norm(dim=1, keepdim=True)
        memory = getattr(before, f"memory_{other}")
        exponentials = [
            [math.exp(float(vectors[i] @ memory[j]) / 0.07) for j in row] for i, row in enumerate(drawn.tolist())
        ]
        constant = 40 * mean([mean(row) for row in exponentials])
        assert getattr(method, f"normaliser_{side}").item() == pytest.approx(constant, rel=1e-4)
        expected += nce_loss(torch.tensor(exponentials) / constant, 40).item()
        moved = getattr(before, f"memory_{side}").clone()
        for i, j in enumerate(index.tolist()):
            row = (moved[j] + vectors[i]) / 2
            moved[j] = row / row.norm()
        torch.testing.assert_close(getattr(method, f"memory_{side}"), moved)
    assert loss.item() == pytest.approx(0.8 * expected, rel=1e-4)
    loss.backward()
    constants = method.normaliser_student.clone(), method.normaliser_teacher.clone()
    step(method, targets, index + 1, seed=7)
    assert constants == (method.normaliser_student, method.normaliser_teacher)


def frequencies(method: CRD, targets: Tensor, steps: int = 3000) -> Tensor:
    """How often each of N samples is drawn for a sample of each class: (classes, N)."""
    classes, counts = torch.arange(4), torch.zeros(4, len(targets))
    for _ in range(steps):
        drawn = method.draw_negatives(classes)
        counts.scatter_add_(1, drawn, torch.ones(drawn.shape))
    return counts / steps


@pytest.mark.parametrize(
    ("targets", "negatives"),
    [
        (torch.arange(24) % 4, 7),
        (
            torch.tensor([0] * 3 + [1] * 9 + [2] * 5 + [3])[
                torch.randperm(18, generator=torch.Generator().manual_seed(0))
            ],
            7,
        ),  # sizes differ
        (torch.tensor([0] * 3 + [1] * 9 + [2] * 5), 7),  # a class without samples
        (torch.arange(12) % 4, 20),  # fewer than asked for
    ],
)
def test_every_sample_of_another_class_is_equally_likely(targets, negatives):
    method = prepared(targets, negatives)
    torch.manual_seed(1)
    drawn = method.draw_negatives(torch.arange(4))
    assert (targets[drawn] != torch.arange(4)[:, None]).all()
    if negatives < 12:
        assert all(len(set(row.tolist())) == negatives for row in drawn), "drawn twice"
    found = frequencies(method, targets)
    for target in range(4):
        others = targets != target
        expected = negatives / others.sum()
        assert (found[target][~others] == 0).all()
        assert (found[target][others] - expected).abs().max() < 0.1 * expected


def test_pairs_of_negatives_are_drawn_as_often_as_by_an_independent_draw():
    """Classes of one size: every subset is as likely, not only every sample."""
    targets = torch.arange(8) % 4
    method = prepared(targets, negatives=2)
    pairs = [tuple(sorted(method.draw_negatives(torch.tensor([1]))[0].tolist())) for _ in range(3000)]
    counts = [pairs.count(pair) for pair in set(pairs)]
    assert len(counts) == 15
    assert max(abs(count - 200) for count in counts) < 60


def test_draws_are_a_function_of_torchs_generator():
    targets = torch.arange(40) % 4
    method = prepared(targets, 9)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(method.draw_negatives(targets[:5]))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_resumed_method_goes_on_bit_by_bit():
    targets, index = torch.arange(40) % 4, torch.tensor([3, 17, 8])
    method, resumed = prepared(targets, 9), prepared(targets, 9)
    step(method, targets, index)
    resumed.load_state_dict(method.state_dict())
    for seed in (3, 4):
        values = []
        for each in (method, resumed):
            torch.manual_seed(seed)
            values.append(step(each, targets, index + seed, seed=seed))
        assert torch.equal(*values)
    for name, buffer in method.state_dict().items():
        assert torch.equal(buffer, resumed.state_dict()[name]), name


def test_scores_stay_in_float32_under_autocast():
    targets, index = torch.arange(40) % 4, torch.tensor([3, 17, 8])
    values = []
    for enabled in (False, True):
        method = prepared(targets, 9)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            values.append(step(method, targets, index))
    assert torch.equal(*values)


def test_a_memory_that_does_not_fit_is_refused_with_its_size():
    with pytest.raises(ConfigError, match=r"method=crd: its memory of 2 x 10000000 x 128 numbers takes 9.5 GiB"):
        prepared(torch.zeros(1, dtype=torch.long).expand(10_000_000), 16384, size=128)


def test_one_class_alone_has_no_negatives():
    with pytest.raises(ConfigError, match="method=crd: all training samples are of one class"):
        prepared(torch.zeros(5, dtype=torch.long), 9)
