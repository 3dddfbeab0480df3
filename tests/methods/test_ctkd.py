"""The learned temperature: its value, its reversed gradient and its curriculum."""

import math

import pytest
import torch
from golden_rows.logits import terms_of

from kd_bench.methods.ctkd import CTKD, adversarial_temperature, reversal
from kd_bench.methods.kd import kd_loss

from .slow import random_labels, random_logits


def arrays():
    return {
        "student_logits": random_logits((4, 5), 0).requires_grad_(),
        "teacher_logits": random_logits((4, 5), 1),
        "labels": random_labels((4, 5), 2),
    }


def method(parameter: float, **changes) -> CTKD:
    settings = {"ce_weight": 0.1, "kd_weight": 0.9, "temperature_start": 1.0, "temperature_range": 20.0}
    made = CTKD(**{**settings, "reversal_epochs": 10, **changes}).double()
    made.temperature_parameter.data.fill_(parameter)
    return made


@pytest.mark.parametrize("parameter", [-30.0, -1.0, 0.0, 1.0, 30.0])
def test_the_temperature_is_a_sigmoid_between_its_ends(parameter):
    value = adversarial_temperature(torch.tensor(parameter, dtype=torch.float64), 1.0, 20.0, -0.3)
    assert value.item() == pytest.approx(1 + 20 / (1 + math.exp(-parameter)), rel=1e-12)


@pytest.mark.parametrize("epoch", [1, 4, 10, 50])
def test_the_temperature_climbs_the_loss_by_the_scale_of_the_epoch(epoch):
    """The gradient is a central difference of the KD loss, T^2 included, times the scale."""
    made = method(0.5)
    terms_of(made, arrays(), epoch)["kd"].backward()

    def loss(parameter: float) -> float:
        temperature = 1 + 20 / (1 + math.exp(-parameter))
        return 0.9 * kd_loss(arrays()["student_logits"], arrays()["teacher_logits"], temperature).item()

    slope = (loss(0.5 + 1e-5) - loss(0.5 - 1e-5)) / 2e-5
    scale = -(1 - math.cos(math.pi * min(epoch, 10) / 10)) / 2
    assert made.temperature_parameter.grad is not None
    assert made.temperature_parameter.grad.item() == pytest.approx(scale * slope, rel=1e-6)


def test_the_reversal_grows_to_its_full_size_and_stays():
    scales = [reversal(epoch, 10) for epoch in range(30)]
    assert 0 > scales[0] > -0.05
    assert scales[4] == pytest.approx(-0.5)
    assert scales[:10] == sorted(scales[:10], reverse=True)
    assert scales[9:] == [-1.0] * 21


def test_the_student_learns_kd_at_that_temperature():
    inputs = arrays()
    terms = terms_of(method(0.0), inputs)
    expected = 0.9 * kd_loss(inputs["student_logits"], inputs["teacher_logits"], 11.0)
    assert terms["kd"].item() == pytest.approx(expected.item())
    gradients = [torch.autograd.grad(loss, inputs["student_logits"])[0] for loss in (terms["kd"], expected)]
    torch.testing.assert_close(*gradients)
