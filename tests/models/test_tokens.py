"""Attention of the class token and passes over some patches, against timm's own attention and masks."""

import pytest
import timm
import torch
from support.taps import make_tap

from kd_bench.data.batch import DataSpec
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.tokens import has_class_attention

SPEC = DataSpec(10, (16, 16), (0.5,) * 3, (0.25,) * 3)
SMALL = {"img_size": 16, "patch_size": 4, "depth": 3}
NAMES = ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"]


def images() -> torch.Tensor:
    return torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_the_attention_is_that_of_timms_last_block(name):
    tap = make_tap(name, SPEC, kwargs=SMALL).eval()
    attention = tap.network.blocks[-1].attn
    attention.fused_attn = False
    seen = []
    attention.attn_drop.register_forward_hook(lambda module, arguments, output: seen.append(output))
    with torch.no_grad():
        found = tap.class_attention(tap(images()))
    assert found.shape == (3, 3, 16)
    assert torch.allclose(found, seen[0][:, :, 0, tap.network.num_prefix_tokens :], atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_pass_over_some_patches_is_one_that_masks_the_others(name):
    tap = make_tap(name, SPEC, kwargs=SMALL).eval()
    kept = torch.tensor([[3, 0, 7], [15, 4, 5], [1, 2, 3]])
    prefix = tap.network.num_prefix_tokens
    visible = torch.zeros(3, 16, dtype=torch.bool).scatter_(1, kept, torch.ones_like(kept, dtype=torch.bool))
    mask = torch.cat([torch.ones(3, prefix, dtype=torch.bool), visible], dim=1)[:, None, None, :]
    with torch.no_grad():
        final = tap.network.forward_features((images() - tap.mean) / tap.std, attn_mask=mask)
        wanted = tap.network.forward_head(final)
        outputs = tap(images(), kept)
    assert torch.allclose(outputs.logits, wanted, atol=1e-5)
    assert outputs.stages == []


def test_abilities_are_those_of_the_network():
    vit, distilled = (make_tap(name, SPEC, kwargs=SMALL) for name in NAMES)
    assert vit.abilities == {"class attention", "choice of tokens"}
    assert distilled.abilities == {"class attention", "choice of tokens", "two heads"}
    assert Ensemble("two", [vit, distilled], [1.0, 1.0], "logits").abilities == {"choice of tokens"}
    assert Ensemble("two", [vit, make_tap("resnet18", SPEC)], [1.0, 1.0], "logits").abilities == frozenset()
    assert not has_class_attention(timm.create_model("vit_tiny_patch16_224", **{**SMALL, "depth": 1}))
    assert not has_class_attention(timm.create_model("vit_tiny_patch16_224", global_pool="avg", class_token=False))


def test_an_ensemble_shows_the_patches_to_every_member():
    members = [make_tap("vit_tiny_patch16_224", SPEC, seed, kwargs=SMALL).eval() for seed in (1, 2)]
    kept = torch.tensor([[0, 5], [1, 3], [9, 2]])
    with torch.no_grad():
        outputs = Ensemble("two", members, [1.0, 1.0], "logits")(images(), kept)
        first, second = (member(images(), kept).logits for member in members)
    assert torch.allclose(outputs.logits, (first + second) / 2, atol=1e-6)


def test_two_heads_are_given_in_train_mode_alone():
    tap = make_tap("deit_tiny_distilled_patch16_224", SPEC, kwargs=SMALL)
    heads = tap.train()(images()).heads
    assert [head.shape for head in heads] == [(3, 10), (3, 10)]
    assert tap.eval()(images()).heads is None
    assert sum(parameter.numel() for parameter in tap.classifier.parameters()) == 2 * (192 * 10 + 10)
    assert tap.classifier(torch.rand(4, 192)).shape == (4, 10)
