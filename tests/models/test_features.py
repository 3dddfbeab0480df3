"""The tap on networks of many families, and the pairing of stages."""

from typing import Any

import pytest
import timm
import torch
from huggingface_hub import constants
from support.taps import make_tap
from torch import Tensor, nn

from kd_bench.config.schema import StudentConfig
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.models.factory import create_tap
from kd_bench.models.features import FeatureTap, pair_stages

MEAN, STD = (0.2, 0.5, 0.7), (0.3, 0.25, 0.5)
TOKENS = {"img_size": 16, "patch_size": 4}
# Name, size of the images, arguments, shapes of the first and last stage, size of the embedding.
FAMILIES: list[tuple[str, int, dict[str, Any], tuple[int, int, int], tuple[int, int, int], int]] = [
    ("resnet18", 32, {}, (64, 16, 16), (512, 1, 1), 512),
    ("resnetv2_18", 32, {}, (64, 16, 16), (512, 1, 1), 512),  # a convolution as classifier
    ("mobilenetv3_small_050", 32, {}, (16, 16, 16), (288, 1, 1), 1024),  # a head between pooling and classifier
    ("convnext_atto", 32, {}, (40, 8, 8), (320, 1, 1), 320),
    ("regnetx_002", 32, {}, (32, 16, 16), (368, 1, 1), 368),
    ("ghostnet_050", 32, {}, (8, 16, 16), (80, 1, 1), 1280),
    ("efficientvit_m0", 224, {}, (64, 14, 14), (192, 4, 4), 192),  # a classifier with a batch norm of its own
    ("vit_tiny_patch16_224", 16, TOKENS, (192, 4, 4), (192, 4, 4), 192),
    ("deit_tiny_distilled_patch16_224", 16, TOKENS, (192, 4, 4), (192, 4, 4), 192),  # two classifiers
    ("resnet20_cifar", 32, {}, (16, 32, 32), (64, 8, 8), 64),
    ("wrn_16_2_cifar", 32, {}, (16, 32, 32), (128, 8, 8), 128),
]
every_family = pytest.mark.parametrize(
    ("name", "size", "kwargs", "first", "last", "embedding"), FAMILIES, ids=[family[0] for family in FAMILIES]
)


def spec(size: int = 32, classes: int = 10) -> DataSpec:
    return DataSpec(classes, (size, size), MEAN, STD)


def images(batch: int, size: int) -> Tensor:
    return torch.rand(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def normalised(batch: Tensor) -> Tensor:
    """Channel by channel, as the definition has it."""
    channels = [(batch[:, c] - MEAN[c]) / STD[c] for c in range(3)]
    return torch.stack(channels, dim=1)


@every_family
def test_the_tap_gives_what_the_network_gives(name, size, kwargs, first, last, embedding):
    tap = make_tap(name, spec(size), seed=0, kwargs=kwargs).eval()
    network: Any = tap.network
    x = images(2, size)
    with torch.no_grad():
        outputs = tap(x)
        assert torch.equal(outputs.logits, network(normalised(x)))
        final, stages = network.forward_intermediates(normalised(x))
        assert torch.equal(outputs.embedding, network.forward_head(final, pre_logits=True).flatten(1))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(outputs.stages, stages, strict=True))
    assert tap.stage_shapes == [tuple(stage.shape[1:]) for stage in outputs.stages]
    assert (tap.stage_shapes[0], tap.stage_shapes[-1]) == (first, last)
    assert outputs.embedding.shape == (2, embedding)
    assert tap.embedding_size == embedding
    assert tap.has_pre_activations == name.endswith("_cifar")
    assert (outputs.pre_activation is not None) == name.endswith("_cifar")


TRANSFORMERS: list[tuple[str, int, dict[str, Any], int]] = [  # and the number of tokens before the patches
    ("vit_tiny_patch16_224", 16, {**TOKENS, "depth": 3}, 1),
    ("deit_tiny_distilled_patch16_224", 16, {**TOKENS, "depth": 3}, 2),
    ("vit_base_patch16_gap_224", 16, {**TOKENS, "depth": 2, "embed_dim": 48, "num_heads": 3}, 0),  # no class token
    ("vit_betwixt_patch16_reg4_gap_256", 16, {**TOKENS, "depth": 2}, 0),  # registers, but no class token
    ("beit_base_patch16_224", 16, {**TOKENS, "depth": 2, "embed_dim": 48, "num_heads": 3}, 1),
    ("tnt_s_patch16_224", 32, {"img_size": 32, "depth": 2}, 1),
    ("mixer_s32_224", 64, {"img_size": 64}, 0),
    ("swin_tiny_patch4_window7_224", 56, {"img_size": 56}, 0),  # channels last
]


@pytest.mark.parametrize(("name", "size", "kwargs", "prefix"), TRANSFORMERS, ids=[each[0] for each in TRANSFORMERS])
def test_the_tap_gives_the_last_stage_after_the_final_norm_and_the_tokens_before_the_patches(
    name, size, kwargs, prefix
):
    tap = make_tap(name, spec(size), seed=0, kwargs=kwargs).eval()
    network: Any = tap.network
    x = images(2, size)
    with torch.no_grad():
        outputs = tap(x)
        expected = network.forward_intermediates(normalised(x), norm=True)[1][-1]
        assert torch.equal(outputs.normalized_last_stage(), expected)
        if not prefix:
            assert outputs.prefix is None
            return
        both = network.forward_intermediates(normalised(x), return_prefix_tokens=True)[1]
    assert all(torch.equal(mine, theirs) for mine, (_, theirs) in zip(outputs.prefix, both, strict=True))
    assert outputs.prefix[0].shape[1] == prefix


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0", "coat_tiny", "resnet20_cifar"])
def test_without_a_final_norm_the_last_stage_stays_as_it_is(name):
    kwargs = {"img_size": 64} if name == "coat_tiny" else {}
    with torch.no_grad():
        outputs = make_tap(name, spec(64), seed=0, kwargs=kwargs).eval()(images(2, 64))
    assert torch.equal(outputs.normalized_last_stage(), outputs.stages[-1])
    assert outputs.prefix is None


@every_family
def test_a_training_pass_is_the_networks_own(name, size, kwargs, first, last, embedding):
    """The same gradients, and batch-norm statistics that move once."""
    tap = make_tap(name, spec(size), seed=0, kwargs=kwargs).train()
    plain: Any = make_tap(name, spec(size), seed=0, kwargs=kwargs).train().network
    x = images(4, size)
    torch.manual_seed(1)
    tap(x).logits.square().sum().backward()
    torch.manual_seed(1)
    plain(normalised(x)).square().sum().backward()
    ours, theirs = tap.network.state_dict(), plain.state_dict()
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, rtol=1e-5, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    for (key, parameter), other in zip(tap.network.named_parameters(), plain.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), key
        if parameter.grad is not None:
            scale = 1e-5 * other.grad.abs().max().item() + 1e-7
            torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-3, atol=scale)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "resnet8_cifar"])
def test_the_classifier_turns_the_embedding_into_the_logits(name):
    tap = make_tap(name, spec(), seed=0).eval()
    with torch.no_grad():
        outputs = tap(images(2, 32))
        assert torch.equal(tap.classifier(outputs.embedding), outputs.logits)


def test_normalization_is_no_weight():
    tap = make_tap("resnet8_cifar", spec(), seed=0)
    assert not {"mean", "std"} & tap.state_dict().keys()
    assert {f"network.{key}" for key in tap.network.state_dict()} == tap.state_dict().keys()
    assert tap.mean.flatten().tolist() == pytest.approx(MEAN)
    assert tap.std.flatten().tolist() == pytest.approx(STD)


def test_pretrained_networks_keep_their_own_normalization(monkeypatch):
    create = timm.create_model

    def offline(name: str, pretrained: bool, **kwargs: Any) -> nn.Module:
        assert pretrained
        return create(name, pretrained=False, **kwargs)

    monkeypatch.setattr(timm, "create_model", offline)
    tap = make_tap("resnet18.tv_in1k", spec(), seed=0, pretrained=True)
    assert tap.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert tap.std.flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])


@pytest.mark.parametrize(
    ("key", "ways"),
    [
        ("student", "student.pretrained=false"),
        ("teacher", "teacher.pretrained=false, or teacher.checkpoint=FILE for weights of this data set"),
    ],
)
def test_offline_pretrained_weights_fail_at_once_by_the_key_of_the_user(monkeypatch, tmp_path, key, ways):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("kd_bench.models.factory._reachable", lambda url: False)
    monkeypatch.setattr("time.sleep", None)  # nobody waits to try again
    with pytest.raises(IntegrityError) as caught:
        create_tap(key, StudentConfig(name="resnet18.a1_in1k", pretrained=True), spec(), 0, True)
    refused = f"{key}.pretrained: the weights of resnet18.a1_in1k cannot be fetched: offline, and they are not in "
    assert str(caught.value) == f"{refused}{tmp_path}; {ways}"


def test_the_dry_pass_leaves_no_trace():
    tap = make_tap("resnet8_cifar", spec(), seed=0)
    assert tap.training
    assert all(int(v) == 0 for key, v in tap.state_dict().items() if key.endswith("num_batches_tracked"))
    assert all(parameter.grad is None for parameter in tap.parameters())


def test_weights_are_a_function_of_the_seed_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = make_tap("resnet8_cifar", spec(), seed=5).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    second = make_tap("resnet8_cifar", spec(), seed=5).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    other = make_tap("resnet8_cifar", spec(), seed=6).state_dict()
    assert not torch.equal(first["network.conv1.weight"], other["network.conv1.weight"])


# Images of another size and normalization.


def weights_of_resizing(size: int, target: int) -> Tensor:
    """(target, size): a triangle around each target's centre, as wide as a source pixel or a target pixel."""
    scale = size / target
    reach = max(scale, 1.0)
    weights = torch.zeros(target, size, dtype=torch.float64)
    for i in range(target):
        for j in range(size):
            weights[i, j] = max(0.0, 1 - abs((j + 0.5) - (i + 0.5) * scale) / reach)
    return weights / weights.sum(dim=1, keepdim=True)


def resized(batch: Tensor, height: int, width: int) -> Tensor:
    rows, columns = weights_of_resizing(batch.shape[2], height), weights_of_resizing(batch.shape[3], width)
    return (rows @ batch.double() @ columns.T).float()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 20), (5, 6)])
def test_images_are_resized_bilinearly_with_antialiasing_before_normalization(height, width):
    tap = make_tap("resnet8_cifar", spec(8), seed=0, input_size=[height, width]).eval()
    network: Any = tap.network
    x = images(2, 8)
    with torch.no_grad():
        torch.testing.assert_close(tap(x).logits, network(normalised(resized(x, height, width))), rtol=1e-4, atol=1e-5)
    assert tap.input_size == (height, width)
    assert tap.stage_shapes[0] == (16, height, width)


def test_images_of_the_right_size_are_taken_as_they_are():
    tap = make_tap("resnet8_cifar", spec(8), seed=0).eval()
    explicit = make_tap("resnet8_cifar", spec(8), seed=0, input_size=[8, 8]).eval()
    network: Any = tap.network
    with torch.no_grad():
        expected = network(normalised(images(2, 8)))
        assert torch.equal(tap(images(2, 8)).logits, expected)
        assert torch.equal(explicit(images(2, 8)).logits, expected)


def test_a_transformer_that_cannot_take_the_size_gets_its_own():
    tap = make_tap("test_vit", spec(8), seed=0).eval()
    network: Any = tap.network
    x = images(2, 8)
    with torch.no_grad():
        expected = network(normalised(resized(x, 160, 160)))
        torch.testing.assert_close(tap(x).logits, expected, rtol=1e-3, atol=1e-5)
    assert tap.input_size == (160, 160)
    assert set(tap.stage_shapes) == {(64, 10, 10)}
    assert tap.training is False
    assert make_tap("test_vit", spec(8), seed=0).network.training


def test_an_explicit_size_wins_over_that_of_the_data_and_of_the_network():
    """Even where the network then cannot take its images."""
    tap = make_tap("test_vit", spec(160), seed=0, input_size=[64, 48])
    assert (tap.input_size, tap.stage_shapes[0]) == ((64, 48), (64, 4, 3))
    with pytest.raises(ConfigError, match=r"^test_vit3 cannot take 64x64 images: .*64.*160"):
        make_tap("test_vit3", spec(160), seed=0, input_size=[64, 64])


def test_a_network_gets_the_statistics_that_it_is_said_to_expect():
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.6, 0.7]
    tap = make_tap("resnet8_cifar", spec(), seed=0, mean=mean, std=std).eval()
    network: Any = tap.network
    x = images(2, 32)
    with torch.no_grad():
        own = torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
        assert torch.equal(tap(x).logits, network(own))
    half = make_tap("resnet8_cifar", spec(), seed=0, mean=mean)
    assert half.mean.flatten().tolist() == pytest.approx(mean)
    assert half.std.flatten().tolist() == pytest.approx(STD)


def test_said_statistics_win_over_those_of_pretrained_weights(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained, **kwargs: create(name, **kwargs))
    tap = make_tap("resnet18.tv_in1k", spec(), seed=0, pretrained=True, std=[0.5, 0.5, 0.5])
    assert tap.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert tap.std.flatten().tolist() == [0.5, 0.5, 0.5]


# What cannot be built.


def test_a_network_that_cannot_take_the_images_is_refused():
    with pytest.raises(ConfigError, match=r"^mixer_s16_224 cannot take 8x8 images: .*8.*224"):
        make_tap("mixer_s16_224", spec(8), seed=0, input_size=[8, 8])


def test_a_network_for_another_number_of_classes_is_refused():
    network = timm.create_model("resnet8_cifar", num_classes=7)
    with pytest.raises(ConfigError, match=r"^mine gives 7 logits for 10 classes$"):
        FeatureTap("mine", network, spec(classes=10), MEAN, STD)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet8_cifra", r"student.name='resnet8_cifra': no such network; did you mean .*'resnet8_cifar'"),
        ("resnet18.of_tomorrow", r"student.name='resnet18.of_tomorrow': resnet18 has no pretrained weights tagged"),
        ("resnet8_cifar.cifar100", r"resnet8_cifar has no pretrained weights tagged 'cifar100'"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(name, reason):
    with pytest.raises(ConfigError, match=reason):
        make_tap(name, spec(), seed=0)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("resnet8_cifar", {"widht": 2}), ("vit_tiny_patch16_224", {"patch_size": "large"})]
)
def test_arguments_that_a_network_does_not_take_are_refused(name, kwargs):
    with pytest.raises(ConfigError, match=rf"student.name='{name}' with student.kwargs="):
        make_tap(name, spec(), seed=0, kwargs=kwargs)


# Pairs of stages, expected values derived by hand from the heights.


def stages(*heights: int) -> list[tuple[int, int, int]]:
    return [(16, height, height) for height in heights]


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [
        ((32, 16, 8), (8, 4, 2), [(0, 0), (1, 1), (2, 2)]),  # as many: one to one, whatever the sizes
        ((16, 8, 4, 2, 1), (32, 16, 8, 4), [(0, 1), (1, 2), (4, 3)]),  # 4, 2 and 1 share the last: the deepest stays
        ((8, 8, 4, 2), (4, 2), [(2, 0), (3, 1)]),
        ((4,) * 12, (8, 8, 4, 2), [(2, 0), (5, 1), (8, 2), (11, 3)]),  # a transformer: by depth
        ((8, 8, 4, 2), (4,) * 12, [(0, 2), (1, 5), (2, 8), (3, 11)]),
        ((8, 4), (8, 8, 4, 4, 2), [(0, 1), (1, 3)]),  # of equal heights the deepest teacher stage
        ((4,), (8, 2), [(0, 1)]),  # twice and half as large are as far: the deeper one
        ((6,), (4, 8), [(0, 1)]),  # 8/6 < 6/4: sizes are compared by their ratio
        ((3,), (1, 6), [(0, 1)]),  # 6/3 < 3/1, though 6 - 3 > 3 - 1
        ((4, 8), (16, 8, 4), [(0, 2)]),  # a pair that would cross an earlier one is left out
    ],
)
def test_stages_are_paired_by_size(student, teacher, expected):
    assert pair_stages(stages(*student), stages(*teacher)) == expected
