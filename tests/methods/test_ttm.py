"""Transformed teacher matching and its weighted form against sums over classes."""

import math

import pytest
from golden_rows.given import on_logits, run
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from kd_bench.methods.losses import kl_divergence
from kd_bench.methods.ttm import TTM, ttm_divergences
from kd_bench.methods.wttm import WTTM, power_sums, wttm_loss

from . import slow
from .slow import SHAPES, random_labels, random_logits, reproducible

exponents = st.sampled_from([0.1, 0.5, 1.0])
seeds = st.integers(0, 1000)


def slow_samples(student: Tensor, teacher: Tensor, exponent: float) -> list[tuple[float, float]]:
    """Of each sample: the sum of the powered probabilities, and the divergence from what they become."""
    samples = []
    for own, other in zip(student.tolist(), teacher.tolist(), strict=True):
        powers = [p**exponent for p in slow.softmax(other)]
        transformed = [power / sum(powers) for power in powers]
        log_student = slow.log_softmax(own)
        divergence = math.fsum(p * (math.log(p) - q) for p, q in zip(transformed, log_student, strict=True))
        samples.append((sum(powers), divergence))
    return samples


@reproducible
@given(SHAPES, seeds, exponents)
def test_the_teachers_probabilities_are_powered_and_the_students_are_not(shape, seed, exponent):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    samples = slow_samples(student, teacher, exponent)
    result = ttm_divergences(student, teacher, exponent).tolist()
    assert result == pytest.approx([divergence for _, divergence in samples], rel=1e-8, abs=1e-12)
    assert power_sums(teacher, exponent).tolist() == pytest.approx([weight for weight, _ in samples], rel=1e-9)
    expected = slow.mean([weight * divergence for weight, divergence in samples])
    assert wttm_loss(student, teacher, exponent).item() == pytest.approx(expected, rel=1e-8, abs=1e-12)


@reproducible
@given(SHAPES, seeds)
def test_with_exponent_one_both_are_plain_kl(shape, seed):
    student, teacher = random_logits(shape, seed), random_logits(shape, seed + 1)
    expected = kl_divergence(student, teacher, 1.0).item()
    assert ttm_divergences(student, teacher, 1.0).mean().item() == pytest.approx(expected, rel=1e-9)
    assert wttm_loss(student, teacher, 1.0).item() == pytest.approx(expected, rel=1e-9)


@reproducible
@given(SHAPES, seeds, exponents)
def test_both_are_zero_at_the_transformed_teacher(shape, seed, exponent):
    teacher = random_logits(shape, seed)
    assert ttm_divergences(exponent * teacher, teacher, exponent).abs().max().item() == pytest.approx(0, abs=1e-12)
    assert wttm_loss(exponent * teacher, teacher, exponent).item() == pytest.approx(0, abs=1e-12)


@reproducible
@given(SHAPES, seeds, exponents)
def test_a_flat_teacher_counts_most_and_a_sure_one_counts_one(shape, seed, exponent):
    weights = power_sums(random_logits(shape, seed), exponent)
    most = shape[1] ** (1 - exponent)
    assert ((weights >= 1 - 1e-9) & (weights <= most + 1e-9)).all()
    assert power_sums(random_logits(shape, seed) * 0, exponent).tolist() == pytest.approx([most] * shape[0])


@pytest.mark.parametrize(("method", "name"), [(TTM, "ttm"), (WTTM, "wttm")])
def test_terms_are_weighed(method, name):
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    terms = run(method(0.5, 3.0, 0.2), on_logits(student), on_logits(teacher), labels=labels)
    samples = slow_samples(student, teacher, 0.2)
    expected = slow.mean([(weight if name == "wttm" else 1) * divergence for weight, divergence in samples])
    assert terms["ce"].item() == pytest.approx(0.5 * slow.cross_entropy(student.tolist(), labels.tolist()))
    assert terms[name].item() == pytest.approx(3 * expected)
