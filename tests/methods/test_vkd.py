"""VkD: its distance against a loop, its projection against the definition."""

import pytest
import torch

from kd_bench.methods.vkd import vkd_loss

from .pairs import built, optimizer_of
from .slow import mean, random_logits


def test_vkd_is_a_smooth_l1_distance_to_standardised_embeddings():
    own, other, losses = random_logits((3, 5), 0), random_logits((3, 5), 1), []
    for row, target in zip(own.tolist(), other.tolist(), strict=True):
        variance = mean([(value - mean(target)) ** 2 for value in target])
        wanted = [(value - mean(target)) / (variance + 1e-5) ** 0.5 for value in target]
        gaps = [abs(a - b) for a, b in zip(row, wanted, strict=True)]
        losses += [gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps]
    assert vkd_loss(own, other).item() == pytest.approx(mean(losses), rel=1e-9)


def test_the_teachers_scale_and_offset_do_not_matter():
    own, other = random_logits((3, 5), 0), random_logits((3, 5), 1)
    assert vkd_loss(own, 9 * other + 4).item() == pytest.approx(vkd_loss(own, other).item(), rel=1e-5)


@pytest.mark.parametrize("pair", ["cifar", "timm", "vit"])
def test_the_projection_stays_orthogonal_while_it_is_trained(compose, pair):
    made = built(compose, "vkd", pair)
    before = made.method.projection.weight.detach().clone()
    optimizer = optimizer_of(made.module)
    for step in range(3):
        optimizer.zero_grad()
        made.module.training_step(made.batch(seed=step), step).backward()
        optimizer.step()
    weight = made.method.projection.weight.detach()
    assert not torch.equal(before, weight)
    small = min(weight.shape)
    product = weight @ weight.T if len(weight) == small else weight.T @ weight
    assert torch.allclose(product, torch.eye(small), atol=1e-4)
