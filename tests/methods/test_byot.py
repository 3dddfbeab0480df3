"""Be Your Own Teacher: its exits, its ensemble, and what they cost."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from kd_bench.errors import ConfigError
from kd_bench.evaluation.efficiency import adapter_parameters, macs, parameters
from kd_bench.methods.byot import BYOT, Exit, exit_feature_loss, exit_soft_loss

from . import slow
from .pairs import Built, built
from .slow import random_logits


def made_with(compose, ensemble: bool) -> Built:
    made = built(compose, "byot")
    made.method.ensemble = ensemble
    return made


def test_each_stage_between_stem_and_last_has_an_exit(compose):
    made = built(compose, "byot")
    assert [made.student.stage_shapes[i] for i in made.method.exit_stages] == [(16, 8, 8), (32, 4, 4)]
    student = made.student(made.batch().images)
    for i, exit_ in zip(made.method.exit_stages, made.method.exits, strict=True):
        logits, feature = exit_(student.stages[i])
        assert logits.shape == (6, 10)
        assert feature.shape == student.embedding.shape == (6, 64)


@pytest.mark.parametrize(
    ("stage", "deepest", "strided"),
    [
        ((4, 8, 8), (8, 2, 2), 2),
        ((4, 9, 9), (8, 2, 2), 3),
        ((4, 7, 7), (8, 4, 4), 1),
        ((4, 9, 5), (8, 3, 2), 2),
        ((4, 4, 4), (8, 4, 4), 0),
    ],
)
def test_an_exit_shrinks_its_stage_to_the_deepest(stage, deepest, strided):
    exit_ = Exit(stage, deepest, embedding=8, classes=3)
    convolutions = [layer for layer in exit_.bottleneck if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in convolutions] == [(2, 2)] * strided + [(1, 1)]
    assert exit_.bottleneck(torch.zeros(2, *stage)).shape == (2, *deepest)


def test_a_network_without_a_stage_for_an_exit_is_refused():
    network = SimpleNamespace(name="tiny", stage_shapes=[(16, 8, 8), (32, 4, 4)], embedding_size=32)
    with pytest.raises(ConfigError, match=r"method.skip_stages=1 leaves no stage for an exit; tiny: .*\(32, 4, 4\)"):
        BYOT(0.1, 1e-6, 3.0, skip_stages=1, ensemble=False).build_adapters(network, None, SimpleNamespace())


def test_the_soft_term_is_t_squared_times_a_cross_entropy_with_a_fixed_target():
    own, final = random_logits((4, 5), 0), random_logits((4, 5), 1).requires_grad_()
    loss = exit_soft_loss(own, final, 3.0)
    softened = [[value / 3.0 for value in row] for row in final.tolist()]
    expected = 9 * (slow.kl(own.tolist(), final.tolist(), 3.0) + slow.entropy(softened))
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert not loss.requires_grad


def test_the_feature_term_sums_where_either_value_is_positive():
    own = torch.tensor([[1.0, -2.0, -1.0], [0.0, 3.0, -4.0]])
    final = torch.tensor([[3.0, 1.0, -5.0], [-1.0, 3.0, 0.0]])
    # (1-3)^2 and (-2-1)^2 and (3-3)^2; the other three pairs have no positive value.
    assert exit_feature_loss(own, final).item() == 4 + 9 + 0


def test_the_ensemble_averages_the_probabilities_of_all_classifiers(compose):
    made = made_with(compose, ensemble=True)
    made.module.eval()
    with torch.no_grad():
        student = made.student(made.batch().images)
        exits = [exit_(student.stages[i])[0] for i, exit_ in zip((1, 2), made.method.exits, strict=True)]
        predicted = made.method.predict(student)
    every = [logits.tolist() for logits in (student.logits, *exits)]
    for sample in range(6):
        probabilities = [slow.softmax(logits[sample]) for logits in every]
        expected = [math.log(slow.mean(list(of_class))) for of_class in zip(*probabilities, strict=True)]
        assert predicted[sample].tolist() == pytest.approx(expected, rel=1e-5)


def test_alone_the_deepest_classifier_predicts(compose):
    made = made_with(compose, ensemble=False)
    student = made.student(made.batch().images)
    assert made.method.predict(student) is student.logits


def test_exits_count_where_they_predict(compose):
    alone, together = made_with(compose, ensemble=False), made_with(compose, ensemble=True)
    network = sum(p.numel() for p in alone.student.parameters())
    # 16->16 3x3 twice, 16->64 1x1, then 32->32 3x3, 32->64 1x1; batch norms; two classifiers 64->10.
    first = 2 * (16 * 16 * 9 + 2 * 16) + 16 * 64 + 2 * 64 + 64 * 10 + 10
    second = 32 * 32 * 9 + 2 * 32 + 32 * 64 + 2 * 64 + 64 * 10 + 10
    assert parameters(alone.student, alone.method) == network
    assert adapter_parameters(alone.method) == first + second
    assert parameters(together.student, together.method) == network + first + second
    assert adapter_parameters(together.method) == 0
    # The exit of stage 1 (8x8 to 4x4 to 2x2) and of stage 2 (4x4 to 2x2).
    cost = 16 * 16 * 9 * (16 + 4) + 16 * 64 * 4 + 640 + 32 * 32 * 9 * 4 + 32 * 64 * 4 + 640
    spec = alone.pair.spec
    assert macs(together.student, spec, together.method) - macs(alone.student, spec, alone.method) == cost
