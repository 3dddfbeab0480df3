"""The step at which a run diverged: its batch, the weights and the generator, so that it can be replayed.

On a CPU every step is looked at, and the weights are those before the step. On GPUs and with several processes, which
would wait for it, the loss is looked at every ``trainer.log_every_n_steps`` steps, and the step is the last one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from kd_bench.config.files import write_atomically
from kd_bench.data.batch import Batch
from kd_bench.errors import IntegrityError
from kd_bench.methods.base import Progress

STEP_FILE = "diverged.safetensors"
LARGEST = 1 << 30  # bytes of the file; what would exceed it, such as memories of the training samples, is left out
_WEIGHTS = "weights/"
_BATCH = "batch/"


class Step(NamedTuple):
    """A step that was kept.

    Attributes:
        generator: state of torch's, on the CPU, before the step.
        weights: the module's state; without what was too large.
        epoch: counted from 0 over all stages.
        left_out: names of what was too large.
    """

    batch: Batch
    generator: Tensor
    weights: dict[str, Tensor]
    progress: Progress
    seed: int
    epoch: int
    pretraining: bool
    left_out: list[str]


def keep_step(
    directory: Path, batch: Batch, generator: Tensor, state: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> Path:
    """Write a step to the directory of its run; what is too large is left out and named.

    Args:
        batch: as the networks got it.
        facts: ``progress``, ``seed``, ``epoch`` and ``pretraining`` of a ``Step``.

    Raises:
        IntegrityError: the file cannot be written.
    """
    tensors = {_BATCH + name: value for name, value in batch._asdict().items() if value is not None}
    everything = {"generator": generator, **tensors, **{_WEIGHTS + name: value for name, value in state.items()}}
    kept, size = {}, 0
    for name, value in everything.items():
        if size + value.nbytes <= LARGEST:
            kept[name], size = value.detach().cpu().clone().contiguous(), size + value.nbytes
    left_out = [name for name in everything if name not in kept]
    path = directory / STEP_FILE
    write_atomically(path, save(kept, {"step": json.dumps({**facts, "left_out": left_out})}))
    return path


def read_step(path: Path) -> Step:
    """Read a step that was kept.

    Raises:
        IntegrityError: there is none, or the file is damaged.
    """
    try:
        with safe_open(path, "pt") as file:
            facts = json.loads(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no dictionary)
        batch = Batch(**{name.removeprefix(_BATCH): tensors[name] for name in tensors if name.startswith(_BATCH)})
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{path}: is no step of a run that diverged: {error}") from error
    weights = {name.removeprefix(_WEIGHTS): tensors[name] for name in tensors if name.startswith(_WEIGHTS)}
    progress = Progress(*facts.pop("progress"))
    return Step(batch=batch, generator=tensors["generator"], weights=weights, progress=progress, **facts)
