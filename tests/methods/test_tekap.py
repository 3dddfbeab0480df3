"""TeKAP against a sum over its augmented teachers; function matching, which is a divergence alone."""

import pytest
import torch
from golden_rows.given import on_logits, run

from kd_bench.methods.function_matching import FunctionMatching
from kd_bench.methods.tekap import TeKAP, augmented_teachers_loss

from . import slow
from .slow import random_labels, random_logits


def test_each_augmented_teacher_is_distilled_and_the_losses_are_added():
    student, teacher = random_logits((4, 5), 0), random_logits((4, 5), 1)
    noise = torch.stack([random_logits((4, 5), seed) for seed in (2, 3, 4)])
    augmented = [
        [
            [0.9 * value + 0.1 * error for value, error in zip(row, errors, strict=True)]
            for row, errors in zip(teacher.tolist(), draw, strict=True)
        ]
        for draw in noise.tolist()
    ]
    expected = sum(16 * slow.kl(student.tolist(), other, 4.0) for other in augmented)
    assert augmented_teachers_loss(student, teacher, noise, 0.9, 0.1, 4.0).item() == pytest.approx(expected, rel=1e-9)


def test_terms_carry_their_weights_and_noise_is_drawn_anew():
    student, teacher, labels = random_logits((4, 5), 0), random_logits((4, 5), 1), random_labels((4, 5), 2)
    method = TeKAP(0.1, 0.9, 4.0, 0.9, 0.1, 0.8, augmented_teachers=3)
    torch.manual_seed(3)
    first, second = (run(method, on_logits(student), on_logits(teacher), labels) for _ in range(2))
    torch.manual_seed(3)
    expected = augmented_teachers_loss(student, teacher, method.noise(teacher), 0.9, 0.1, 4.0)
    assert first["augmented"].item() == pytest.approx(0.9 * 0.8 * expected.item(), rel=1e-9)
    assert second["augmented"] != first["augmented"]
    assert first["kd"].item() == pytest.approx(0.9 * 16 * slow.kl(student.tolist(), teacher.tolist(), 4.0))
    assert first["ce"].item() == pytest.approx(0.1 * slow.cross_entropy(student.tolist(), labels.tolist()))


def test_the_noise_is_standard_normal():
    torch.manual_seed(0)
    noise = TeKAP(0.1, 0.9, 4.0, 0.9, 0.1, 0.8, augmented_teachers=5).noise(torch.zeros(200, 20))
    assert noise.shape == (5, 200, 20)
    assert noise.mean().item() == pytest.approx(0, abs=0.03)
    assert noise.std().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_function_matching_reads_no_labels(temperature):
    student, teacher = random_logits((4, 5), 0), random_logits((4, 5), 1)
    expected = temperature**2 * slow.kl(student.tolist(), teacher.tolist(), temperature)
    for labels in (random_labels((4, 5), 2), random_labels((4, 5), 3)):
        terms = run(FunctionMatching(temperature), on_logits(student), on_logits(teacher), labels)
        assert {name: term.item() for name, term in terms.items()} == {"kd": pytest.approx(expected, rel=1e-9)}
