"""What ``kd-bench show`` and ``kd-bench list models`` say, against the published networks' numbers and by hand."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.taps import make_tap
from torch import nn

from kd_bench.cli.main import main
from kd_bench.config.check import check
from kd_bench.data.batch import DataSpec
from kd_bench.methods.base import Method
from kd_bench.methods.scratch import Scratch
from kd_bench.runs.preview import _Kept, _shapes, _weights, as_text, inspect
from kd_bench.training.module import DistillationModule
from kd_bench.training.teachers import FrozenTeacher, MovingAverage, Teacher, TrainedAlong

NETWORKS = Path(__file__).parents[1] / "golden" / "networks"
BYTES = {"float32": 4, "int64": 8}


def published(name: str) -> dict[str, Any]:
    """Of RepDistiller's network for CIFAR-100."""
    return json.loads((NETWORKS / f"{name}.json").read_text())


def stored_bytes(name: str) -> int:
    """Weights and buffers of a published network, and the mean and standard deviation of its images."""
    entries = published(name)["state_dict"]
    return sum(math.prod(entry["shape"]) * BYTES[entry["dtype"]] for entry in entries) + 2 * 3 * 4


@pytest.fixture
def facts_of(compose):
    fast = ("recipe.batch_size=4", "trainer.threads=1")
    return lambda *overrides: inspect(check(compose(*fast, *overrides)))


@pytest.mark.parametrize(("teacher", "student"), [("resnet20", "resnet8"), ("wrn_16_2", "resnet8x4")])
def test_sizes_are_those_of_the_published_networks(facts_of, teacher, student):
    facts = facts_of("dataset=cifar100", f"teacher={teacher}_cifar", f"student={student}_cifar", "method=kd")
    for role, name in (("teacher", teacher), ("student", student)):
        known = published(name)
        assert facts[role]["name"] == f"{name}_cifar"
        assert facts[role]["parameters"] == known["parameters"]
        assert facts[role]["macs"] == known["multiply_accumulates"]
        assert facts[role]["input_size"] == [32, 32]
        assert [stage[0] for stage in facts[role]["stages"]] == known["mdistiller"]["stage_channels"]
        assert [stage[1] for stage in facts[role]["stages"]] == [32, 32, 16, 8]
        assert facts[role]["embedding"] == facts[role]["stages"][-1][0]
        assert facts[role]["pre_activations"] is True
    assert facts["step"]["weight_bytes"] == stored_bytes(teacher) + stored_bytes(student)
    assert facts["step"]["gradient_bytes"] == 4 * published(student)["parameters"]
    assert (facts["num_classes"], facts["image_size"], facts["adapter_parameters"]) == (100, [32, 32], 0)
    assert facts["stage_pairs"] == [(0, 0), (1, 1), (2, 2), (3, 3)]


def test_pairing_and_adapters_are_those_of_the_method(facts_of):
    configured = facts_of("method=at", "method.skip_stages=0", "stage_pairs=[[1,2],[3,3]]")
    assert configured["stage_pairs"] == [(1, 2), (3, 3)]
    hint = facts_of("method=fitnet", "method.hint_stage=2")
    # A 1x1 convolution with bias from 32 to 32 channels, and a batch norm.
    assert hint["adapter_parameters"] == 32 * 32 + 32 + 2 * 32
    plain = facts_of("method=kd")
    extra = hint["step"]["gradient_bytes"] - plain["step"]["gradient_bytes"]
    assert extra == 4 * hint["adapter_parameters"]


def test_without_a_teacher_there_is_the_student_alone(facts_of):
    facts = facts_of("teacher=none", "method=scratch")
    assert "teacher" not in facts
    assert facts["stage_pairs"] is None
    assert facts["step"]["gradient_bytes"] == 4 * facts["student"]["parameters"] == 4 * 78_042
    assert "fewer" not in as_text(facts)


def test_activations_grow_with_the_batch(facts_of):
    small = facts_of("teacher=none", "method=scratch")["step"]
    double = facts_of("teacher=none", "method=scratch", "recipe.batch_size=8")["step"]
    assert (small["batch_size"], double["batch_size"]) == (4, 8)
    assert double["activation_bytes"] == pytest.approx(2 * small["activation_bytes"], rel=0.02)
    assert double["weight_bytes"] == small["weight_bytes"]
    assert facts_of("teacher=none", "method=scratch")["step"]["activation_bytes"] == small["activation_bytes"]


# What autograd keeps, by hand: float32 takes 4 bytes.


def kept_bytes(network: nn.Module, x: torch.Tensor) -> int:
    kept = _Kept([*network.parameters(), *network.buffers()])
    with torch.autograd.graph.saved_tensors_hooks(kept.pack, lambda tensor: tensor):
        network(x).sum()
    return kept.bytes


def test_each_saved_tensor_counts_once_and_weights_do_not():
    two_layers = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    # The input (5 x 4), and what leaves the ReLU (5 x 3), which is the input of the second layer too.
    assert kept_bytes(two_layers, torch.rand(5, 4)) == 4 * (5 * 4 + 5 * 3)


def test_a_network_without_gradients_keeps_nothing():
    assert kept_bytes(nn.Linear(4, 3).requires_grad_(False), torch.rand(5, 4)) == 0


def test_a_sigmoid_keeps_its_output():
    assert kept_bytes(nn.Sequential(nn.Linear(4, 3, bias=False), nn.Sigmoid()), torch.rand(5, 4)) == 4 * (20 + 15)


# Weights: a teacher that learns is a part of the module and counts once.

SPEC = DataSpec(10, (8, 8), (0.3,) * 3, (0.4,) * 3)


@pytest.mark.parametrize("kind", [None, FrozenTeacher, MovingAverage, TrainedAlong])
def test_all_networks_count_once(kind):
    student = make_tap("resnet8_cifar", SPEC, 1)
    teacher: Teacher | None = kind and kind(make_tap("resnet8_cifar", SPEC, 2))
    method: Method = Scratch()
    module = DistillationModule(student, method, teacher, torch.optim.SGD, None, 0, 1)
    weights = _weights(module)
    # With 10 classes in place of 100, each with 64 weights and a bias.
    one = stored_bytes("resnet8") - 4 * 90 * 65
    assert sum(tensor.nbytes for tensor in weights) == (1 if kind is None else 2) * one
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    assert trained == (2 if kind is TrainedAlong else 1) * 78_042


@pytest.mark.parametrize("method", ["cskd", "dlb", "sskd", "crd", "kdpp", "simkd"])
def test_methods_with_samplers_views_memories_and_borrowed_layers_are_shown(facts_of, method):
    facts = facts_of(f"method={method}")
    assert facts["method"] == method
    assert facts["step"]["activation_bytes"] > 0
    assert math.isfinite(facts["step"]["seconds"])


# The page.


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        ([[16, 8, 8], [32, 4, 4]], "16x8x8 32x4x4"),
        ([[192, 14, 14]] * 12, "12 of 192x14x14"),
        ([[16, 8, 8], [16, 8, 8], [32, 4, 4], [16, 8, 8]], "2 of 16x8x8 32x4x4 16x8x8"),
        ([], ""),
    ],
)
def test_runs_of_equal_stages_are_counted(stages, text):
    assert _shapes(stages) == text


def test_the_page_has_the_facts(facts_of):
    facts = facts_of("teacher.name=test_vit", "method=kd")
    sizes = {"activation_bytes": 3 << 20, "weight_bytes": 1 << 20, "gradient_bytes": 1 << 19}
    step = {"batch_size": 4, "images": 4, "seconds": 0.0123, "teacher_macs": 0, "threads": 2, **sizes}
    page = as_text({**facts, "step": step}).splitlines()
    cells = {line.split("  ")[0]: line.split()[1:] for line in page[3:11]}
    vit = facts["teacher"]["parameters"]
    assert cells["network"] == ["test_vit", "resnet8_cifar"]
    assert cells["input"] == ["160x160", "8x8"]
    assert cells["parameters"] == [f"{vit:,}", "78,042"]
    assert cells["stages"][:3] == ["6", "of", "64x10x10"]
    assert cells["stages"][3:] == ["2", "of", "16x8x8", "32x4x4", "64x2x2"]
    assert f"the student has {vit / 78_042:.1f} times fewer parameters and" in "\n".join(page)
    assert page[-1] == (
        "a training step of 4 images: 4.5 MiB (activations 3.0 MiB, weights 1.0 MiB, gradients 0.5 MiB; "
        "the optimizer's state comes on top), 12 ms here with 2 threads"
    )
    larger = copy.deepcopy(facts)
    larger["student"]["parameters"] = 2 * vit
    assert "the student has 2.0 times more parameters and" in as_text(larger)


# The commands.


def test_show_prints_json(capsys):
    fast = ["recipe.batch_size=4", "trainer.threads=1"]
    line = ["show", "resnet14_cifar--resnet8_cifar", "dataset=cifar100", "--json", "method=at", *fast]
    assert main(line) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["dataset"], facts["method"]) == ("cifar100", "at")
    assert facts["teacher"]["parameters"] == published("resnet14")["parameters"]
    assert facts["student"]["macs"] == published("resnet8")["multiply_accumulates"]
    assert facts["stage_pairs"] == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert facts["paper"] == "Zagoruyko & Komodakis 2017, arXiv:1612.03928"


def test_show_prints_a_page(capsys):
    assert main(["show", "none--resnet8_cifar", "method=scratch", "recipe.batch_size=4", "trainer.threads=1"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("digits: 10 classes, 8x8 images\nmethod scratch (")
    assert "78,042" in page
    assert "781,952" in page


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ("resnet8_cifar", "pair 'resnet8_cifar': should be TEACHER--STUDENT"),
        ("resnet20_cifar--", "pair 'resnet20_cifar--': should be TEACHER--STUDENT"),
        ("resnet20_cifra--resnet8_cifar", "teacher.name='resnet20_cifra': no such network; did you mean"),
        ("resnet20_cifar--resnet8_cifra", "student.name='resnet8_cifra': no such network; did you mean"),
        ("none--resnet8_cifar method=kd", "method=kd needs a teacher"),
        ("resnet20_cifar--resnet8_cifar method=kdd", "method='kdd': no such choice; did you mean 'kd'"),
        ("resnet20_cifar--resnet8_cifar --json seeed=1", "seeed: unknown key; did you mean 'seed'"),
    ],
)
def test_a_wrong_pair_is_one_line_and_exit_code_2(arguments, reason, capsys):
    assert main(["show", *arguments.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert line.startswith(f"kd-bench: {reason}")


def listed(capsys, *arguments: str) -> dict[str, list[str]]:
    assert main(["list", "models", *arguments]) == 0
    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["network", "parameters", "MACs"]
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_models_are_listed_with_their_sizes(capsys):
    rows = listed(capsys, "--like", "resnet8", "--params", "1e5")
    known = published("resnet8")
    assert rows == {"resnet8_cifar": [f"{known['parameters']:,}", f"{known['multiply_accumulates']:,}"]}
    rows = listed(capsys, "--like", "resnet8", "--params", "78042", "--classes", "10")
    assert rows == {"resnet8_cifar": ["78,042", f"{known['multiply_accumulates'] - 90 * 64:,}"]}
    assert listed(capsys, "--like", "resnet8", "--params", "78041", "--classes", "10") == {}


def test_models_of_a_family_are_limited_by_their_parameters(capsys):
    names = [path.stem for path in NETWORKS.glob("wrn_*.json")]
    limit = published("wrn_16_2")["parameters"]
    expected = {f"{name}_cifar" for name in names if published(name)["parameters"] <= limit}
    rows = listed(capsys, "--like", "wrn_", "--params", str(limit))
    assert set(rows) >= expected
    assert all(int(row[0].replace(",", "")) <= limit for row in rows.values())
    assert "wrn_40_2_cifar" not in rows


def test_listed_transformers_count_their_attention(capsys):
    """Of an image of their own size, 224x224 in patches of 16: 196 patches and a class token."""
    rows = listed(capsys, "--like", "vit_tiny_patch16_224", "--params", "1e7", "--classes", "10")
    width, tokens = 192, 197
    block = 4 * tokens * width**2 + 2 * tokens**2 * width + 8 * tokens * width**2
    expected = 196 * 3 * 16 * 16 * width + 12 * block + width * 10
    assert rows["vit_tiny_patch16_224"][1] == f"{expected:,}"
