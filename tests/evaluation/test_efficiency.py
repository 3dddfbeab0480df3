"""Parameters and multiply-accumulates against formulas counted by hand."""

import pytest
import torch
from support.taps import make_tap
from torch import nn

from kd_bench.data.batch import DataSpec
from kd_bench.evaluation.efficiency import adapter_parameters, file_bytes, macs, parameters
from kd_bench.methods.byot import BYOT
from kd_bench.methods.fitnet import FitNet
from kd_bench.methods.kd import KD
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.models.weights import save_tensors

SPEC = DataSpec(10, (8, 8), (0.3,) * 3, (0.4,) * 3)


def convolution_macs(inputs: int, outputs: int, kernel: int, height: int, width: int, groups: int = 1) -> int:
    """Each of the (outputs, height, width) results sums kernel^2 values of inputs / groups channels."""
    return outputs * height * width * (inputs // groups) * kernel**2


RESNET8_MACS = sum(
    [
        convolution_macs(3, 16, 3, 8, 8),
        2 * convolution_macs(16, 16, 3, 8, 8),
        convolution_macs(16, 32, 3, 4, 4) + convolution_macs(32, 32, 3, 4, 4) + convolution_macs(16, 32, 1, 4, 4),
        convolution_macs(32, 64, 3, 2, 2) + convolution_macs(64, 64, 3, 2, 2) + convolution_macs(32, 64, 1, 2, 2),
        64 * 10,
    ]
)
RESNET8_PARAMETERS = sum(
    [
        9 * (3 * 16) + 2 * 16,
        2 * (9 * 16 * 16 + 2 * 16),
        9 * (16 * 32 + 32 * 32) + 16 * 32 + 3 * 2 * 32,
        9 * (32 * 64 + 64 * 64) + 32 * 64 + 3 * 2 * 64,
        64 * 10 + 10,
    ]
)


class Tiny(nn.Module):
    """A strided, a grouped and a dilated convolution on pictures that are not square, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.dilated = nn.Conv2d(12, 6, 3, padding=2, dilation=2, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 10)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_intermediates(self, x):
        maps = [self.first(x)]
        maps.append(torch.relu(self.grouped(maps[-1])))
        maps.append(self.norm(self.dilated(maps[-1])))
        return maps[-1], maps

    def forward_head(self, x, pre_logits=False):
        pooled = x.mean(dim=(2, 3))
        return pooled if pre_logits else self.fc(pooled)


def tiny() -> tuple[FeatureTap, DataSpec]:
    spec = DataSpec(10, (12, 20), (0.3,) * 3, (0.4,) * 3)
    return FeatureTap("tiny", Tiny(), spec, spec.mean, spec.std), spec


def resnet8(name: str = "resnet8_cifar") -> FeatureTap:
    return make_tap(name, SPEC, seed=0)


def with_adapters(method, teacher: str | None = None):
    student = resnet8()
    method.build_adapters(student, resnet8(teacher) if teacher else None, SPEC)
    return student, method


def test_macs_of_a_small_network_by_hand():
    tap, spec = tiny()
    expected = (
        convolution_macs(3, 8, 3, 6, 10)
        + convolution_macs(8, 12, 3, 6, 10, groups=4)
        + convolution_macs(12, 6, 3, 6, 10)
        + 6 * 10
    )
    assert macs(tap, spec) == expected


def test_parameters_of_a_small_network_by_hand():
    tap, _ = tiny()
    assert parameters(tap) == (3 * 8 * 9 + 8) + (2 * 12 * 9 + 12) + (12 * 6 * 9) + 2 * 6 + (6 * 10 + 10)


def test_resnet8_by_hand():
    tap = resnet8()
    assert macs(tap, SPEC) == RESNET8_MACS == 781_952
    assert parameters(tap) == RESNET8_PARAMETERS == 78_042


def test_macs_grow_with_the_area_of_the_image():
    """All convolutions of a network at 16x16 do four times the work of 8x8; the classifier does not."""
    larger = DataSpec(10, (16, 16), SPEC.mean, SPEC.std)
    tap = make_tap("resnet8_cifar", larger, seed=0)
    assert macs(tap, larger) == 4 * (RESNET8_MACS - 640) + 640


EXIT_1_PARAMETERS = 2 * (16 * 16 * 9 + 2 * 16) + (16 * 64 + 2 * 64) + (64 * 10 + 10)  # from (16, 8, 8) to (64, 2, 2)
EXIT_2_PARAMETERS = (32 * 32 * 9 + 2 * 32) + (32 * 64 + 2 * 64) + (64 * 10 + 10)  # from (32, 4, 4)
EXIT_1_MACS = convolution_macs(16, 16, 3, 4, 4) + convolution_macs(16, 16, 3, 2, 2) + convolution_macs(16, 64, 1, 2, 2)
EXIT_2_MACS = convolution_macs(32, 32, 3, 2, 2) + convolution_macs(32, 64, 1, 2, 2)


def byot(ensemble: bool) -> BYOT:
    return BYOT(distillation_weight=0.1, feature_weight=1e-6, temperature=3.0, skip_stages=1, ensemble=ensemble)


def test_exits_that_predict_are_counted():
    student, method = with_adapters(byot(ensemble=True))
    assert parameters(student, method) == RESNET8_PARAMETERS + EXIT_1_PARAMETERS + EXIT_2_PARAMETERS
    assert macs(student, SPEC, method) == RESNET8_MACS + EXIT_1_MACS + EXIT_2_MACS + 2 * 640
    assert adapter_parameters(method) == 0


def test_exits_that_are_thrown_away_are_not_counted():
    student, method = with_adapters(byot(ensemble=False))
    assert parameters(student, method) == RESNET8_PARAMETERS
    assert macs(student, SPEC, method) == RESNET8_MACS
    assert adapter_parameters(method) == EXIT_1_PARAMETERS + EXIT_2_PARAMETERS


def test_adapters_are_not_counted_as_the_students():
    student, method = with_adapters(FitNet(ce_weight=1.0, hint_weight=100.0, hint_stage=2), teacher="resnet8x4_cifar")
    assert parameters(student, method) == RESNET8_PARAMETERS
    assert macs(student, SPEC, method) == RESNET8_MACS
    assert adapter_parameters(method) == (32 * 128 + 128) + 2 * 128  # a 1x1 convolution and its batch norm


def test_a_method_without_adapters_adds_nothing():
    student, method = with_adapters(KD(ce_weight=0.1, kd_weight=0.9, temperature=4.0), teacher="resnet8_cifar")
    assert parameters(student, method) == RESNET8_PARAMETERS
    assert adapter_parameters(method) == 0


def test_a_shared_parameter_is_counted_once():
    tap = resnet8()
    tap.network.layer1[0].conv2.weight = tap.network.layer1[0].conv1.weight
    assert parameters(tap) == RESNET8_PARAMETERS - 9 * 16 * 16


@pytest.mark.parametrize("training", [True, False])
def test_counting_changes_nothing(training):
    tap = resnet8().train(training)
    before = {name: value.clone() for name, value in tap.state_dict().items()}
    macs(tap, SPEC)
    assert tap.training is training
    assert all(torch.equal(before[name], value) for name, value in tap.state_dict().items())


def test_attention_counts_with_both_of_its_products():
    """A transformer of two blocks on 8x8 images in patches of 4: four patches and a class token, written out."""
    tap = make_tap("vit_tiny_patch16_224", SPEC, 0, kwargs={"img_size": 8, "patch_size": 4, "depth": 2})
    width, tokens = 192, 5
    embedding = 4 * (3 * 4 * 4) * width
    projections = tokens * width * 3 * width + tokens * width * width
    attention = tokens * tokens * width + tokens * tokens * width  # queries by keys, weights by values
    perceptron = 2 * tokens * width * 4 * width
    assert macs(tap, SPEC) == embedding + 2 * (projections + attention + perceptron) + width * 10


def test_only_what_training_may_change_is_trainable():
    student, method = with_adapters(byot(ensemble=True))
    student.network.conv1.requires_grad_(False)
    for parameter in method.exits[0].parameters():
        parameter.requires_grad_(False)
    without_turned_off = RESNET8_PARAMETERS - 9 * 3 * 16
    assert parameters(student, method) == without_turned_off + EXIT_1_PARAMETERS + EXIT_2_PARAMETERS
    assert parameters(student, method, trainable=True) == without_turned_off + EXIT_2_PARAMETERS


def test_file_sizes_are_those_on_the_disk(tmp_path):
    """Of the network, of what the method adds at test time, and of all members of an ensemble."""
    student, method = with_adapters(byot(ensemble=True))
    save_tensors(student.network.state_dict(), tmp_path / "student")
    save_tensors(nn.ModuleList(method.test_time_modules()).state_dict(), tmp_path / "head")
    network, head = ((tmp_path / name).stat().st_size for name in ("student", "head"))
    assert network > 4 * RESNET8_PARAMETERS
    assert file_bytes(student) == network
    assert file_bytes(student, method) == network + head
    assert file_bytes(Ensemble("two", [resnet8(), resnet8()], [1.0, 1.0], "logits")) == 2 * network
