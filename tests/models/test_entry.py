"""Networks entered behind a stage, against a whole pass."""

import pytest
import torch
from support.taps import make_tap

from kd_bench.config.check import check
from kd_bench.data.batch import DataSpec
from kd_bench.errors import ConfigError
from kd_bench.models.ensemble import Ensemble
from kd_bench.training.pair import build

SPEC = DataSpec(10, (32, 32), (0.5,) * 3, (0.25,) * 3)
NETWORKS = [
    "resnet8_cifar",
    "resnet8x4_cifar",
    "wrn_16_1_cifar",
    "preact_resnet18_cifar",
    "resnet18_cifar",
    "shufflenetv1_cifar",
    "shufflenetv2_cifar",
    "mobilenetv2_cifar",
    "vgg8_cifar",
    "resnet18",
]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [32, 64])
def test_a_network_entered_with_its_own_map_goes_on_as_it_did(name, size):
    tap = make_tap(name, DataSpec(10, (size, size), (0.5,) * 3, (0.25,) * 3)).eval()
    assert "entry" in tap.abilities
    with torch.no_grad():
        whole = tap(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)))
        for stage, stage_map in enumerate(whole.stages):
            rest = tap.resume(stage, stage_map)
            assert torch.equal(rest.logits, whole.logits), stage
            assert torch.equal(rest.embedding, whole.embedding), stage
            assert len(rest.stages) == len(whole.stages) - stage - 1
            assert all(map(torch.equal, rest.stages, whole.stages[stage + 1 :]))


def test_entry_takes_the_statistics_of_the_batch_and_keeps_the_running_ones():
    tap = make_tap("resnet8_cifar", SPEC).train()
    whole = tap(torch.rand(4, 3, 32, 32))
    before = {name: value.clone() for name, value in tap.state_dict().items()}
    rest = tap.resume(1, whole.stages[1])
    assert torch.allclose(rest.logits, whole.logits, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in tap.state_dict().items())


def test_the_statistics_run_on_after_an_error():
    tap = make_tap("resnet8_cifar", SPEC).train()
    with pytest.raises(RuntimeError):
        tap.resume(1, torch.rand(4, 7, 8, 8))
    before = tap.network.bn1.running_mean.clone()
    tap(torch.rand(4, 3, 32, 32))
    assert not torch.equal(before, tap.network.bn1.running_mean)


def test_other_networks_and_ensembles_cannot_be_entered(compose):
    members = [make_tap("resnet8_cifar", SPEC, seed) for seed in (1, 2)]
    assert Ensemble("two", members, [1.0, 1.0], "logits").abilities == frozenset()
    with pytest.raises(ConfigError, match=r"method=fcfd needs a student with .*: mobilenetv3_small_050 has none"):
        build(check(compose("method=fcfd", "student.name=mobilenetv3_small_050")))
