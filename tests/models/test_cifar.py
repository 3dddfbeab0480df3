"""The CIFAR networks against those of the published tables: keys, sizes, values, and timm's interface on top."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from support.taps import make_tap
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.evaluation.efficiency import macs
from kd_bench.models.cifar.resnet import ResNet
from kd_bench.models.cifar.wide_resnet import WideResNet
from kd_bench.models.features import FeatureTap

GOLDEN = Path(__file__).parent.parent / "golden"
NETWORKS = {path.stem: json.loads(path.read_text()) for path in sorted((GOLDEN / "networks").glob("*.json"))}
VECTORS = {entry["model"]: entry for entry in json.loads((GOLDEN / "models/manifest.json").read_text())["models"]}
# Of this one CS-KD and PS-KD give the size and these shapes, but no list of keys and no pre-activations.
PREACT = "preact_resnet18"
PREACT_FEATURES = [[1, 64, 32, 32], [1, 64, 32, 32], [1, 128, 16, 16], [1, 256, 8, 8], [1, 512, 4, 4], [1, 512]]
FEATURES = {name: network["features"] for name, network in NETWORKS.items()} | {PREACT: PREACT_FEATURES}
# One of each kind: what each stage divides the size by, and which way odd sizes are rounded.
REDUCTIONS: dict[str, tuple[tuple[int, ...], Any]] = {
    "resnet8": ((1, 1, 2, 4), math.ceil),
    "resnet8x4": ((1, 1, 2, 4), math.ceil),
    "wrn_16_1": ((1, 1, 2, 4), math.ceil),
    "vgg8": ((1, 2, 4, 8, 8), math.floor),
    "mobilenetv2": ((2, 2, 4, 8, 16), math.ceil),
    "shufflenetv1": ((1, 2, 4, 8), math.ceil),
    "shufflenetv2": ((1, 2, 4, 8), math.ceil),
    "resnet18": ((1, 1, 2, 4, 8), math.ceil),
    PREACT: ((1, 1, 2, 4, 8), math.ceil),
}
every_network = pytest.mark.parametrize("name", NETWORKS)
one_of_each_kind = pytest.mark.parametrize("name", REDUCTIONS)


def spec(height: int = 32, width: int = 32, classes: int = 100) -> DataSpec:
    return DataSpec(classes, (height, width), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def tap_of(name: str, **arguments: Any) -> FeatureTap:
    return make_tap(f"{name}_cifar", spec(**arguments), seed=0)


def images(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_the_networks_are_in_timms_registry():
    assert sorted(timm.list_models("*_cifar")) == sorted(f"{name}_cifar" for name in FEATURES)
    assert len(FEATURES) == 24  # 22 of the tables, and the two ResNet-18 of self-distillation


@every_network
def test_a_network_is_that_of_the_published_tables(name):
    expected, tap = NETWORKS[name], tap_of(name)
    parameters = dict(tap.network.named_parameters())
    state = [
        {
            "key": key,
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "kind": "parameter" if key in parameters else "buffer",
        }
        for key, tensor in tap.network.state_dict().items()
    ]
    assert state == expected["state_dict"]
    assert sum(p.numel() for p in parameters.values()) == expected["parameters"]
    assert sum(p.numel() for p in parameters.values() if p.requires_grad) == expected["trainable_parameters"]
    assert macs(tap, spec()) == expected["multiply_accumulates"]
    with torch.no_grad():
        outputs = tap.eval()(images(1, 3, 32, 32))
    assert list(outputs.logits.shape) == expected["logits"]
    assert [list(m.shape) for m in (*outputs.stages, outputs.embedding)] == expected["features"]
    assert [list(m.shape) for m in (*outputs.pre_activation, outputs.embedding)] == expected["features_preact"]


def test_the_pre_activation_resnet_has_the_published_size_and_no_pre_activations():
    tap = tap_of(PREACT).eval()
    assert sum(p.numel() for p in tap.parameters()) == 11_217_444
    assert macs(tap, spec()) == 555_468_800
    with torch.no_grad():
        outputs = tap(images(1, 3, 32, 32))
    assert [list(m.shape) for m in (*outputs.stages, outputs.embedding)] == PREACT_FEATURES
    assert all(m.min() < 0 for m in (*outputs.stages[1:], outputs.embedding))
    assert outputs.pre_activation is None
    assert not tap.has_pre_activations


class Reference:
    """A network with the stored weights, and what the reference returns for them."""

    def __init__(self, name: str) -> None:
        self.entry = VECTORS[name]
        with np.load(GOLDEN / "models" / self.entry["state_dict"], allow_pickle=False) as stored:
            state = {key: torch.from_numpy(stored[key]) for key in stored.files}
        with np.load(GOLDEN / "models" / self.entry["vectors"], allow_pickle=False) as stored:
            self.arrays = {key: torch.from_numpy(stored[key]) for key in stored.files}
        self.tap = tap_of(name)
        self.tap.network.load_state_dict(state)

    def check(self, name: str, got: Tensor) -> None:
        tolerance = self.entry["tolerance"].get(name, self.entry["tolerance_feature_means"])
        torch.testing.assert_close(got.detach(), self.arrays[name], **tolerance, msg=lambda text: f"{name}: {text}")


@pytest.mark.parametrize("name", VECTORS)
def test_evaluation_gives_the_references_logits_and_features(name):
    reference = Reference(name)
    with torch.no_grad():
        outputs = reference.tap.eval()(reference.arrays["input"])
    reference.check("logits", outputs.logits)
    for i in range(4):
        reference.check(f"feature_{i}_mean", outputs.stages[i].mean(dim=(2, 3)))
        reference.check(f"preact_feature_{i}_mean", outputs.pre_activation[i].mean(dim=(2, 3)))
    reference.check("feature_4_mean", outputs.embedding)
    reference.check("preact_feature_4_mean", outputs.embedding)


@pytest.mark.parametrize("name", VECTORS)
def test_a_training_pass_gives_the_references_gradient_and_moves_statistics_once(name):
    """The tap computes pre-activations in every pass; the reference's statistics are from a pass without them."""
    reference = Reference(name)
    logits = reference.tap.train()(reference.arrays["input"]).logits
    loss = F.cross_entropy(logits, reference.arrays["train_labels"])
    loss.backward()
    network: Any = reference.tap.network
    reference.check("train_logits", logits)
    reference.check("train_loss", loss)
    reference.check("train_grad_conv1_weight", network.conv1.weight.grad)
    last: Any = network.get_submodule(reference.entry["last_batchnorm"])
    reference.check("train_last_running_mean", last.running_mean)
    reference.check("train_last_running_var", last.running_var)


@one_of_each_kind
def test_each_batch_norm_counts_one_batch_a_pass(name):
    tap = tap_of(name).train()
    tap(images(2, 3, 32, 32))
    counts = {key: int(v) for key, v in tap.network.state_dict().items() if key.endswith("num_batches_tracked")}
    assert counts
    assert set(counts.values()) == {1}


@pytest.mark.parametrize("name", [name for name in REDUCTIONS if name != PREACT])
def test_stage_maps_follow_from_pre_activations(name):
    with torch.no_grad():
        outputs = tap_of(name).eval()(images(2, 3, 32, 32))
    before, stages = outputs.pre_activation, outputs.stages
    assert all(m.min() < 0 for m in before[1:])
    if name.startswith("wrn"):  # the last one goes through ReLU into the pooling; stages are untouched sums
        assert torch.equal(before[-1].relu().mean(dim=(2, 3)), outputs.embedding)
        assert all(stage.min() < 0 for stage in stages)
        return
    assert torch.equal(before[0], stages[0])
    assert stages[0].min() == 0
    if name == "mobilenetv2":  # linear bottlenecks: no ReLU follows
        assert all(torch.equal(a, b) for a, b in zip(before, stages, strict=True))
    elif name == "shufflenetv2":  # the untouched half first, and not yet shuffled
        for a, b in zip(before[1:], stages[1:], strict=True):
            untouched, convolved = a.chunk(2, dim=1)
            assert untouched.min() >= 0
            assert torch.equal(untouched, b[:, 0::2])
            assert torch.equal(convolved.relu(), b[:, 1::2])
    else:
        assert all(torch.equal(a.relu(), b) for a, b in zip(before, stages, strict=True))
    if name not in ("mobilenetv2", "shufflenetv2"):  # these have one more convolution before the pooling
        assert torch.equal(stages[-1].mean(dim=(2, 3)), outputs.embedding)


@one_of_each_kind
@pytest.mark.parametrize("size", [(8, 8), (28, 28), (27, 30)], ids=str)
def test_any_size_of_image_works(name, size):
    reductions, rounding = REDUCTIONS[name]
    sizes = [tuple(rounding(side / reduction) for side in size) for reduction in reductions]
    tap = tap_of(name, height=size[0], width=size[1], classes=10).train()
    outputs = tap(images(2, 3, *size))
    outputs.logits.sum().backward()
    assert [tuple(stage.shape[2:]) for stage in outputs.stages] == sizes
    assert [shape[1:] for shape in tap.stage_shapes] == sizes
    assert outputs.logits.shape == (2, 10)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tap.parameters())


def test_vgg_pools_once_more_at_the_size_of_tiny_imagenet_only():
    for height, expected in ((64, [64, 32, 16, 8, 4]), (72, [72, 36, 18, 9, 9])):
        assert [shape[1] for shape in tap_of("vgg8", height=height, width=height).stage_shapes] == expected


def test_an_image_that_vgg_would_pool_to_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"^vgg8_cifar cannot take 7x8 images: .*[Ss]ize.*$"):
        make_tap("vgg8_cifar", spec(), input_size=[7, 8])


def test_an_image_that_is_too_small_for_a_network_is_resized_to_its_own_size():
    assert tap_of("vgg8", height=7, width=8).input_size == (32, 32)


def test_pretrained_weights_are_refused_since_there_are_none():
    for create in (
        lambda: make_tap("resnet8_cifar", spec(), 0, pretrained=True),
        lambda: timm.create_model("wrn_16_1_cifar", pretrained=True),
        lambda: timm.create_model("vgg8_cifar", pretrained=True),
    ):
        with pytest.raises(ConfigError, match=r"(resnet8|wrn_16_1|vgg8)_cifar: no pretrained weights are distributed"):
            create()


@pytest.mark.parametrize(("network", "depth"), [(ResNet, 10), (WideResNet, 20)])
def test_a_depth_that_is_no_whole_number_of_blocks_is_refused(network, depth):
    with pytest.raises(ValueError, match=rf"depth {depth} is not 6n \+ [24]"):
        network(depth, **({"width": 1} if network is WideResNet else {}))


def test_what_the_name_fixes_cannot_be_changed():
    with pytest.raises(ConfigError, match=r"student.kwargs=\{'depth': 14\}: .*multiple values .*'depth'"):
        make_tap("resnet8_cifar", spec(), 0, kwargs={"depth": 14})


def convolutions(name: str) -> list[nn.Conv2d]:
    return [layer for layer in tap_of(name).network.modules() if isinstance(layer, nn.Conv2d)]


@pytest.mark.parametrize("name", ["resnet32x4", "wrn_40_2", "vgg8", "mobilenetv2", "resnet18"])
def test_convolutions_start_with_the_published_deviation(name):
    """Most codes draw from N(0, 2 / (kernel area * output channels)), depthwise or not."""
    pooled: dict[bool, list[Tensor]] = {}
    for layer in convolutions(name):
        deviation = math.sqrt(2 / (layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels))
        pooled.setdefault(layer.groups > 1, []).append(layer.weight.detach().flatten() / deviation)
        assert layer.bias is None or not layer.bias.any()
    assert len(pooled) == (2 if name == "mobilenetv2" else 1)
    for draws in map(torch.cat, pooled.values()):
        assert draws.mean().item() == pytest.approx(0, abs=0.02)
        assert draws.std().item() == pytest.approx(1, rel=0.01)
        assert draws.abs().max() > 3.5  # normal, not uniform


@pytest.mark.parametrize("name", ["shufflenetv1", "shufflenetv2", PREACT])
def test_these_networks_start_as_the_framework_does(name):
    """torch's default is uniform within 1 / sqrt(inputs of a unit), which has a third of that square as variance."""
    scaled = [layer.weight.detach().flatten() * math.sqrt(layer.weight[0].numel()) for layer in convolutions(name)]
    assert torch.cat(scaled).abs().max() <= 1
    assert torch.cat(scaled).std().item() == pytest.approx(math.sqrt(1 / 3), rel=0.01)


@pytest.mark.parametrize("name", ["vgg8", "mobilenetv2"])
def test_these_classifiers_start_small(name):
    network: Any = tap_of(name).network
    for _ in range(2):
        linear = network.get_classifier()
        assert linear.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert not linear.bias.any()
        network.reset_classifier(50)  # a new one starts likewise


# timm's interface.


@one_of_each_kind
def test_features_only(name):
    model = timm.create_model(f"{name}_cifar", features_only=True, out_indices=(1, 3)).eval()
    shapes = [shape[1:] for shape in FEATURES[name]]
    reductions, _ = REDUCTIONS[name]
    assert model.feature_info.channels() == [shapes[1][0], shapes[3][0]]
    assert model.feature_info.reduction() == [reductions[1], reductions[3]]
    with torch.no_grad():
        maps = model(images(1, 3, 32, 32))
    assert [list(m.shape[1:]) for m in maps] == [shapes[1], shapes[3]]


@one_of_each_kind
def test_features_only_gives_every_stage_unless_told_otherwise(name):
    model = timm.create_model(f"{name}_cifar", features_only=True).eval()
    assert model.feature_info.channels() == [shape[1] for shape in FEATURES[name][:-1]]
    assert model.feature_info.reduction() == list(REDUCTIONS[name][0])
    modules = dict(model.model.named_modules())
    assert all(module in modules for module in model.feature_info.module_name())


@one_of_each_kind
def test_forward_intermediates(name):
    model = timm.create_model(f"{name}_cifar").eval()
    x = images(1, 3, 32, 32)
    with torch.no_grad():
        final, every = model.forward_intermediates(x)
        last_two = model.forward_intermediates(x, indices=2, intermediates_only=True)
        chosen = model.forward_intermediates(x, indices=[0, -1], intermediates_only=True)
        assert torch.equal(model.forward_features(x), final)
        assert torch.equal(model.forward_head(final), model(x))
    assert final.shape[1] == model.num_features
    assert [list(m.shape) for m in every] == FEATURES[name][:-1]
    assert [torch.equal(a, b) for a, b in zip(last_two, every[-2:], strict=True)] == [True, True]
    assert [torch.equal(a, b) for a, b in zip(chosen, (every[0], every[-1]), strict=True)] == [True, True]
    with pytest.raises(ConfigError, match="output_fmt='NLC'"):
        model.forward_intermediates(x, output_fmt="NLC")


@one_of_each_kind
def test_the_classifier_can_be_replaced_and_removed(name):
    model = timm.create_model(f"{name}_cifar", num_classes=5).eval()
    x, size = images(2, 3, 32, 32), FEATURES[name][-1][1]
    keys = list(model.state_dict())
    linear = model.get_submodule(model.pretrained_cfg["classifier"])
    assert model.get_classifier() is linear
    assert (linear.in_features, linear.out_features) == (size, 5)
    assert model.num_features == model.head_hidden_size == size
    with torch.no_grad():
        pooled = model.forward_head(model.forward_features(x), pre_logits=True)
        model.reset_classifier(7)
        assert model.num_classes == 7
        assert model(x).shape == (2, 7)
        assert list(model.state_dict()) == keys
        model.reset_classifier(0)
        assert torch.equal(model(x), pooled)
        assert timm.create_model(f"{name}_cifar", num_classes=0).eval()(x).shape == (2, size)
    with pytest.raises(ConfigError, match="global_pool='max' is not offered"):
        model.reset_classifier(3, global_pool="max")


@one_of_each_kind
def test_grey_images(name):
    model = timm.create_model(f"{name}_cifar", in_chans=1).eval()
    with torch.no_grad():
        assert model(images(2, 1, 32, 32)).shape == (2, 100)
    assert model.get_submodule(model.pretrained_cfg["first_conv"]).weight.shape[1] == 1


def test_what_timms_helpers_ask_for():
    model = timm.create_model("resnet8_cifar", num_classes=5)
    assert model.prune_intermediate_layers(2) == [2, 3]
    assert isinstance(model.get_classifier(), nn.Identity)
    model.set_grad_checkpointing(False)
    with pytest.raises(ConfigError, match="gradient checkpointing is not offered"):
        model.set_grad_checkpointing()
