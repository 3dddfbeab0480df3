"""Networks and branches that learn together: DML, KDCL, ONE."""

import math
from types import SimpleNamespace

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.errors import ConfigError
from kd_bench.evaluation.efficiency import adapter_parameters, parameters
from kd_bench.methods.base import Progress
from kd_bench.methods.dml import DML
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.kdcl import KDCL, min_logits
from kd_bench.methods.one import ONE, ensemble_loss, gated_logits
from kd_bench.training.teachers import TrainedAlong

from . import slow
from .pairs import MIDDLE, Built, built
from .slow import SHAPES, random_labels, random_logits, reproducible

seeds = st.integers(0, 1000)


# DML


@reproducible
@given(SHAPES, seeds)
def test_dml_is_a_kl_in_either_direction(shape, seed):
    own, peer, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed + 2)
    terms = run(DML(ce_weight=1.0, mutual_weight=2.0, temperature=3.0), on_logits(own), on_logits(peer), labels=labels)
    a, b, classes = own.tolist(), peer.tolist(), labels.tolist()
    expected = {
        "ce": slow.cross_entropy(a, classes),
        "mutual": 2 * 9 * slow.kl(a, b, 3.0),
        "peer_ce": slow.cross_entropy(b, classes),
        "peer_mutual": 2 * 9 * slow.kl(b, a, 3.0),
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-9)
    assert peer_loss(own, own, 1.0).item() == pytest.approx(0, abs=1e-12)


def gradients(loss: Tensor, *of: Tensor) -> list[bool]:
    found = torch.autograd.grad(loss, of, retain_graph=True, allow_unused=True)
    return [gradient is not None and bool(gradient.any()) for gradient in found]


def test_each_network_learns_from_its_own_terms_alone():
    own, peer = (random_logits((4, 5), seed).requires_grad_() for seed in (0, 1))
    for method, soft in ((DML(1.0, 1.0, 1.0), "mutual"), (KDCL(1.0, 1.0, 2.0), "kd")):
        labels = torch.zeros(4 // method.requires.views, dtype=torch.long)
        batch = Batch(torch.zeros(len(labels), 3, 1, 1), labels, labels)
        terms = method(on_logits(own), on_logits(peer), batch, MIDDLE)
        for name in ("ce", soft):
            assert gradients(terms[name], own, peer) == [True, False]
            assert gradients(terms[f"peer_{name}"], own, peer) == [False, True]


@pytest.mark.parametrize("choice", ["dml", "kdcl"])
def test_the_peer_is_a_fresh_network_of_the_teachers_kind(compose, choice):
    made = built(compose, choice)
    assert isinstance(made.teacher, TrainedAlong)
    assert made.teacher.tap.name == "resnet20_cifar"
    assert made.teacher.tap is not made.pair.teacher
    assert all(parameter.requires_grad for parameter in made.teacher.parameters())


# KDCL


@reproducible
@given(SHAPES, seeds)
def test_kdcl_learns_from_the_smaller_logits(shape, seed):
    own, peer, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed + 2)
    ensemble = [
        [min(a - x[t], b - y[t]) for a, b in zip(x, y, strict=True)]
        for x, y, t in zip(own.tolist(), peer.tolist(), labels.tolist(), strict=True)
    ]
    assert min_logits(own, peer, labels).tolist() == [pytest.approx(row) for row in ensemble]
    other = random_logits(shape, seed + 3)  # of each network on the view of the other one
    student, teacher = on_logits(torch.cat([own, other])), on_logits(torch.cat([other, peer]))
    batch = Batch(torch.zeros(2, shape[0], 3, 1, 1), labels, torch.arange(shape[0]))
    terms = KDCL(ce_weight=1.0, kd_weight=2.0, temperature=2.0)(student, teacher, batch, MIDDLE)
    expected = {
        "ce": slow.cross_entropy(own.tolist(), labels.tolist()),
        "kd": 2 * 4 * slow.kl(own.tolist(), ensemble, 2.0),
        "peer_ce": slow.cross_entropy(peer.tolist(), labels.tolist()),
        "peer_kd": 2 * 4 * slow.kl(peer.tolist(), ensemble, 2.0),
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-9)


@reproducible
@given(SHAPES, seeds)
def test_the_ensemble_is_at_least_as_sure_of_the_label_as_either_network(shape, seed):
    own, peer, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed + 2)
    ensemble, *single = (
        F.softmax(logits, dim=1).gather(1, labels[:, None]) for logits in (min_logits(own, peer, labels), own, peer)
    )
    assert (ensemble >= torch.maximum(*single) - 1e-12).all()


# ONE


def slow_gated(logits: list[Tensor], gates: Tensor) -> list[list[float]]:
    every = [each.tolist() for each in logits]
    return [
        [math.fsum(g * z[b][k] for g, z in zip(row, every, strict=True)) for k in range(len(every[0][b]))]
        for b, row in enumerate(gates.tolist())
    ]


def test_one_is_a_cross_entropy_for_all_and_a_kl_from_the_gated_ensemble(compose):
    made = built(compose, "one")
    batch = made.batch()
    student, _ = made.outputs(batch)
    shared = student.stages[-2]
    logits = [student.logits, *(branch(shared)[0] for branch in made.method.branches)]
    assert len(logits) == 3
    gates = F.softmax(made.method.gate(shared.mean(dim=(2, 3))), dim=1)
    assert gates.sum(dim=1).tolist() == pytest.approx([1.0] * 6)
    ensemble, labels = slow_gated(logits, gates), batch.targets.tolist()
    losses = [slow.cross_entropy(each.tolist(), labels) for each in logits]
    terms = made.method(student, None, batch, Progress(20, 300, 0, 1))
    weight = math.exp(-5 * (1 - 20 / 80) ** 2)
    soft = [[p + 1e-7 for p in slow.softmax([z / 3 for z in row])] for row in ensemble]
    divergences = [
        math.fsum(q * (math.log(q) - p) for q, p in zip(row, slow.log_softmax([z / 3 for z in own]), strict=True))
        for each in logits
        for row, own in zip(soft, each.tolist(), strict=True)
    ]
    expected = {
        "ce": losses[0],
        "branches_ce": losses[1] + losses[2],
        "ensemble_ce": slow.cross_entropy(ensemble, labels),
        "kd": weight * 9 * sum(divergences) / len(soft),
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-4)


@reproducible
@given(SHAPES, seeds)
def test_without_the_authors_constant_the_ensembles_loss_is_the_papers_kl(shape, seed):
    own, ensemble = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = 9 * slow.kl(own.tolist(), ensemble.tolist(), 3.0)
    assert ensemble_loss(own, ensemble, 3.0, 0.0).item() == pytest.approx(expected, rel=1e-9)
    assert ensemble_loss(own, ensemble, 3.0, 1e-7).item() != ensemble_loss(own, ensemble, 3.0, 0.0).item()


@reproducible
@given(SHAPES, seeds)
def test_a_gate_of_one_is_that_branch(shape, seed):
    logits = [random_logits(shape, seed + i) for i in range(3)]
    chosen = random_labels((shape[0], 3), seed)
    gated = gated_logits(logits, F.one_hot(chosen, 3).double())
    expected = [logits[i][b].tolist() for b, i in enumerate(chosen.tolist())]
    assert gated.tolist() == expected


def test_the_gate_learns_from_the_ensembles_labels_alone(compose):
    made = built(compose, "one")
    batch = made.batch()
    terms = made.terms(False, *made.outputs(batch), batch)
    weight = made.method.gate[0].weight
    assert [name for name in terms if gradients(terms[name], weight) == [True]] == ["ensemble_ce"]


def with_ensemble(compose, ensemble: bool) -> Built:
    made = built(compose, "one")
    made.method.ensemble = ensemble
    made.module.eval()
    return made


@torch.no_grad()
def test_the_ensemble_predicts_where_it_is_asked_for_and_counts(compose):
    made = with_ensemble(compose, ensemble=True)
    student = made.student(made.batch().images)
    shared = student.stages[-2]
    logits = [student.logits, *(branch(shared)[0] for branch in made.method.branches)]
    gates = F.softmax(made.method.gate(shared.mean(dim=(2, 3))), dim=1)
    torch.testing.assert_close(made.method.predict(student), torch.tensor(slow_gated(logits, gates)))
    extra = sum(p.numel() for part in (made.method.branches, made.method.gate) for p in part.parameters())
    assert parameters(made.student, made.method) == made_alone(made) + extra
    assert adapter_parameters(made.method) == 0


@torch.no_grad()
def test_the_own_branch_predicts_otherwise(compose):
    made = with_ensemble(compose, ensemble=False)
    student = made.student(made.batch().images)
    assert torch.equal(made.method.predict(student), student.logits)
    assert parameters(made.student, made.method) == made_alone(made)


def made_alone(made: Built) -> int:
    return sum(parameter.numel() for parameter in made.student.parameters())


def test_a_network_of_one_stage_has_no_place_for_branches():
    network = SimpleNamespace(name="tiny", stage_shapes=[(16, 8, 8)], embedding_size=16)
    with pytest.raises(ConfigError, match=r"method=one needs a stage before the last one; stages of tiny: \[\(16,"):
        ONE(2, 1.0, 1.0, 3.0, 80, ensemble=False).build_adapters(network, None, SimpleNamespace())
