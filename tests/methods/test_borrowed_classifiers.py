"""SimKD, SRRL and CAT-KD: what they take from the teacher's classifier, and what they leave alone."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kd_bench.errors import ConfigError
from kd_bench.evaluation.efficiency import adapter_parameters, parameters
from kd_bench.methods.cat_kd import cat_loss, class_activation_maps
from kd_bench.methods.simkd import simkd_loss
from kd_bench.methods.srrl import srrl_losses
from kd_bench.models.heads import behind_last_stage, linear_classifier

from .pairs import PAIRS, built
from .slow import mean


def random_map(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("choice", ["simkd", "srrl", "cat_kd"])
def test_a_borrowed_classifier_does_not_belong_to_the_method(compose, choice):
    made = built(compose, choice)
    teachers = {*made.teacher.tap.parameters()}
    assert not teachers & {*made.method.parameters()}
    assert not any("classifier" in name for name in made.method.state_dict())


@pytest.mark.parametrize("choice", ["simkd", "cat_kd"])
def test_a_teacher_that_classifies_a_class_token_is_refused(compose, choice, monkeypatch):
    vit = {"teacher.name": PAIRS["vit"]["student.name"], "teacher.kwargs": PAIRS["vit"]["student.kwargs"]}
    monkeypatch.setitem(PAIRS, "cifar", vit)  # the pair that `built` lets no method refuse
    with pytest.raises(ConfigError, match="pooled last stage, which those of vit_tiny_patch16_224 are not; its stages"):
        built(compose, choice)


def test_a_vit_has_a_linear_layer_on_its_embedding_though(compose):
    made = built(compose, "kd", "vit")
    assert linear_classifier(made.student, "embedding", made.pair.spec) is made.student.classifier


@pytest.mark.parametrize(
    ("pair", "behind"),
    [
        ("cifar", {"fc.weight", "fc.bias"}),
        ("timm", {"conv_head.weight", "conv_head.bias", "norm_head.weight", "classifier.weight", "classifier.bias"}),
        ("vit", {"norm.weight", "norm.bias", "head.weight", "head.bias"}),
    ],
)
def test_what_is_behind_the_last_stage_is_found_and_the_network_stays_as_it_is(compose, pair, behind):
    made = built(compose, "kd", pair)
    before = {name: tensor.clone() for name, tensor in made.student.state_dict().items()}
    found = {*behind_last_stage(made.student, made.pair.spec)}
    names = {name for name, parameter in made.student.network.named_parameters() if parameter in found}
    assert names | {"norm_head.weight"} == behind | {"norm_head.weight"}  # timm's versions differ in this one
    assert made.student.training
    assert all(torch.equal(before[name], tensor) for name, tensor in made.student.state_dict().items())


def test_simkd_trains_no_head_and_predicts_with_the_teachers(compose):
    made = built(compose, "simkd")
    assert [name for name, p in made.student.named_parameters() if not p.requires_grad] == [
        "network.fc.weight",
        "network.fc.bias",
    ]
    made.module.eval()
    with torch.no_grad():
        student = made.student(made.batch().images)
        pooled = made.method.projector(student.stages[-1]).mean(dim=(2, 3))
        expected = F.linear(pooled, made.teacher.tap.network.fc.weight, made.teacher.tap.network.fc.bias)
        assert torch.allclose(made.method.predict(student), expected, atol=1e-6)


def test_simkds_projector_and_the_borrowed_classifier_are_costs_at_test_time(compose):
    made = built(compose, "simkd")
    classifier = made.teacher.tap.classifier
    assert made.method.test_time_modules() == [made.method.projector, classifier]
    added = sum(p.numel() for module in (made.method.projector, classifier) for p in module.parameters())
    replaced = sum(p.numel() for p in made.student.classifier.parameters())
    assert parameters(made.student, made.method) == parameters(made.student) - replaced + added
    assert adapter_parameters(made.method) == 0


def test_a_perfect_projection_leaves_nothing_to_learn():
    target = random_map(2, 4, 3, 3)
    assert simkd_loss(target, target).item() == 0
    large = F.interpolate(target, scale_factor=2)  # whose pooled map is the target
    assert simkd_loss(large, target).item() == pytest.approx(0, abs=1e-20)


def test_srrl_is_zero_where_the_teachers_embedding_is_met():
    classifier = nn.Linear(5, 3).double()
    embedding = random_map(4, 5)
    assert all(loss.item() == 0 for loss in srrl_losses(embedding, embedding, classifier, classifier(embedding)))


def test_the_spatial_mean_of_class_activation_maps_are_the_logits(compose):
    made = built(compose, "cat_kd")
    outputs = made.student(made.batch().images)
    maps = class_activation_maps(outputs.stages[-1], made.student.classifier)
    assert maps.shape == (6, 10, 2, 2)
    assert torch.allclose(maps.mean(dim=(2, 3)), outputs.logits, atol=1e-5)


def test_normalized_activation_maps_know_no_scale():
    own, other = random_map(2, 3, 4, 4), random_map(2, 3, 4, 4, seed=1)
    slow = []
    for sample, target in zip(own.flatten(0, 1), other.flatten(0, 1), strict=True):
        pooled = [
            [mean(map_[y : y + 2, x : x + 2].flatten().tolist()) for y in (0, 2) for x in (0, 2)]
            for map_ in (sample, target)
        ]
        lengths = [sum(value**2 for value in values) ** 0.5 for values in pooled]
        slow += [(a / lengths[0] - b / lengths[1]) ** 2 for a, b in zip(*pooled, strict=True)]
    assert cat_loss(own, other, 2, normalize=True).item() == pytest.approx(mean(slow), rel=1e-9)
    assert cat_loss(7 * own, own, 2, normalize=True).item() == pytest.approx(0, abs=1e-20)
    assert cat_loss(7 * own, own, 2, normalize=False).item() > 1


def test_binarized_maps_are_one_where_the_teacher_exceeds_its_mean_absolute_value():
    student, teacher = random_map(2, 3, 4, 4), random_map(2, 3, 4, 4, seed=1)
    squares = []
    for own, other in zip(student.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
        threshold = mean([abs(value) for row in other for value in row])
        for y in (0, 2):
            for x in (0, 2):
                window = [(y + i, x + j) for i in (0, 1) for j in (0, 1)]
                ones = mean([float(other[i][j] > threshold) for i, j in window])
                squares.append((mean([own[i][j] for i, j in window]) - ones) ** 2)
    assert cat_loss(student, teacher, 2, normalize=False, binarize=True).item() == pytest.approx(mean(squares))


def test_the_option_binarizes_the_maps_of_the_teacher_alone(compose):
    made = built(compose, "cat_kd")
    batch = made.batch()
    student, teacher = made.outputs(batch)
    maps = [
        class_activation_maps(outputs.stages[-1], network.classifier)
        for outputs, network in ((student, made.student), (teacher, made.pair.teacher))
    ]
    made.method.binarize = True
    expected = made.method.cat_weight * cat_loss(*maps, 2, normalize=False, binarize=True)
    assert made.terms(False, student, teacher, batch)["cat"].item() == pytest.approx(expected.item())
