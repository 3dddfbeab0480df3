"""Weight files as they come from other projects: the same logits after loading, or one line that says why not."""

import argparse
import os
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from support.hostile import Call
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.errors import IntegrityError
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks
from kd_bench.models.key_maps import student_of
from kd_bench.models.weights import load_strictly, read_weights

NAME = "resnet8_cifar"
Writer = Callable[[nn.Module, Path], Any]


def built(name: str = NAME, seed: int = 0, **arguments: Any) -> nn.Module:
    """In eval mode, with statistics in its batch norms that are not those of a fresh network."""
    torch.manual_seed(seed)
    network = timm.create_model(name, num_classes=10, **arguments)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.num_batches_tracked.fill_(7)
    return network.eval()


@torch.no_grad()
def logits(network: nn.Module, size: int = 32) -> Tensor:
    return network(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)))


def legacy(content: Any, path: Path) -> None:
    """As torch before 1.6 wrote it: pickles one after the other, no zip archive."""
    torch.save(content, path, _use_new_zipfile_serialization=False)
    assert not path.read_bytes().startswith(b"PK")


def without_counters(network: nn.Module) -> dict[str, Tensor]:
    return {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}


def rep_distiller(network: nn.Module) -> dict[str, Any]:
    return {"epoch": 240, "model": network.state_dict(), "best_acc": torch.tensor(72.5)}


def whole_distillation(network: nn.Module) -> dict[str, Any]:
    """mdistiller's ``latest`` and ``best``: the distiller within DataParallel, with the teacher and the connectors."""
    whole = nn.Module()
    whole.student, whole.teacher, whole.conv_reg = network, built("resnet14_cifar", seed=9), nn.Conv2d(16, 16, 1)
    parallel = nn.DataParallel(whole)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9).state_dict()
    return {"epoch": 3, "model": parallel.state_dict(), "optimizer": optimizer, "best_acc": torch.tensor(70.0)}


FORMATS: dict[str, tuple[str, Writer]] = {
    "kd_bench, safetensors": ("student.safetensors", lambda n, path: save_file(n.state_dict(), path)),
    "timm": ("model.pth", lambda n, path: torch.save(n.state_dict(), path)),
    "timm's training": (
        "last.pth.tar",
        lambda n, path: torch.save({"epoch": 1, "arch": NAME, "state_dict": n.state_dict(), "metric": 0.5}, path),
    ),
    "RepDistiller, best": ("resnet8_best.pth", lambda n, path: torch.save(rep_distiller(n), path)),
    "RepDistiller, best, old": ("resnet8_best.pth", lambda n, path: legacy(rep_distiller(n), path)),
    "RepDistiller, every epoch": (
        "ckpt_epoch_240.pth",
        lambda n, path: legacy({"epoch": 240, "model": n.state_dict(), "accuracy": torch.tensor([72.5])}, path),
    ),
    "without counters": ("old.pth", lambda n, path: legacy({"model": OrderedDict(without_counters(n))}, path)),
    "mdistiller, student": ("student_best", lambda n, path: torch.save({"model": n.state_dict()}, path)),
    "mdistiller, whole": ("latest", lambda n, path: torch.save(whole_distillation(n), path)),
    "mdistiller, no teacher": (
        "best",
        lambda n, path: torch.save({"model": {f"module.student.{k}": v for k, v in n.state_dict().items()}}, path),
    ),
    "DataParallel": ("model.pth", lambda n, path: torch.save(nn.DataParallel(n).state_dict(), path)),
    "compiled": ("model.pth", lambda n, path: torch.save(torch.compile(n).state_dict(), path)),
    "compiled, DataParallel": (
        "model.pth",
        lambda n, path: torch.save(nn.DataParallel(torch.compile(n)).state_dict(), path),
    ),
}


@pytest.mark.parametrize("kind", FORMATS)
def test_loaded_weights_give_the_same_logits(tmp_path, kind):
    name, write = FORMATS[kind]
    path, original, other = tmp_path / name, built(seed=1), built(seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(original, path)
    assert not torch.equal(logits(original), logits(other))
    notes = load_strictly(other, read_weights(path), path.name)
    assert torch.equal(logits(original), logits(other))
    assert notes == (
        ["old.pth lacks num_batches_tracked of 9 batch norms; they count from 0"] if kind == "without counters" else []
    )


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_networks_of_timm_load_their_own_state(tmp_path, name):
    size = 224 if name.startswith("vit") else 64
    original, other = built(name, seed=1), built(name, seed=2)
    torch.save(original.state_dict(), tmp_path / "model.pth")
    assert load_strictly(other, read_weights(tmp_path / "model.pth"), "model.pth") == []
    assert torch.equal(logits(original, size), logits(other, size))


def test_missing_counters_become_zero_and_given_ones_are_kept():
    network, state = built(seed=1), dict(built(seed=2).state_dict())
    del state["bn1.num_batches_tracked"]
    notes = load_strictly(network, state, "file")
    assert notes == ["file lacks num_batches_tracked of 1 batch norms; they count from 0"]
    assert network.bn1.num_batches_tracked == 0
    assert network.layer1[0].bn1.num_batches_tracked == 7


@pytest.mark.parametrize("entry", ["running_mean", "running_var", "weight"])
def test_nothing_else_is_filled_in(entry):
    state = without_counters(built())
    del state[f"bn1.{entry}"]
    with pytest.raises(IntegrityError, match=rf"^file does not fit the network: missing: bn1\.{entry}$"):
        load_strictly(built(), state, "file")


def test_weights_of_another_depth_list_what_is_too_much():
    with pytest.raises(IntegrityError) as caught:
        load_strictly(built(), built("resnet14_cifar").state_dict(), "resnet14.pth")
    assert str(caught.value) == (
        "resnet14.pth does not fit the network: unexpected: layer1.1.bn1.bias, layer1.1.bn1.num_batches_tracked, "
        "layer1.1.bn1.running_mean, layer1.1.bn1.running_var, layer1.1.bn1.weight and 31 more"
    )


def test_only_a_whole_distillation_is_cut_down_to_its_student():
    part = {"student.a": torch.zeros(1), "head": torch.zeros(1)}
    assert student_of(part) == part
    assert list(student_of({**part, "teacher.a": torch.zeros(1)})) == ["a"]
    assert list(student_of({"student.a": torch.zeros(1)})) == ["a"]
    assert list(student_of({"teacher.a": torch.zeros(1)})) == ["teacher.a"]


# --- What is refused ---


def refusal(path: Path) -> str:
    with pytest.raises(IntegrityError) as caught:
        read_weights(path)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_namespace_is_refused_with_the_command_that_takes_the_weights_out(tmp_path):
    path = tmp_path / "resnet8_last.pth"
    torch.save({"opt": argparse.Namespace(lr=0.05), "model": built().state_dict()}, path)
    assert refusal(path) == (
        f"{path} is refused: WeightsUnpickler error: Unsupported global: GLOBAL argparse.Namespace was not an allowed "
        f"global by default. Take the weights out, without running code, by: kd-bench convert {path} "
        "--out resnet8_last.safetensors"
    )


@pytest.mark.parametrize("write", [torch.save, legacy])
@pytest.mark.parametrize("place", ["value", "beside", "key"])
def test_no_code_runs_wherever_it_stands(tmp_path, write, place):
    path, canary = tmp_path / "teacher.pth", tmp_path / "canary"
    payload = Call(os.system, f"touch {canary}")
    state = dict(built().state_dict())
    content = {
        "value": {"model": {**state, "conv1.weight": payload}},
        "beside": {"opt": argparse.Namespace(a=1), "model": state, "_target_": payload},
        "key": {"model": {**state, ("key", payload): torch.zeros(1)}},
    }[place]
    write(content, path)
    refusal(path)
    assert not canary.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the payload was dead, the test shows nothing"


def test_targets_are_text(tmp_path):
    """``_target_`` beside the weights, which ran code in other projects, is never looked at."""
    canary = tmp_path / "canary"
    target = {"_target_": "pathlib.Path.touch", "_args_": [str(canary)]}
    torch.save({"model": built().state_dict(), "config": target}, tmp_path / "teacher.pth")
    save_file(built().state_dict(), tmp_path / "teacher.safetensors", metadata={"config": str(target)})
    for name in ("teacher.pth", "teacher.safetensors"):
        load_strictly(built(), read_weights(tmp_path / name), name)
    assert not canary.exists()


@pytest.mark.parametrize(
    "header",
    [
        b"not json at all",
        b'{"a": {"dtype": "F32", "shape": [1000000, 1000000], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}',
        b'{"a": {"dtype": "pickle", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_a_broken_safetensors_header_is_refused(tmp_path, header):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    assert refusal(path).startswith(f"{path} is refused: ")
    path.write_bytes((2**40).to_bytes(8, "little") + header)
    assert refusal(path).startswith(f"{path} is refused: ")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    whole, bomb = tmp_path / "whole.pth", tmp_path / "bomb.pth"
    torch.save({"a": torch.zeros(1_000_000)}, whole)
    with zipfile.ZipFile(whole) as source, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for entry in source.infolist():
            target.writestr(entry.filename, source.read(entry))
    assert bomb.stat().st_size < 10_000
    assert refusal(bomb).endswith(f"is refused: its entry {source.namelist()[0]} is compressed, which torch never does")


def rebuilt(*arguments: Any) -> Call:
    return Call(torch._utils._rebuild_tensor_v2, *arguments, False, OrderedDict())


def odd_tensors() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        four_values = torch.zeros(4).storage()
        return {
            "many values of one": rebuilt(four_values, 0, (10**6, 10**6), (0, 0)),
            "beyond the storage": rebuilt(four_values, 0, (10**12,), (1,)),
            "without values": torch.zeros(3, device="meta"),
            "sparse": torch.eye(3).to_sparse(),
            "quantized": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
            "complex": torch.ones(3, dtype=torch.complex64),
        }


@pytest.mark.parametrize("kind", odd_tensors())
def test_tensors_that_are_no_weights_are_refused(tmp_path, kind):
    path = tmp_path / "weights.pth"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save({"a": odd_tensors()[kind]}, path)
        reason = refusal(path)
    assert reason.startswith(f"{path} is refused: ")
    expected = {"many values of one": "a claims 1000000000000 values", "beyond the storage": "resize"}
    assert expected.get(kind, "a is no plain tensor of real numbers") in reason


def test_attributes_that_a_file_gives_its_tensors_and_dictionaries_are_ignored(tmp_path):
    tensor = torch.ones(2)
    tensor.detach = tensor.numel = 5
    state = Call(OrderedDict, state={"items": 5, "get": 5}, items={"a": tensor})
    torch.save(state, tmp_path / "weights.pth")
    (read,) = read_weights(tmp_path / "weights.pth").values()
    assert torch.equal(read.detach(), torch.ones(2))


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31mred", "\ud800"])
def test_names_that_do_not_print_are_refused(tmp_path, name):
    torch.save({name: torch.zeros(1)}, tmp_path / "weights.pth")
    assert "holds no state dictionary" in refusal(tmp_path / "weights.pth")


def test_one_name_with_and_without_prefix_is_refused(tmp_path):
    torch.save({"module.a": torch.zeros(1), "a": torch.ones(1)}, tmp_path / "weights.pth")
    assert "holds several tensors of one name" in refusal(tmp_path / "weights.pth")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv1.weight", "fc.bias", "bn1.running_var"])
def test_weights_that_are_not_finite_are_refused(value, name):
    state = {k: v.clone() for k, v in built().state_dict().items()}
    state[name].view(-1)[0] = value
    with pytest.raises(IntegrityError, match=rf"^file is refused: NaN or infinite values in {name}$"):
        load_strictly(built(), state, "file")


def test_infinities_that_the_network_has_by_design_are_loaded():
    network = nn.Module()
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert load_strictly(network, network.state_dict(), "file") == []


def test_integers_for_weights_are_refused():
    state = {k: v.clone() for k, v in built().state_dict().items()}
    state["conv1.weight"] = F.relu(state["conv1.weight"]).char()
    with pytest.raises(IntegrityError, match=r"other type: conv1\.weight torch\.int8 for torch\.float32$"):
        load_strictly(built(), state, "file")


def test_half_precision_is_widened():
    state = {k: v.half() if v.is_floating_point() else v for k, v in built(seed=1).state_dict().items()}
    network = built()
    load_strictly(network, state, "file")
    assert torch.allclose(logits(network), logits(built(seed=1)), atol=0.05)
    assert network.conv1.weight.dtype == torch.float32
