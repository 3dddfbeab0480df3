"""``kd-bench convert``: the weights come out of a file with a Namespace, and nothing of the file runs."""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from support.hostile import Call

from kd_bench.cli.main import main
from kd_bench.errors import IntegrityError
from kd_bench.models import cifar  # noqa: F401 - registers the CIFAR networks
from kd_bench.models.conversion import Nothing, convert
from kd_bench.models.weights import load_strictly, read_weights, weights_sha256


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    torch.manual_seed(seed)
    return dict(timm.create_model("resnet8_cifar", num_classes=10).state_dict())


def last_file(path: Path, zipped: bool = True, **options: Any) -> Path:
    """As RepDistiller writes ``resnet8_last.pth``."""
    namespace = argparse.Namespace(model="resnet8", lr=0.05, lr_decay_epochs=[150, 180], n_gpu=None, **options)
    torch.save({"opt": namespace, "model": state()}, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_the_refusal_names_the_command_and_the_command_works(tmp_path, monkeypatch, capsys, zipped):
    """The line is run as it stands."""
    monkeypatch.chdir(tmp_path)
    path = last_file(tmp_path / "resnet8 last.pth", zipped)
    with pytest.raises(IntegrityError) as caught:
        read_weights(path)
    line = str(caught.value).partition("kd-bench ")[2]
    done = subprocess.run(f"{sys.executable} -m kd_bench {line}", shell=True, capture_output=True, text=True)  # noqa: S602
    assert (done.returncode, done.stderr) == (0, "")
    out = tmp_path / "resnet8 last.safetensors"
    assert done.stdout == f"{out.name}: 56 tensors, sha256 {weights_sha256(state())}\n"
    assert weights_sha256(read_weights(out)) == weights_sha256(state())
    network = timm.create_model("resnet8_cifar", num_classes=10)
    assert load_strictly(network, read_weights(out), out.name) == []


def test_nothing_but_the_weights_is_written(tmp_path):
    out = tmp_path / "out.safetensors"
    convert(last_file(tmp_path / "last.pth", secret="password"), out)  # noqa: S106
    with safe_open(out, "pt") as file:
        assert sorted(file.keys()) == sorted(state())
        assert file.metadata() is None
    assert b"password" not in out.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.pth", "out.safetensors"]


def test_afterwards_a_namespace_is_refused_as_before(tmp_path):
    path = last_file(tmp_path / "last.pth")
    convert(path, tmp_path / "out.safetensors")
    with pytest.raises(IntegrityError, match=r"GLOBAL argparse\.Namespace"):
        read_weights(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["in the namespace", "beside it", "as the namespace's state"])
def test_no_code_runs(tmp_path, zipped, place):
    path, canary, out = tmp_path / "last.pth", tmp_path / "canary", tmp_path / "out.safetensors"
    payload = Call(os.system, f"touch {canary}")
    namespace: Any = argparse.Namespace(hook=payload if place == "in the namespace" else 1)
    if place == "as the namespace's state":
        namespace = Call(argparse.Namespace, state={"given": payload})
    beside = payload if place == "beside it" else 1
    content = {"opt": namespace, "model": state(), "beside": beside}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(IntegrityError, match=r"is refused: .*(posix|nt|os)\.system") as caught:
        convert(path, out)
    assert len(str(caught.value).splitlines()) == 1
    assert not canary.exists()
    assert not out.exists()
    torch.load(path, weights_only=False)
    assert canary.exists(), "the payload was dead, the test shows nothing"


@pytest.mark.parametrize(
    "namespace_state",
    [
        {"__class__": torch.nn.Parameter, "__setstate__": torch.device},
        (None, {"__class__": torch.Size, "__dict__": {"a": 1}}),
        {1: 2},
        5,
    ],
)
def test_whatever_state_the_namespace_gets_nothing_of_it_is_kept(tmp_path, namespace_state):
    odd = Call(argparse.Namespace, state=namespace_state)
    torch.save({"opt": odd, "model": state()}, tmp_path / "last.pth")
    assert "56 tensors" in convert(tmp_path / "last.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize("argument", [1, {"a": 1}])
def test_a_namespace_is_made_of_nothing(tmp_path, argument):
    torch.save({"opt": Call(argparse.Namespace, argument), "model": state()}, tmp_path / "last.pth")
    with pytest.raises(IntegrityError, match=r"is refused: .*Nothing\(\) takes no arguments"):
        convert(tmp_path / "last.pth", tmp_path / "out.safetensors")


def test_the_stand_in_holds_nothing_and_stays_what_it_is():
    stand_in = Nothing()
    stand_in.__setstate__({"a": 1})
    for name, value in {"a": 1, "__dict__": {}, "__class__": argparse.Namespace}.items():
        with pytest.raises((AttributeError, TypeError)):
            setattr(stand_in, name, value)


def test_other_classes_are_refused_as_ever(tmp_path):
    torch.save({"where": tmp_path, "opt": argparse.Namespace(), "model": state()}, tmp_path / "last.pth")
    with pytest.raises(IntegrityError, match=r"is refused: .*GLOBAL pathlib"):
        convert(tmp_path / "last.pth", tmp_path / "out.safetensors")


@pytest.mark.parametrize(
    ("out", "code", "reason"),
    [
        ("out.pth", 2, "--out out.pth: weights are written to a file whose name ends in .safetensors"),
        ("there.safetensors", 2, "--out there.safetensors exists; delete it or choose another name"),
        ("nowhere/out.safetensors", 4, "nowhere/out.safetensors cannot be written: No such file or directory"),
    ],
)
def test_a_place_where_nothing_can_be_written_is_one_line(tmp_path, monkeypatch, capsys, out, code, reason):
    monkeypatch.chdir(tmp_path)
    last_file(Path("last.pth"))
    Path("there.safetensors").write_bytes(b"mine")
    assert main(["convert", "last.pth", "--out", out]) == code
    assert capsys.readouterr().err == f"kd-bench: {reason}\n"
    assert Path("there.safetensors").read_bytes() == b"mine"


def test_a_missing_file_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "nothing.pth", "--out", "out.safetensors"]) == 4
    assert capsys.readouterr().err == "kd-bench: nothing.pth: no such weight file\n"


def test_help_does_not_wait_for_torch():
    program = (
        "import sys\nfrom kd_bench.cli.main import main\ntry:\n    main(['convert', '--help'])\nexcept SystemExit:\n"
        "    print(sorted({'torch', 'timm', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("example:\n  kd-bench convert resnet8_last.pth --out resnet8.safetensors\n[]\n")
