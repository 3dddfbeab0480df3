"""Weights: hashed, read without running code, loaded strictly."""

import hashlib
import re
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from kd_bench.config.files import write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.models.key_maps import in_own_names, student_of

_WRAPPERS = ("state_dict", "model")  # keys under which training scripts store the weights
_PREFIXES = ("module.", "_orig_mod.")  # what data-parallel and compiled modules put before each key
_COUNTER = ".num_batches_tracked"
_LISTED = 5  # names in an error; the rest is counted
_NONE = torch.empty(0, 0, 0)  # has the shape of no weights
NAMESPACE = "argparse.Namespace"


def weights_sha256(state: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())  # numpy has no bfloat16
    return digest.hexdigest()


def combined_sha256(hashes: Sequence[str]) -> str:
    """Combine the hashes of a teacher's networks as records do: the one hash, or that of the hashes of all members."""
    return hashes[0] if len(hashes) == 1 else hashlib.sha256(" ".join(hashes).encode()).hexdigest()


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write a safetensors file, atomically."""
    write_atomically(path, as_bytes(tensors))


def as_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return the content of a safetensors file, in which tied weights stand several times."""
    content: bytes = save({name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()})
    return content


def read_plain(path: Path) -> Any:
    """Read a safetensors file or a file of ``torch.save``, never running code from it.

    Raises:
        IntegrityError: the file is missing, damaged, or holds anything but plain data.
    """
    if not path.is_file():
        raise IntegrityError(f"{path}: no such weight file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _refuse_bomb(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise whatever it likes
        raise IntegrityError(f"{path} is refused: {_first_line(error)}{_way_out(path, error)}") from error


def _refuse_bomb(path: Path) -> None:
    """Refuse archives that unpack to more than the file, which torch never writes and which could fill the memory."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if compressed := [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]:
        raise IntegrityError(f"its entry {shown(compressed[0])} is compressed, which torch never does")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise IntegrityError("its entries claim more bytes than the file has")


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dictionary, without what training scripts wrap around it.

    A file of mdistiller that holds a whole distillation gives the student's weights.

    Raises:
        IntegrityError: as for ``read_plain``, or there are no weights in the file.
    """
    content = read_plain(path)
    # Attributes of an OrderedDict or a tensor come from the file too; unbound methods do not look at them.
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(dict.get(content, wrapper), dict):
            content = dict.get(content, wrapper)
    if not isinstance(content, dict) or not content or not all(map(_is_entry, dict.items(content))):
        raise IntegrityError(f"{path} holds no state dictionary (names to tensors)")
    weights = {_without_prefixes(name): Tensor.detach(tensor) for name, tensor in dict.items(content)}
    if len(weights) != len(content):
        raise IntegrityError(f"{path} holds several tensors of one name, with and without {' or '.join(_PREFIXES)}")
    for name, tensor in weights.items():
        if defect := _defect(tensor):
            raise IntegrityError(f"{path} is refused: {shown(name)} {defect}")
    return student_of(weights)


def _is_entry(entry: tuple[Any, Any]) -> bool:
    name, tensor = entry
    return isinstance(name, str) and name.isprintable() and isinstance(tensor, Tensor)


def _defect(tensor: Tensor) -> str:
    """Say why a tensor cannot be weights; empty if it can."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized or tensor.is_complex() or tensor.is_nested:
        return "is no plain tensor of real numbers"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"claims {tensor.numel()} values, more than the file holds"
    return ""


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> list[str]:
    """Load ``state`` into ``module``; every name and shape must fit.

    Names of other projects are translated (see ``key_maps``). Counters of batches, which torch before 0.4.1 did not
    have and which no output depends on, become 0 where they are missing.

    Returns:
        Lines for people, one for each thing that was done beyond copying.

    Raises:
        IntegrityError: entries are missing, unexpected, misshapen or not finite; the message lists them.
    """
    translated, notes = in_own_names(state, module, origin)
    own = module.state_dict()
    counters = sorted(name for name in own.keys() - translated.keys() if name.endswith(_COUNTER))
    if counters:
        notes.append(f"{origin} lacks num_batches_tracked of {len(counters)} batch norms; they count from 0")
    translated |= {name: torch.zeros_like(own[name]) for name in counters}
    if classes := _other_classes(module, own, translated):
        raise IntegrityError(
            f"{origin} has a head for {classes[0]} classes, the data set has {classes[1]}. As a teacher it has to be "
            f"fine-tuned first, which this does: teacher.checkpoint=auto teacher.init={shlex.quote(origin)} "
            "+recipe@teacher.overrides.recipe=finetune"
        )
    if problems := _misfits(own, translated):
        raise IntegrityError(f"{origin} does not fit the network: {'; '.join(problems)}")
    if broken := [name for name in own if _breaks(own[name], translated[name])]:
        raise IntegrityError(f"{origin} is refused: NaN or infinite values in {_listed(broken)}")
    module.load_state_dict(translated)
    return notes


def load_start(module: nn.Module, state: Mapping[str, Tensor], origin: str) -> list[str]:
    """Load ``state`` into ``module`` but for the head, which stays as it was drawn, whatever its classes.

    Returns, Raises:
        as ``load_strictly``.
    """
    translated, notes = in_own_names(state, module, origin)
    heads = tuple(f"{name}." for name in _heads(module))
    body = {name: tensor for name, tensor in translated.items() if not name.startswith(heads)}
    head = {name: tensor for name, tensor in module.state_dict().items() if name.startswith(heads)}
    return notes + load_strictly(module, body | head, origin)


def _heads(module: nn.Module) -> list[str]:
    """Return the names of a network's classifiers, as timm gives them or as the network itself does."""
    described = getattr(module, "pretrained_cfg", None) or {}
    if named := described.get("classifier"):
        return [named] if isinstance(named, str) else list(named)
    head = module.get_classifier() if hasattr(module, "get_classifier") else None  # type: ignore[operator]
    return [name for name, part in module.named_modules() if part is head and head is not None]


def start_sha256(key: str, file: str, expected: str | None) -> str:
    """Hash the weights that ``key`` names as a start.

    Raises:
        IntegrityError: there is no such file, or its content is not what was expected.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise IntegrityError(f"{key}={file!r}: no such weight file; `timm` starts from timm's weights")
    status = path.stat()
    found = _hashed(path, status.st_mtime_ns, status.st_size)
    if expected not in (None, found):
        raise IntegrityError(f"{key}={file!r}: its weights have the sha256 {found}, {key}_sha256 says {expected}")
    return found


@lru_cache(maxsize=64)  # a study asks for each of its runs
def _hashed(path: Path, changed: int, size: int) -> str:
    return weights_sha256(read_weights(path))


def _other_classes(module: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> tuple[int, int] | None:
    """Return the numbers of classes of the file and of the network where nothing but the head does not fit."""
    head = module.get_classifier() if hasattr(module, "get_classifier") else None  # type: ignore[operator]
    path = next((name for name, part in module.named_modules() if part is head), None)
    unfit = {name for name in own.keys() | state.keys() if own.get(name, _NONE).shape != state.get(name, _NONE).shape}
    if f"{path}.weight" not in unfit or not unfit <= {f"{path}.weight", f"{path}.bias"}:
        return None
    return len(state[f"{path}.weight"]), len(own[f"{path}.weight"])


def _misfits(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    both = sorted(own.keys() & state.keys())
    misshapen = [
        f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}"
        for name in both
        if own[name].shape != state[name].shape
    ]
    mistyped = [
        f"{name} {state[name].dtype} for {own[name].dtype}"
        for name in both
        if own[name].is_floating_point() and not state[name].is_floating_point()
    ]
    lists = {
        "missing": sorted(own.keys() - state.keys()),
        "unexpected": sorted(state.keys() - own.keys()),
        "other shape": misshapen,
        "other type": mistyped,
    }
    return [f"{what}: {_listed(names)}" for what, names in lists.items() if names]


def _breaks(own: Tensor, loaded: Tensor) -> bool:
    """Return whether ``loaded`` has values that are not finite where the network has none: some masks are infinite."""
    return bool(loaded.float().isfinite().logical_not().any()) and bool(own.float().isfinite().all())


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _LISTED
    return ", ".join(shown(name) for name in names[:_LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _without_prefixes(name: str) -> str:
    while name.startswith(_PREFIXES):
        name = name.partition(".")[2]
    return name


def _first_line(error: Exception) -> str:
    """Shorten what torch says of an unsafe file to the telling line, which names the global."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "GLOBAL" in line or "Unsupported" in line]
    line = (telling or lines or [""])[0]
    stumbled = isinstance(error, LookupError | EOFError | ValueError | TypeError | AttributeError)
    if (
        stumbled or " " not in line or re.fullmatch(r"Unsupported operand \d+", line)
    ):  # over a byte or a key that the unpickler did not expect
        line = f"damaged, or no file of torch.save ({type(error).__name__} {line})"
    return shown(line.partition(" Please use ")[0], 400)  # its advice is to trust the file


def _way_out(path: Path, error: Exception) -> str:
    """Say how to convert RepDistiller's ``_last`` files, whose command line keeps torch from reading them."""
    if f"GLOBAL {NAMESPACE} " not in str(error):
        return ""
    source, out = shlex.quote(str(path)), shlex.quote(f"{path.stem}.safetensors")
    return f" Take the weights out, without running code, by: kd-bench convert {source} --out {out}"


def shown(text: str, length: int = 100) -> str:
    """Make a text of an unknown file fit for one line on a terminal."""
    printable = text if text.isprintable() else repr(text)
    return printable if len(printable) <= length else f"{printable[:length]}..."
