"""Self-distillation in one run, without a second network's training: CS-KD, PS-KD, DLB, USKD, mean teacher."""

import math
from types import SimpleNamespace

import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from support.taps import make_tap
from torch import Tensor

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.errors import ConfigError
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.methods.cskd import CSKD
from kd_bench.methods.dlb import DLB, last_batch_loss
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.losses import sigmoid_warm_up
from kd_bench.methods.mean_teacher import MeanTeacher, consistency_loss
from kd_bench.methods.pskd import PSKD
from kd_bench.methods.uskd import USKD, own_target_loss, rank_labels, weak_feature

from . import slow
from .pairs import built
from .slow import SHAPES, mean, random_labels, random_logits, reproducible

temperatures = st.sampled_from([1.0, 3.0, 4.0])
seeds = st.integers(0, 1000)


def batch_of(index: list[int], targets: Tensor) -> Batch:
    return Batch(torch.zeros(len(index), 3, 1, 1), targets, torch.tensor(index))


def soft_cross_entropy(logits: list[list[float]], targets: list[list[float]]) -> float:
    rows = zip(logits, targets, strict=True)
    return mean([-math.fsum(q * p for q, p in zip(t, slow.log_softmax(z), strict=True)) for z, t in rows])


# CS-KD


@reproducible
@given(SHAPES, seeds, temperatures)
def test_cskd_is_t_squared_times_the_kl_with_the_partner(shape, seed, temperature):
    own, partner = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = temperature**2 * slow.kl(own.tolist(), partner.tolist(), temperature)
    assert peer_loss(own, partner, temperature).item() == pytest.approx(expected, rel=1e-9)
    assert peer_loss(own, own, temperature).item() == pytest.approx(0, abs=1e-12)


def test_partners_teach_and_do_not_learn():
    logits, labels = random_logits((8, 5), 0).requires_grad_(), random_labels((4, 5), 1)
    terms = run(CSKD(1.0, 1.0, 4.0), on_logits(logits), labels=torch.cat([labels, labels]))
    own, partner = logits.tolist()[:4], logits.tolist()[4:]
    assert terms["ce"].item() == pytest.approx(slow.cross_entropy(own, labels.tolist()))
    assert terms["class_wise"].item() == pytest.approx(16 * slow.kl(own, partner, 4.0))
    (gradient,) = torch.autograd.grad(terms["ce"] + terms["class_wise"], logits)
    assert gradient[:4].all()
    assert not gradient[4:].any()


# PS-KD


def prepared_pskd(targets: list[int], classes: int) -> PSKD:
    method = PSKD(past_weight=0.8)
    method.prepare(TrainingSet(torch.tensor(targets), classes, lambda: iter(())))
    return method


def test_pskd_learns_from_its_predictions_of_the_epoch_before():
    labels = [0, 2, 1, 2]
    method = prepared_pskd(labels, 3)
    past = torch.eye(3)[labels].tolist()
    order = [2, 0, 3, 1]
    for epoch in range(3):
        seen: dict[int, list[float]] = {}
        for step, index in enumerate((order[:2], order[2:])):
            logits = random_logits((2, 3), 10 * epoch + step).float()
            batch = batch_of(index, torch.tensor([labels[i] for i in index]))
            loss = method(on_logits(logits), None, batch, Progress(epoch, 4, 0, 1))["soft"]
            share = 0.8 * (epoch + 1) / 4
            mixed = [[(1 - share) * (k == labels[i]) + share * past[i][k] for k in range(3)] for i in index]
            assert loss.item() == pytest.approx(soft_cross_entropy(logits.tolist(), mixed), rel=1e-5)
            seen |= {i: slow.softmax(row) for i, row in zip(index, logits.tolist(), strict=True)}
        past = [seen[i] for i in range(4)]


def test_pskd_remembers_nothing_outside_of_training():
    method = prepared_pskd([0, 1], 2).eval()
    before = method.past.clone()
    method(
        on_logits(random_logits((2, 2), 0).float()), None, batch_of([0, 1], torch.tensor([0, 1])), Progress(0, 1, 0, 1)
    )
    assert torch.equal(method.past, before)


def test_a_table_of_predictions_that_would_not_fit_is_refused():
    targets = torch.zeros(1, dtype=torch.long).expand(1_300_000)
    with pytest.raises(ConfigError, match=r"method=pskd: its memory of 1300000 x 1000 numbers takes 4.8 GiB"):
        PSKD(0.8).prepare(TrainingSet(targets, 1000, lambda: iter(())))


# DLB


@reproducible
@given(SHAPES, seeds, temperatures)
def test_dlb_is_t_squared_times_the_kl_of_the_repeated_samples(shape, seed, temperature):
    own, last = random_logits(shape, seed), random_logits(shape, seed + 1)
    same = random_labels((shape[0], 2), seed) == 1
    each = [slow.kl([a], [b], temperature) for a, b in zip(own.tolist(), last.tolist(), strict=True)]
    expected = temperature**2 * mean([value * bool(s) for value, s in zip(each, same, strict=True)])
    assert last_batch_loss(own, last, same, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert last_batch_loss(last, last, same, temperature).item() == pytest.approx(0, abs=1e-12)


def test_dlb_compares_the_first_half_with_the_second_half_of_the_batch_before():
    method, labels = DLB(ce_weight=1.0, last_weight=2.0, temperature=3.0), random_labels((4, 5), 0)
    logits = [random_logits((4, 5), seed).requires_grad_() for seed in range(5)]
    steps = [([0, 1, 2, 3], 0), ([2, 3, 4, 5], 0), ([4, 5, 6, 7], 0), ([6, 7, 0, 1], 1), ([6, 7, 0, 1], 1)]
    found = []
    for given_logits, (index, epoch) in zip(logits, steps, strict=True):
        terms = method(on_logits(given_logits), None, batch_of(index, labels), Progress(epoch, 2, 0, 1))
        assert terms["ce"].item() == pytest.approx(slow.cross_entropy(given_logits.tolist(), labels.tolist()))
        found.append(terms["last_batch"])
    halves = [(each[:2].tolist(), each[2:].tolist()) for each in logits]
    expected = [2 * 9 * slow.kl(halves[i][0], halves[i - 1][1], 3.0) for i in (1, 2)]
    # Nothing in the first step, in the first of another epoch, and against a batch of other samples.
    assert [value.item() for value in found] == pytest.approx([0, *expected, 0, 0])
    gradients = torch.autograd.grad(found[1], logits, allow_unused=True)
    assert [i for i, gradient in enumerate(gradients) if gradient is not None and gradient.any()] == [1]


# USKD


@reproducible
@given(st.tuples(st.integers(1, 5), st.integers(3, 6)), seeds)
def test_uskd_is_the_formula_per_sample(shape, seed):
    logits, weak, labels = random_logits(shape, seed), random_logits(shape, seed + 1), random_labels(shape, seed + 2)
    rows = list(zip(logits.tolist(), weak.tolist(), labels.tolist(), strict=True))
    squares = [slow.softmax(z)[t] ** 2 for z, _, t in rows]
    weighted = [
        -(1 + square - mean(squares)) * slow.log_softmax(z)[t] for square, (z, _, t) in zip(squares, rows, strict=True)
    ]
    assert own_target_loss(logits, labels).item() == pytest.approx(mean(weighted), rel=1e-9)
    for found, (z, w, t) in zip(rank_labels(logits, weak, labels).tolist(), rows, strict=True):
        strong, head = slow.log_softmax(z), slow.softmax(w)
        scores = [p / (1 - head[t] + 1e-6) + q / (1 - strong[t] + 1e-6) for p, q in zip(head, strong, strict=True)]
        zipf = [1 / (1 + sum(other > score for other in scores)) for score in scores]
        others = [value for k, value in enumerate(zipf) if k != t]
        assert found == pytest.approx([value / sum(others) for value in others])


def test_the_terms_of_uskd_carry_their_weights_and_the_soft_labels_no_gradient(compose):
    made = built(compose, "uskd")
    student, teacher = made.outputs(made.batch())
    terms = made.terms(False, student, teacher, made.batch())
    assert list(terms) == ["ce", "target", "others", "weak"]
    weak = made.method.weak_head(student.stages[-2].mean(dim=(2, 3)))
    labels = made.batch().targets.tolist()
    smoothed = [[0.9 * (k == t) + 0.01 for k in range(10)] for t in labels]
    assert terms["weak"].item() == pytest.approx(0.1 * soft_cross_entropy(weak.tolist(), smoothed), rel=1e-5)
    learned = torch.autograd.grad(terms["target"] + terms["others"], made.method.weak_head.weight, allow_unused=True)
    assert learned == (None,)


@pytest.mark.parametrize(("depth", "block"), [(6, 3), (5, 2), (2, 1)])
def test_the_weak_head_of_a_transformer_reads_the_class_token_after_half_of_the_blocks(depth, block):
    kwargs = {"img_size": 8, "patch_size": 2, "depth": depth}
    tap = make_tap("deit_tiny_patch16_224", DataSpec(10, (8, 8), (0.5,) * 3, (0.5,) * 3), seed=0, kwargs=kwargs).eval()
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    network = tap.network
    tokens = network._pos_embed(network.patch_embed((images - tap.mean) / tap.std))
    for each in network.blocks[:block]:
        tokens = each(tokens)
    assert torch.equal(weak_feature(tap(images)), tokens[:, 0])


def test_a_network_of_one_stage_has_no_weak_head():
    network = SimpleNamespace(name="tiny", stage_shapes=[(16, 8, 8)])
    with pytest.raises(ConfigError, match=r"needs a stage before the last one; stages of tiny: \[\(16, 8, 8\)\]"):
        USKD(1.0, 0.1, 0.1, 0.1).build_adapters(network, None, SimpleNamespace())


# Mean teacher


@reproducible
@given(SHAPES, seeds)
def test_consistency_is_the_mean_square_of_probabilities(shape, seed):
    own, other = random_logits(shape, seed), random_logits(shape, seed + 1)
    pairs = zip(own.tolist(), other.tolist(), strict=True)
    squares = [(p - q) ** 2 for a, b in pairs for p, q in zip(slow.softmax(a), slow.softmax(b), strict=True)]
    assert consistency_loss(own, other).item() == pytest.approx(mean(squares), rel=1e-9)
    assert consistency_loss(own, own + 1).item() == pytest.approx(0, abs=1e-20)


def test_student_and_teacher_see_a_view_each():
    own, other, labels = random_logits((8, 5), 0), random_logits((8, 5), 1), random_labels((4, 5), 2)
    method = MeanTeacher(ce_weight=1.0, consistency_weight=100.0, warmup_epochs=5, decay=0.999)
    terms = method(on_logits(own), on_logits(other), batch_of([0, 1, 2, 3], labels), Progress(2, 9, 0, 1))
    assert terms["ce"].item() == pytest.approx(slow.cross_entropy(own.tolist()[:4], labels.tolist()))
    weight = 100 * math.exp(-5 * (1 - 2 / 5) ** 2)
    assert terms["consistency"].item() == pytest.approx(weight * consistency_loss(own[:4], other[4:]).item())


def test_a_warm_up_ends_at_one():
    assert [round(sigmoid_warm_up(epoch, 2), 4) for epoch in range(4)] == [0.0067, 0.2865, 1.0, 1.0]


def test_the_teacher_is_the_mean_over_steps_until_its_decay_is_reached():
    method = MeanTeacher(ce_weight=1.0, consistency_weight=1.0, warmup_epochs=1, decay=0.75)
    weights, teacher = [3.0, 5.0, 1.0, 7.0], 100.0
    for step, weight in enumerate(weights):
        teacher += (1 - method.teacher_decay(Progress(0, 1, step, 9))) * (weight - teacher)
        assert teacher == pytest.approx(mean(weights[: step + 1]))
    assert method.teacher_decay(Progress(0, 1, 8, 9)) == 0.75
