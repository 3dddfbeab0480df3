"""The exact cache of teacher outputs: computed by whichever run comes first, read by all others, bit for bit.

Order and augmentation are functions of (seed, epoch, sample), so runs with the same teacher, data, augmentation and
seed show the teacher the very same batches. A store holds what the teacher gave for them, in blocks of steps. A block
has the hash of its content in its header: a torn one is computed again. Nothing here changes a number.
"""

import hashlib
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kd_bench.errors import IntegrityError
from kd_bench.models.features import Outputs
from kd_bench.results.text.formats import size

FORMAT = 1  # of keys and blocks; a new one leaves old stores unread
CACHE_FOLDER = "cache"  # in the folder of runs
KEY_FILE = "key.json"
BLOCK_BYTES = 16 << 20
HELD_OUT = "held_out.safetensors"


def write_block(path: Path, tensors: Mapping[str, Tensor], seconds: float) -> None:
    """Write a block: a safetensors file with the hash of its tensors. It is not flushed to the disk.

    Args:
        tensors: those in memory format channels_last keep it.
        seconds: what computing them took.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    last = [name for name, tensor in tensors.items() if _channels_last(tensor)]
    plain = {name: (t.permute(0, 2, 3, 1) if name in last else t).contiguous() for name, t in tensors.items()}
    header = {"sha256": _sha256(plain), "channels_last": json.dumps(last), "seconds": repr(seconds)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(save(plain, header))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_block(path: Path) -> tuple[dict[str, Tensor], float]:
    """Return the tensors of a block and the seconds that computing them took.

    Raises:
        IntegrityError: the file is missing, torn or altered.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        last, seconds = json.loads(header["channels_last"]), float(header["seconds"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise IntegrityError(f"{path}: cannot be read: {error}") from error
    if _sha256(tensors) != header["sha256"]:
        raise IntegrityError(f"{path}: its content is not that of its hash")
    return {name: t.permute(0, 3, 1, 2) if name in last else t for name, t in tensors.items()}, seconds


def _channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.permute(0, 2, 3, 1).is_contiguous()


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)};".encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@dataclass(frozen=True)
class Store:
    """A folder with the outputs of one teacher for one sequence of batches.

    Attributes:
        folder: of all stores.
        key: everything that the outputs are a function of; its hash names the store.
    """

    folder: Path
    key: dict[str, Any]

    @property
    def directory(self) -> Path:
        """The folder of the store."""
        text = json.dumps({"format": FORMAT, **self.key}, sort_keys=True, allow_nan=False)
        return self.folder / hashlib.sha256(text.encode()).hexdigest()[:16]

    def used(self) -> None:
        """Make the folder if need be, and note that it is in use."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / KEY_FILE
        if path.exists():
            os.utime(path)
        else:
            temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            temporary.write_text(json.dumps({"format": FORMAT, **self.key}, indent=1, sort_keys=True))
            temporary.replace(path)

    def remembered(self, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        """Return outputs for images that are not augmented, which are computed where the store does not have them."""
        path = self.directory / HELD_OUT
        try:
            return read_block(path)[0]
        except IntegrityError:
            started = time.perf_counter()
            tensors = compute()
        try:
            self.used()
            write_block(path, tensors, time.perf_counter() - started)
        except OSError as error:
            warnings.warn(f"teacher outputs are not kept: {path} cannot be written: {error}", stacklevel=2)
        return tensors


@dataclass
class TeacherCache:
    """Outputs of a frozen teacher in the course of a run: read where its store has them, else computed and kept.

    Attributes:
        step_bytes: size of what a step of the full batch size adds.
        stages: whether stage maps are kept too.
        writes: whether there is room for more.
        seconds_saved: what computing the outputs that were read took.
    """

    store: Store
    step_bytes: int
    stages: bool
    writes: bool = True
    seconds_saved: float = 0.0
    _epoch: int = -1
    _steps: int = 0
    _block: int = -1
    _found: dict[str, Tensor] | None = None
    _kept: dict[str, Tensor] = field(default_factory=dict)
    _seconds: float = 0.0
    _lock: FileLock | None = None

    def begin(self, epoch: int, steps: int) -> None:
        """Go to the start of an epoch of ``steps`` steps."""
        self.close()
        self._epoch, self._steps, self._block = epoch, steps, -1
        try:
            self.store.used()
            if self.writes:
                lock = FileLock(self.store.directory / ".lock", thread_local=False)
                lock.acquire(timeout=0)
                self._lock = lock
        except Timeout:
            pass  # another run writes this epoch; this one computes what is not there yet
        except OSError as error:
            self._give_up(error)

    def outputs(self, step: int, images: Tensor, compute: Callable[[Tensor], Outputs]) -> Outputs:
        """Return the outputs for the images of a step of the epoch. Steps come in order.

        Args:
            compute: runs the teacher on them.
        """
        per_block = max(1, BLOCK_BYTES // self.step_bytes)
        if step // per_block != self._block:
            self._turn(step // per_block)
        if self._found is not None:
            return unpacked(self._found, f"{step}.", images.device)
        started = time.perf_counter()
        outputs = compute(images)
        self._seconds += time.perf_counter() - started
        if self._lock is not None:
            self._kept |= packed(outputs, f"{step}.", self.stages)
            if step + 1 == self._steps or (step + 1) % per_block == 0:
                self._keep()
        return outputs

    def _path(self) -> Path:
        return self.store.directory / f"{self._epoch:05d}-{self._block:05d}.safetensors"

    def _turn(self, block: int) -> None:
        """Go to a block: read it if it is there."""
        self._block, self._found, self._kept, self._seconds = block, None, {}, 0.0
        if not self._path().exists():
            return
        try:
            self._found, seconds = read_block(self._path())
            self.seconds_saved += seconds
        except IntegrityError as error:
            warnings.warn(f"{error}; it is computed again", stacklevel=2)

    def _keep(self) -> None:
        """Write the block that was computed."""
        try:
            write_block(self._path(), self._kept, self._seconds)
        except OSError as error:
            self._give_up(error)
        self._kept = {}

    def _give_up(self, error: OSError) -> None:
        self.writes = False
        warnings.warn(f"teacher outputs are not kept: {self.store.directory}: {error}", stacklevel=2)
        self.close()

    def taken(self) -> float:
        """Return the seconds saved since the last call."""
        seconds, self.seconds_saved = self.seconds_saved, 0.0
        return seconds

    def close(self) -> None:
        """Let other runs write."""
        self._found, self._kept = None, {}
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def packed(outputs: Outputs, prefix: str, stages: bool) -> dict[str, Tensor]:
    """Return copies of outputs as named tensors on the CPU, those of an ensemble's members included."""
    tensors = {"logits": outputs.logits, "embedding": outputs.embedding}
    tensors |= {f"stage.{i}": stage for i, stage in enumerate(outputs.stages if stages else ())}
    copies = {f"{prefix}{name}": tensor.detach().clone().cpu() for name, tensor in tensors.items()}
    for i, member in enumerate(outputs.members or ()):
        copies |= packed(member, f"{prefix}member.{i}.", stages)
    return copies


def unpacked(tensors: Mapping[str, Tensor], prefix: str, device: torch.device) -> Outputs:
    """Return the outputs that ``packed`` made these tensors of; they have no stages before the last ReLU."""

    def numbered(name: str, last: str = "") -> Iterator[str]:
        number = 0
        while f"{prefix}{name}.{number}{last}" in tensors:
            yield f"{prefix}{name}.{number}"
            number += 1

    def fresh(name: str) -> Tensor:  # a mapped file is not aligned as torch's memory is, which may change last digits
        return tensors[name].clone().to(device)

    stages = [fresh(name) for name in numbered("stage")]
    members = [unpacked(tensors, f"{name}.", device) for name in numbered("member", ".logits")]
    return Outputs(fresh(f"{prefix}logits"), stages, fresh(f"{prefix}embedding"), None, members or None)


def make_room(folder: Path, kept: Path, needed: int, limit: int) -> bool:
    """Delete the stores that were not used for longest until ``needed`` bytes fit; say whether they do.

    Nothing is deleted where they never can.

    Args:
        kept: the store that they are for, which stays.
        limit: of all stores together, in bytes.
    """
    if needed > limit:
        return False
    sizes = {path: size_of(path) for path in stores(folder)}
    needed -= sizes.get(kept, 0)
    for path in sorted(sizes.keys() - {kept}, key=last_used):
        if sum(sizes.values()) + needed <= limit:
            break
        remove(path)
        del sizes[path]
    return sum(sizes.values()) + needed <= limit


def stores(folder: Path) -> list[Path]:
    """Return the folders of all stores."""
    return sorted(path.parent for path in folder.glob(f"*/{KEY_FILE}"))


def size_of(store: Path) -> int:
    """Return the bytes of a store's blocks."""
    return sum(path.stat().st_size for path in store.glob("*.safetensors"))


def last_used(store: Path) -> float:
    """Return when a store was last used, in seconds since 1970."""
    return (store / KEY_FILE).stat().st_mtime


def remove(store: Path) -> None:
    """Delete a store. A run that reads it keeps the block that it has open, and computes what is gone."""
    shutil.rmtree(store, ignore_errors=True)


def damaged_blocks(store: Path) -> Iterator[Path]:
    """Yield the blocks of a store whose content is not that of their hash."""
    for path in sorted(store.glob("*.safetensors")):
        try:
            read_block(path)
        except IntegrityError:
            yield path


def describe(store: Path) -> str:
    """Return a line on a store: its id, teacher, data, seed, epochs, size and last use."""
    try:
        key = json.loads((store / KEY_FILE).read_text(encoding="utf-8"))
        names = f"{key['teacher'][0]} on {key['dataset'][0]['num_classes']} classes"
        names += f", seed {key['seed']}" if "seed" in key else ", held-out images"
    except (OSError, ValueError, LookupError, TypeError):
        names = "key.json is damaged"
    epochs = len({path.name[:5] for path in store.glob("*-*.safetensors")})
    used = datetime.fromtimestamp(last_used(store)).isoformat(" ", "minutes")
    return f"{store.name}  {names}, {epochs} epochs, {size(size_of(store))}, last used {used}"
