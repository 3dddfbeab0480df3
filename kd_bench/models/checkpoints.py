"""Weights: hashed, read without running code, loaded strictly."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd_bench.errors import IntegrityError
from kd_bench.runs.files import write_atomically

_WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the weights
_PREFIXES = ("module.", "_orig_mod.")  # what data-parallel and compiled modules put before each key


def file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash of names, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file, atomically. Tied weights are written out each."""
    write_atomically(path, save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}))


def read_plain(path: Path) -> Any:
    """The content of a safetensors file or of a file of ``torch.save``, never running code from it.

    Raises:
        IntegrityError: missing, damaged, or holding anything but plain data.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: no such weight file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise whatever it likes
        raise IntegrityError(f"{path} is refused: {_first_line(error)}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary, without what training scripts wrap around it.

    Raises:
        IntegrityError: as ``read_plain``, or there are no weights in the file.
    """
    content = read_plain(path)
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(map(_is_entry, content.items())):
        raise IntegrityError(f"{path} holds no state dictionary (names to tensors)")
    return {_without_prefixes(name): tensor for name, tensor in content.items()}


def _is_entry(entry: tuple[Any, Any]) -> bool:
    name, tensor = entry
    return isinstance(name, str) and isinstance(tensor, Tensor)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> None:
    """Load ``state`` into ``module``; every name and shape must fit.

    Raises:
        IntegrityError: lists the missing, unexpected and misshapen entries.
    """
    own = module.state_dict()
    missing, extra = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    misshapen = [
        f"{k} {tuple(state[k].shape)} for {tuple(own[k].shape)}"
        for k in own.keys() & state.keys()
        if own[k].shape != state[k].shape
    ]
    problems = [
        f"{what}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}"
        for what, names in (("missing", missing), ("unexpected", extra), ("other shape", sorted(misshapen)))
        if names
    ]
    if problems:
        raise IntegrityError(f"{origin} does not fit the network: {'; '.join(problems)}")
    module.load_state_dict(dict(state))


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _first_line(error: Exception) -> str:
    """What torch says of an unsafe file is long; its telling line names the global."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    return (telling or lines or [type(error).__name__])[0]
