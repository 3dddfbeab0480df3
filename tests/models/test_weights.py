"""Weight files: hashed by content, read without running what they hold, loaded strictly."""

import contextlib
import hashlib
import pickle
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from kd_bench.config.files import file_sha256
from kd_bench.errors import IntegrityError
from kd_bench.models.weights import (
    load_start,
    load_strictly,
    read_weights,
    save_tensors,
    start_sha256,
    weights_sha256,
)

State = dict[str, Tensor]


@pytest.fixture
def state() -> State:
    generator = torch.Generator().manual_seed(0)
    return {
        "conv.weight": torch.randn(4, 3, 3, 3, generator=generator),
        "bn.running_mean": torch.randn(4, generator=generator),
        "bn.num_batches_tracked": torch.tensor(17),
        "fc.weight": torch.randn(2, 4, generator=generator).bfloat16(),
    }


def same(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one
    )


# How files may come: extension, and what writes a state dictionary into them.
WRITERS: dict[str, tuple[str, Callable[[State, Path], Any]]] = {
    "safetensors": (".safetensors", save_file),
    "torch": (".pth", torch.save),
    "torch before 1.6": (".pt", lambda s, path: torch.save(s, path, _use_new_zipfile_serialization=False)),
    "wrapped as state_dict": (".ckpt", lambda s, path: torch.save({"state_dict": s, "epoch": 3}, path)),
    "wrapped as model": (".pth", lambda s, path: torch.save({"model": s, "best_acc": torch.tensor(0.7)}, path)),
    "data parallel": (".pth", lambda s, path: torch.save({f"module.{k}": v for k, v in s.items()}, path)),
    "compiled": (".pth", lambda s, path: torch.save({f"_orig_mod.{k}": v for k, v in s.items()}, path)),
    "compiled, then parallel": (".pt", lambda s, path: torch.save({f"module._orig_mod.{k}": s[k] for k in s}, path)),
    "parallel, then compiled": (".pt", lambda s, path: torch.save({f"_orig_mod.module.{k}": s[k] for k in s}, path)),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_weights_have_the_same_hash_in_every_file(state, tmp_path, kind):
    extension, write = WRITERS[kind]
    path = tmp_path / f"weights{extension}"
    write(state, path)
    read = read_weights(path)
    assert same(read, state)
    assert weights_sha256(read) == weights_sha256(state)


def test_the_hash_is_of_names_types_shapes_and_values(state):
    """Not of order or memory layout."""
    expected = weights_sha256(state)
    assert weights_sha256(dict(reversed(list(state.items())))) == expected
    layout = {**state, "conv.weight": state["conv.weight"].to(memory_format=torch.channels_last)}
    assert weights_sha256(layout) == expected
    assert weights_sha256({k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}) == expected
    renamed = {**state, "conv.bias": state["bn.running_mean"]}
    del renamed["bn.running_mean"]
    bumped = state["bn.running_mean"].clone()
    bumped[0] = torch.nextafter(bumped[0], torch.tensor(9.0))
    different = [
        renamed,
        {**state, "bn.running_mean": bumped},
        {**state, "bn.running_mean": state["bn.running_mean"].view(torch.int32)},
        {**state, "bn.running_mean": state["bn.running_mean"].view(2, 2)},
        {**state, "extra": torch.zeros(0)},
    ]
    assert len({expected, *map(weights_sha256, different)}) == 1 + len(different)


def test_the_hash_of_a_file_is_sha256(tmp_path):
    content = random.Random(0).randbytes(3_000_000)
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_tensors_survive_a_safetensors_file(state, tmp_path):
    state["turned"] = torch.arange(12).view(3, 4).T  # not contiguous
    path = tmp_path / "weights.safetensors"
    save_tensors(state, path)
    assert same(read_weights(path), state)
    assert same(load_file(path), state)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# What is refused.


class Payload:
    """Runs code when it is unpickled: it leaves a canary."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        return Path.write_text, (self.canary, "the code ran")


@pytest.mark.parametrize("kind", ["torch", "torch before 1.6", "plain pickle", "named safetensors"])
def test_code_in_a_file_is_refused_and_not_run(state, tmp_path, kind):
    canary = tmp_path / "canary"
    content: Any = {**state, "payload": Payload(canary)}
    path = tmp_path / ("weights.safetensors" if kind == "named safetensors" else "weights.pth")
    if kind.startswith("torch"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "torch")
    else:
        path.write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(IntegrityError, match=r"weights\.(pth|safetensors) is refused: "):
        read_weights(path)
    assert not canary.exists()
    if kind.startswith("torch"):  # the payload is live: torch itself, told to trust the file, runs it
        torch.load(path, weights_only=False)
        assert canary.exists()


def test_the_refusal_names_what_the_file_wanted_to_run(tmp_path):
    torch.save({"payload": Payload(tmp_path / "canary")}, tmp_path / "weights.pth")
    with pytest.raises(IntegrityError, match=r"GLOBAL pathlib\.\S*write_text|GLOBAL \S*getattr"):
        read_weights(tmp_path / "weights.pth")


def test_a_missing_file_is_refused(tmp_path):
    for path in (tmp_path / "weights.pth", tmp_path):
        with pytest.raises(IntegrityError, match=r"no such weight file"):
            read_weights(path)


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
@pytest.mark.parametrize("content", [b"", b"\x00", b"<html>404</html>", b"\x80\x02.", b'{"a": 1}'])
def test_a_file_that_is_something_else_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} is refused: ."):
        read_weights(tmp_path / name)


@pytest.mark.parametrize("text", ["hello", "text\n", "(", "]", "# notes", "", "0", "S'a'\n", "Is my\n1\n"])
def test_a_text_file_is_called_no_weight_file(tmp_path, text):
    """Whatever the unpickler makes of its characters."""
    (tmp_path / "weights.pth").write_text(text)
    with pytest.raises(IntegrityError, match=r"weights\.pth is refused: damaged, or no file of torch\.save"):
        read_weights(tmp_path / "weights.pth")


@pytest.mark.parametrize("kind", ["safetensors", "torch", "torch before 1.6"])
def test_a_truncated_or_damaged_file_is_refused_or_read(state, tmp_path, kind):
    """Wherever it was cut it is refused; whatever byte was changed, nothing but IntegrityError comes out."""
    extension, write = WRITERS[kind]
    path = tmp_path / f"weights{extension}"
    write(state, path)
    whole, chance = path.read_bytes(), random.Random(0)
    for length in range(0, len(whole), 61):
        path.write_bytes(whole[:length])
        with pytest.raises(IntegrityError, match="is refused: "):
            read_weights(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch remarks on versions that the damage made up
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[chance.randrange(len(damaged))] ^= chance.randrange(1, 256)
            path.write_bytes(damaged)
            with contextlib.suppress(IntegrityError):
                weights_sha256(read_weights(path))


@pytest.mark.parametrize(
    "content", [{}, [], torch.zeros(2), {"lr": 0.1}, {"state_dict": {"a": 1}}, {0: torch.zeros(1)}, {"model": {}}]
)
def test_a_file_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pth")
    with pytest.raises(IntegrityError, match="holds no state dictionary"):
        read_weights(tmp_path / "weights.pth")


# Loading.


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))


def test_fitting_weights_are_loaded():
    network, other = small(), {k: torch.full_like(v, 3) for k, v in small().state_dict().items()}
    load_strictly(network, other, "file")
    assert same(dict(network.state_dict()), other)


def test_what_does_not_fit_is_listed_and_nothing_is_loaded():
    network = small()
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = {k: torch.full_like(v, 3) for k, v in before.items()}
    state["head.weight"] = state.pop("2.bias")
    state["0.weight"] = torch.zeros(3, 4)
    with pytest.raises(IntegrityError) as caught:
        load_strictly(network, state, "w.pth")
    assert str(caught.value) == (
        "w.pth does not fit the network: missing: 2.bias; unexpected: head.weight; "
        "other shape: 0.weight (3, 4) for (4, 3)"
    )
    assert same(dict(network.state_dict()), before)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": torch.zeros(1)}, "unexpected: x"),
        ({"0.weight": torch.zeros(4, 4)}, r"other shape: 0.weight \(4, 4\) for \(4, 3\)"),
    ],
)
def test_one_thing_that_does_not_fit_is_enough(change, reason):
    network = small()
    with pytest.raises(IntegrityError, match=rf"^w.pth does not fit the network: {reason}$"):
        load_strictly(network, {**network.state_dict(), **change}, "w.pth")


def test_a_long_list_is_shortened():
    with pytest.raises(IntegrityError, match=r"missing: 0\.bias, 0\.weight, 1\.bias, .* and 3 more; unexpected: x$"):
        load_strictly(small(), {"x": torch.zeros(1)}, "w.pth")


# Weights to start from.


@pytest.mark.parametrize("name", ["resnet8_cifar", "resnet18", "deit_tiny_distilled_patch16_224"])
def test_a_start_takes_all_but_the_head(name):
    def made(classes: int, seed: int) -> torch.nn.Module:
        torch.manual_seed(seed)
        return timm.create_model(name, num_classes=classes)

    source, network, fresh = made(7, 1).state_dict(), made(10, 2), made(10, 2).state_dict()
    load_start(network, source, "file.pth")
    heads = ("fc.", "head.", "head_dist.")
    for key, value in network.state_dict().items():
        assert torch.equal(value, (fresh if key.startswith(heads) else source)[key]), key


def test_a_start_is_known_by_its_weights(tmp_path):
    path = tmp_path / "start.safetensors"
    state = {"a": torch.tensor([1.0, 2.0])}
    save_tensors(state, path)
    assert start_sha256("teacher.init", str(path), None) == weights_sha256(state)
    with pytest.raises(IntegrityError, match=r"teacher\.init=.*teacher\.init_sha256 says 00"):
        start_sha256("teacher.init", str(path), "00")
    with pytest.raises(IntegrityError, match="no such weight file; `timm` starts from timm's weights"):
        start_sha256("teacher.init", str(tmp_path / "no.pth"), None)
