"""FitNet in two stages against its equations."""

import numpy as np
import pytest
import torch

from kd_bench.methods.base import Progress
from kd_bench.methods.fitnet_two_stage import annealed

from . import slow
from .pairs import built, optimizer_of, state_of


@pytest.mark.parametrize(
    ("epochs", "expected"), [(1, [4.0]), (2, [4.0, 1.0]), (3, [4.0, 2.5, 1.0]), (4, [4.0, 3.0, 2.0, 1.0])]
)
def test_the_weight_falls_linearly_from_the_first_epoch_to_the_last(epochs, expected):
    progress = [Progress(epoch, epochs, 0, 1) for epoch in range(epochs)]
    assert [annealed(4.0, 1.0, p) for p in progress] == pytest.approx(expected)


def slow_hint(made, student, teacher) -> float:
    """Half the mean squared distance behind a 1x1 convolution, batch norm and ReLU, in numpy."""
    regressor = made.method.regressor
    weight, bias, gamma, beta = (
        p.detach().double().numpy()
        for p in (regressor.conv.weight[:, :, 0, 0], regressor.conv.bias, regressor.bn.weight, regressor.bn.bias)
    )
    x = np.einsum("oc,bchw->bohw", weight, student.stages[2].detach().double().numpy()) + bias[:, None, None]
    mean, variance = x.mean(axis=(0, 2, 3), keepdims=True), x.var(axis=(0, 2, 3), keepdims=True)
    x = gamma[:, None, None] * (x - mean) / np.sqrt(variance + 1e-5) + beta[:, None, None]
    return float(0.5 * ((np.maximum(x, 0) - teacher.stages[2].double().numpy()) ** 2).mean())


def test_both_stages_are_the_published_sums(compose):
    made = built(compose, "fitnet_two_stage")
    batch = made.batch()
    student, teacher = made.outputs(batch)
    hints = made.method.pretrain_terms(student, teacher, batch, Progress(0, 20, 0, 20))
    assert list(hints) == ["hint"]
    assert hints["hint"].item() == pytest.approx(slow_hint(made, student, teacher), rel=1e-5)
    terms = made.method(student, teacher, batch, Progress(1, 3, 4, 12))
    own, other = student.logits.tolist(), teacher.logits.tolist()
    assert list(terms) == ["ce", "kd"]
    assert terms["ce"].item() == pytest.approx(slow.cross_entropy(own, batch.targets.tolist()), rel=1e-5)
    # Temperature 3 without its square: the published equation has none.
    assert terms["kd"].item() == pytest.approx(2.5 * slow.kl(own, other, 3.0), rel=1e-4)


def test_the_first_stage_trains_nothing_behind_the_hint(compose):
    made = built(compose, "fitnet_two_stage")
    made.module.pretraining = True
    optimizer, before = optimizer_of(made.module), state_of(made.student.network)
    for step in range(2):
        optimizer.zero_grad()
        made.module.training_step(made.batch(seed=step), step).backward()
        optimizer.step()
    behind = [(name, p) for name, p in made.student.network.named_parameters() if name.startswith(("layer3", "fc"))]
    assert behind
    for name, parameter in behind:
        assert parameter.grad is None, name
        assert torch.equal(parameter, before[name]), name
    assert not torch.equal(made.student.network.layer2[0].conv1.weight, before["layer2.0.conv1.weight"])


def test_the_second_stage_leaves_the_regressor_as_it_is(compose):
    made = built(compose, "fitnet_two_stage")
    optimizer, before = optimizer_of(made.module), state_of(made.method)
    made.module.training_step(made.batch(), 0).backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in made.method.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in made.method.state_dict().items())
