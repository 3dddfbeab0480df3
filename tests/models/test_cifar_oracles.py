"""CIFAR networks without stored logits, against torchvision's networks or against the arithmetic written out."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import make_layers

from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


def network_of(name: str) -> Any:
    """A network in evaluation mode whose batch norms do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(f"{name}_cifar").eval()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.3)
                nn.init.normal_(module.running_mean, 0.0, 0.3)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def images(size: int = 32) -> Tensor:
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def copied_in_order(source: nn.Module, target: Any) -> Any:
    """``target`` with the weights of ``source``, whose layers come in the same order under other names."""
    target.load_state_dict(dict(zip(target.state_dict(), source.state_dict().values(), strict=True)))
    return target.eval()


def check(network: Any, x: Tensor, expected: Iterator[Tensor]) -> None:
    """Compare stages and then logits with what the oracle gives one by one."""
    outputs = network.forward_stages(x)
    got = [*outputs.stages, network.forward_head(outputs.final)]
    for i, (ours, theirs) in enumerate(zip(got, expected, strict=True)):
        scale = theirs.abs().max().item()
        torch.testing.assert_close(ours / scale, theirs / scale, **TOLERANCE, msg=lambda text, i=i: f"{i}: {text}")


# torchvision's networks, with the stem and the strides of the tables.


@pytest.mark.parametrize(("name", "size"), [("vgg8", 32), ("vgg8", 64), ("vgg13", 32), ("vgg19", 32)])
@torch.no_grad()
def test_vgg_is_torchvisions_with_batch_norm_and_without_its_last_poolings(name, size):
    network = network_of(name)
    layers = {"vgg8": (1, 1, 1, 1, 1), "vgg13": (2, 2, 2, 2, 2), "vgg19": (2, 2, 4, 4, 4)}[name]
    plan: list[int | str] = []
    for i, (width, count) in enumerate(zip((64, 128, 256, 512, 512), layers, strict=True)):
        plan += [width] * count + (["M"] if i < 3 or (i == 3 and size == 64) else [])
    oracle = nn.Sequential(make_layers(plan, batch_norm=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    oracle = copied_in_order(network, oracle.append(nn.Linear(512, 100)))
    x = images(size)
    torch.testing.assert_close(network(x), oracle(x), **TOLERANCE)


@torch.no_grad()
def test_mobilenet_v2_is_torchvisions_with_relu_other_strides_and_an_expansion_in_the_first_block():
    network = network_of("mobilenetv2")
    groups = [(1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    oracle: Any = torchvision.models.MobileNetV2(100, 0.5, [list(group) for group in groups], round_nearest=1)
    expansion = nn.Sequential(nn.Conv2d(16, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
    oracle.features[1] = nn.Sequential(expansion, oracle.features[1])
    for module in list(oracle.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    copied_in_order(network, oracle)

    def stages(x: Tensor) -> Iterator[Tensor]:
        for i, layer in enumerate(oracle.features):
            x = layer(x)
            if i in (0, 3, 6, 13, 17):
                yield x
        yield oracle.classifier(x.mean(dim=(2, 3)))

    check(network, images(), stages(images()))


@torch.no_grad()
def test_shufflenet_v2_is_torchvisions_with_another_stem():
    network = network_of("shufflenetv2")
    oracle: Any = torchvision.models.ShuffleNetV2([4, 8, 4], [24, 116, 232, 464, 1024], num_classes=100)
    oracle.conv1[0] = nn.Conv2d(3, 24, 1, bias=False)
    copied_in_order(network, oracle)

    def stages(x: Tensor) -> Iterator[Tensor]:
        for layer in (oracle.conv1, oracle.stage2, oracle.stage3, oracle.stage4):
            x = layer(x)
            yield x
        yield oracle.fc(oracle.conv5(x).mean(dim=(2, 3)))

    check(network, images(), stages(images()))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
@torch.no_grad()
def test_the_imagenet_resnets_are_torchvisions_with_another_stem(name):
    network = network_of(name)
    oracle: Any = getattr(torchvision.models, name)(num_classes=100)
    oracle.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    copied_in_order(network, oracle)

    def stages(x: Tensor) -> Iterator[Tensor]:
        yield (x := oracle.bn1(oracle.conv1(x)).relu())
        for layer in (oracle.layer1, oracle.layer2, oracle.layer3, oracle.layer4):
            yield (x := layer(x))
        yield oracle.fc(x.mean(dim=(2, 3)))

    check(network, images(), stages(images()))


# No library has these two as the tables use them: the arithmetic, layer by layer, from the state dictionary alone.


class Written:
    def __init__(self, network: nn.Module) -> None:
        self.state = network.state_dict()

    def convolve(self, key: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{key}.weight"]
        return F.conv2d(x, weight, None, stride, weight.shape[2] // 2, 1, groups)

    def normalise(self, key: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            self.state[f"{key}.{name}"][:, None, None] for name in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    def classify(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) @ self.state["linear.weight"].T + self.state["linear.bias"]

    def stem(self, x: Tensor) -> Tensor:
        return self.normalise("bn1", self.convolve("conv1", x)).clamp(min=0)


def shuffled(x: Tensor, groups: int) -> Tensor:
    """Channel j of group i goes to place j * groups + i."""
    per_group = x.shape[1] // groups
    out = torch.empty_like(x)
    for i in range(groups):
        for j in range(per_group):
            out[:, j * groups + i] = x[:, i * per_group + j]
    return out


def averaged(x: Tensor) -> Tensor:
    """Means of 3x3 windows at stride 2, in which the border counts as zeros."""
    padded = F.pad(x, (1, 1, 1, 1))
    height, width = x.shape[2], x.shape[3]
    windows = [padded[:, :, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return torch.stack(windows).sum(dim=0) / 9


@torch.no_grad()
def test_shufflenet_v1_is_the_arithmetic_written_out():
    network = network_of("shufflenetv1")
    written = Written(network)

    def unit(x: Tensor, stage: int, number: int) -> Tensor:
        key, stride = f"layer{stage}.{number}", 1 if number else 2
        first = 1 if (stage, number) == (1, 0) else 3
        out = written.normalise(f"{key}.bn1", written.convolve(f"{key}.conv1", x, groups=first)).clamp(min=0)
        out = written.convolve(f"{key}.conv2", shuffled(out, first), stride, groups=out.shape[1])
        out = written.normalise(f"{key}.bn2", out).clamp(min=0)
        out = written.normalise(f"{key}.bn3", written.convolve(f"{key}.conv3", out, groups=3))
        return (out + x if number else torch.cat([out, averaged(x)], dim=1)).clamp(min=0)

    def stages(x: Tensor) -> Iterator[Tensor]:
        yield (x := written.stem(x))
        for stage, units in ((1, 4), (2, 8), (3, 4)):
            for number in range(units):
                x = unit(x, stage, number)
            yield x
        yield written.classify(x)

    check(network, images(), stages(images()))


@torch.no_grad()
def test_the_pre_activation_resnet_is_the_arithmetic_written_out():
    network = network_of("preact_resnet18")
    written = Written(network)

    def block(x: Tensor, stage: int, number: int) -> Tensor:
        key, stride = f"layer{stage}.{number}", 2 if stage > 1 and number == 0 else 1
        opened = written.normalise(f"{key}.bn1", x).clamp(min=0)
        out = written.normalise(f"{key}.bn2", written.convolve(f"{key}.conv1", opened, stride)).clamp(min=0)
        shortcut = written.convolve(f"{key}.shortcut.0", opened, stride) if stride == 2 else opened
        return written.convolve(f"{key}.conv2", out) + shortcut

    def stages(x: Tensor) -> Iterator[Tensor]:
        yield (x := written.stem(x))
        for stage in (1, 2, 3, 4):
            for number in (0, 1):
                x = block(x, stage, number)
            yield x
        yield written.classify(x)

    check(network, images(), stages(images()))
