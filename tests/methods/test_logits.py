"""Losses on logits against formulas written out per sample."""

import math

import numpy as np
import pytest
import torch
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr
from torch.nn import functional as F

from kd_bench.methods.kd import KD, kd_loss
from kd_bench.methods.label_smoothing import label_smoothing_loss
from kd_bench.methods.losses import kl_divergence, soft_cross_entropy, standardized, without_target
from kd_bench.methods.scratch import Scratch
from kd_bench.methods.tfkd_reg import tfkd_reg_loss
from kd_bench.methods.tfkd_self import tfkd_self_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

temperatures = st.sampled_from([0.5, 1.0, 4.0, 20.0])
seeds = st.integers(0, 1000)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_kd_is_t_squared_times_the_kl_per_sample(shape, seed, temperature):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = temperature**2 * slow.kl(student.tolist(), teacher.tolist(), temperature)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_kd_is_zero_only_where_student_and_teacher_agree(shape, seed, temperature):
    teacher = random_logits(shape, seed)
    shift = random_logits((shape[0], 1), seed + 1)  # the same for all classes: the same distribution
    assert kd_loss(teacher + shift, teacher, temperature).item() == pytest.approx(0, abs=1e-9)
    assert kd_loss(random_logits(shape, seed + 2), teacher, temperature).item() > 0


@reproducible
@given(SHAPES, seeds, temperatures)
def test_the_gradient_of_kd_is_t_times_the_difference_of_probabilities(shape, seed, temperature):
    student, teacher = random_logits(shape, seed).requires_grad_(), random_logits(shape, seed + 1)
    kd_loss(student, teacher, temperature).backward()
    rows = zip(student.tolist(), teacher.tolist(), strict=True)
    expected = [
        [
            temperature * (p - q) / shape[0]
            for p, q in zip(slow.softmax(own, temperature), slow.softmax(other, temperature), strict=True)
        ]
        for own, other in rows
    ]
    torch.testing.assert_close(student.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_kd_weighs_its_terms():
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    terms = run(KD(0.3, 2.0, 4.0), on_logits(student), on_logits(teacher), labels=labels)
    assert list(terms) == ["ce", "kd"]
    assert terms["ce"].item() == pytest.approx(0.3 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms["kd"].item() == pytest.approx(2.0 * 16 * slow.kl(student.tolist(), teacher.tolist(), 4.0))


@reproducible
@given(SHAPES, seeds)
def test_standardized_logits_are_numpys_z_scores(shape, seed):
    logits = random_logits(shape, seed).numpy()
    expected = (logits - logits.mean(1, keepdims=True)) / (logits.std(1, ddof=1, keepdims=True) + 1e-7)
    np.testing.assert_allclose(standardized(torch.from_numpy(logits)).numpy(), expected, rtol=1e-9, atol=1e-12)


@reproducible
@given(st.tuples(st.integers(1, 5), st.integers(3, 6)), seeds, st.sampled_from([0.1, 7.0]))
def test_standardized_kd_knows_neither_shift_nor_scale(shape, seed, scale):
    """Sun et al. 2024: a student that is a teacher of another scale has nothing left to learn, unlike in KD."""
    teacher, labels = random_logits(shape, seed), random_labels(shape, seed)
    student = scale * teacher + random_logits((shape[0], 1), seed + 1)
    plain, standard = (
        run(KD(0.1, 0.9, 2.0, standardize_logits=chosen), on_logits(student), on_logits(teacher), labels=labels)
        for chosen in (False, True)
    )
    assert standard["kd"].item() == pytest.approx(0, abs=1e-9)
    assert plain["kd"].item() > 1e-3
    assert standard["ce"] == plain["ce"]


def test_two_classes_are_too_few_for_standardized_logits():
    """Their standardized logits are always the same two numbers."""
    values = standardized(torch.tensor([[1.0, 5.0], [-3.0, -2.0]])).flatten().tolist()
    assert values == pytest.approx([-(0.5**0.5), 0.5**0.5] * 2)
    assert KD(0.1, 0.9, 4.0, standardize_logits=True).requires.min_classes == 3
    assert KD(0.1, 0.9, 4.0).requires.min_classes == 2


@reproducible
@given(SHAPES, seeds)
def test_the_other_classes_keep_their_order(shape, seed):
    logits, labels = random_logits(shape, seed), random_labels(shape, seed)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    assert without_target(logits, labels).tolist() == [row[:label] + row[label + 1 :] for row, label in rows]


@reproducible
@given(SHAPES, seeds, temperatures)
def test_the_kl_divergence_is_scipys(shape, seed, temperature):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    p = torch.tensor([slow.softmax(row, temperature) for row in teacher.tolist()], dtype=torch.float64)
    q = torch.tensor([slow.softmax(row, temperature) for row in student.tolist()], dtype=torch.float64)
    expected = rel_entr(p.numpy(), q.numpy()).sum(axis=1).mean()
    assert kl_divergence(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@reproducible
@given(SHAPES, seeds)
def test_soft_cross_entropy_is_the_sum_over_classes(shape, seed):
    logits = random_logits(shape, seed)
    targets = [slow.softmax(row) for row in random_logits(shape, seed + 1).tolist()]
    expected = slow.mean(
        [
            -math.fsum(p * log for p, log in zip(target, slow.log_softmax(row), strict=True))
            for target, row in zip(targets, logits.tolist(), strict=True)
        ]
    )
    result = soft_cross_entropy(logits, torch.tensor(targets, dtype=torch.float64))
    assert result.item() == pytest.approx(expected, rel=1e-9)


@reproducible
@given(SHAPES, seeds)
def test_scratch_is_cross_entropy_alone(shape, seed):
    logits, labels = random_logits(shape, seed), random_labels(shape, seed)
    terms = run(Scratch(), on_logits(logits), labels=labels)
    assert list(terms) == ["ce"]
    assert terms["ce"].item() == pytest.approx(slow.cross_entropy(logits.tolist(), labels.tolist()), rel=1e-9)


@reproducible
@given(SHAPES, seeds, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_label_smoothing_spreads_over_the_other_classes(shape, seed, smoothing):
    logits, labels = random_logits(shape, seed), random_labels(shape, seed)
    classes = shape[1]
    expected = slow.mean(
        [
            -math.fsum(
                (1 - smoothing if k == label else smoothing / (classes - 1)) * log
                for k, log in enumerate(slow.log_softmax(row))
            )
            for row, label in zip(logits.tolist(), labels.tolist(), strict=True)
        ]
    )
    assert label_smoothing_loss(logits, labels, smoothing).item() == pytest.approx(expected, rel=1e-9)


def test_label_smoothing_is_not_torchs_but_torchs_at_a_larger_value():
    """torch gives ``s / K`` to every class; ``s' = s * K / (K - 1)`` there is ``s`` here."""
    logits, labels = random_logits((6, 5), 0), random_labels((6, 5), 1)
    ours = label_smoothing_loss(logits, labels, 0.1).item()
    assert ours != pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-3)
    assert ours == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.125).item(), rel=1e-9)
    assert label_smoothing_loss(logits, labels, 0.0).item() == pytest.approx(F.cross_entropy(logits, labels).item())


@reproducible
@given(SHAPES, seeds, temperatures)
def test_tfkd_self_averages_over_the_classes_too(shape, seed, temperature):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = 5 * temperature**2 * slow.kl(student.tolist(), teacher.tolist(), temperature) / shape[1]
    assert tfkd_self_loss(student, teacher, temperature, 5).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@reproducible
@given(SHAPES, seeds, temperatures)
def test_tfkd_reg_softens_the_virtual_teachers_probabilities_as_if_they_were_logits(shape, seed, temperature):
    logits, labels = random_logits(shape, seed), random_labels(shape, seed)
    classes = shape[1]
    virtual = [[0.9 if k == label else 0.1 / (classes - 1) for k in range(classes)] for label in labels.tolist()]
    divergences = []
    for row, teacher in zip(logits.tolist(), virtual, strict=True):
        soft = slow.softmax(teacher, temperature)
        divergences += [p * (math.log(p) - log) for p, log in zip(soft, slow.log_softmax(row), strict=True)]
    expected = 7 * slow.mean(divergences)
    assert tfkd_reg_loss(logits, labels, temperature, 7, 0.9).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
