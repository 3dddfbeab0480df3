"""Scale decoupled distillation: regions, their weights and their losses, one region at a time."""

import pytest
import torch
from torch import Tensor, nn

from kd_bench.errors import ConfigError
from kd_bench.methods.sdd_dkd import sdd_dkd_losses
from kd_bench.methods.sdd_kd import region_logits, region_weights, sdd_kd_loss

from . import slow
from .pairs import PAIRS, built
from .slow import mean, random_logits


def random_map(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_classifier() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(3, 5).double()


def test_a_regions_logits_are_the_classifier_of_its_mean():
    stage, classifier = random_map(2, 3, 8, 8), random_classifier()
    found = region_logits(stage, classifier, [1, 2, 4])
    assert found.shape == (2, 21, 5)
    parts = [stage]
    for scale in (2, 4):
        side = 8 // scale
        parts += [
            stage[:, :, y : y + side, x : x + side] for y in range(0, 8, side) for x in range(0, 8, side)
        ]  # row by row
    for region, part in enumerate(parts):
        means = torch.tensor([[mean(of.flatten().tolist()) for of in sample] for sample in part], dtype=torch.float64)
        torch.testing.assert_close(found[:, region], classifier(means))


def test_two_scales_are_the_first_five_regions():
    stage, classifier = random_map(2, 3, 4, 4), random_classifier()
    torch.testing.assert_close(
        region_logits(stage, classifier, [1, 2]), region_logits(stage, classifier, [1, 2, 4])[:, :5]
    )


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_maps_of_any_size_have_regions(size):
    assert region_logits(random_map(2, 3, size, size), random_classifier(), [1, 2, 4]).shape == (2, 21, 5)


def test_a_region_counts_twice_where_the_teacher_is_right_on_one_of_both():
    def sure_of(*classes: int) -> Tensor:
        return torch.eye(4)[list(classes)]

    regions = torch.stack([sure_of(1, 2, 3), sure_of(1, 0, 3), sure_of(0, 1, 2)])
    whole, labels = sure_of(1, 3, 0), torch.tensor([1, 0, 2])
    # Right on the whole: a region that is wrong differs. Wrong on the whole: one that is right differs.
    assert region_weights(regions, whole, labels).tolist() == [[1, 2, 2], [1, 2, 1], [1, 1, 2]]


def losses(weights: Tensor) -> tuple[list[list[float]], list[list[float]], list[float]]:
    """Logits of all regions of both networks, and their weights, in lists."""
    return (*(random_logits((8, 5), seed).tolist() for seed in (0, 1)), weights.flatten().tolist())  # type: ignore[return-value]


WEIGHTS = torch.tensor([[1, 2, 1, 1], [2, 2, 1, 2]])


def test_the_weighted_sum_is_divided_by_samples_and_regions():
    student, teacher, weights = losses(WEIGHTS)
    expected = mean(
        [w * 16 * slow.kl([own], [other], 4.0) for own, other, w in zip(student, teacher, weights, strict=True)]
    )
    regions = [random_logits((8, 5), seed).reshape(2, 4, 5) for seed in (0, 1)]
    assert sdd_kd_loss(*regions, WEIGHTS, 4.0).item() == pytest.approx(expected, rel=1e-9)


def test_both_terms_of_dkd_are_taken_of_each_region():
    student, teacher, weights = losses(WEIGHTS)
    labels = torch.tensor([3, 0])
    target_class, other_classes = [], []
    for row, (own, other, weight) in enumerate(zip(student, teacher, weights, strict=True)):
        label = int(labels[row // 4])
        shares = [torch.tensor([slow.softmax(of, 4.0)[label]], dtype=torch.float64) for of in (own, other)]
        two_way = [torch.cat([share, 1 - share]).log()[None].tolist() for share in shares]
        target_class.append(weight * 16 * slow.kl(two_way[0], two_way[1]))
        rest = [[value for k, value in enumerate(of) if k != label] for of in (own, other)]
        other_classes.append(weight * 16 * slow.kl([rest[0]], [rest[1]], 4.0))
    regions = [random_logits((8, 5), seed).reshape(2, 4, 5) for seed in (0, 1)]
    found = sdd_dkd_losses(*regions, WEIGHTS, labels, 4.0)
    assert [loss.item() for loss in found] == pytest.approx([mean(target_class), mean(other_classes)], rel=1e-9)


@pytest.mark.parametrize("choice", ["sdd_kd", "sdd_dkd"])
def test_the_whole_map_alone_is_the_method_without_regions(compose, choice):
    made, alike = built(compose, choice), built(compose, choice.removeprefix("sdd_"))
    made.method.scales = [1]
    batch = made.batch()
    outputs = made.outputs(batch)
    found, expected = (sum(of.terms(False, *outputs, batch).values()) for of in (made, alike))
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("choice", ["sdd_kd", "sdd_dkd"])
def test_classifiers_are_borrowed_and_the_students_learns_from_regions(compose, choice):
    made = built(compose, choice)
    assert not list(made.method.parameters())
    batch = made.batch()
    terms = made.terms(False, *made.outputs(batch), batch)
    gradient = torch.autograd.grad(
        sum(value for name, value in terms.items() if name != "ce"), made.student.classifier.weight
    )
    assert gradient[0].any()


@pytest.mark.parametrize("name", ["wrn_16_2_cifar", "mobilenetv2_cifar", "shufflenetv2_cifar", "vgg8_cifar"])
def test_the_regions_of_a_network_average_to_its_logits(compose, monkeypatch, name):
    monkeypatch.setitem(PAIRS, "cifar", {"student.name": name, "dataset.image_size": [32, 32]})
    made = built(compose, "sdd_kd")
    made.module.eval()
    with torch.no_grad():
        student, teacher = made.outputs(made.batch())
        regions, _ = made.method.regions(student, teacher)
    assert regions.shape == (6, 21, 10)
    for found in (regions[:, 0], regions[:, 1:5].mean(dim=1), regions[:, 5:].mean(dim=1)):
        torch.testing.assert_close(found, student.logits, rtol=1e-3, atol=1e-4)


def test_a_teacher_that_classifies_a_class_token_is_refused(compose, monkeypatch):
    vit = {"teacher.name": PAIRS["vit"]["student.name"], "teacher.kwargs": PAIRS["vit"]["student.kwargs"]}
    monkeypatch.setitem(PAIRS, "cifar", vit)  # the pair that `built` lets no method refuse
    with pytest.raises(ConfigError, match="pooled input of the head, which those of vit_tiny_patch16_224 are not"):
        built(compose, "sdd_kd")
