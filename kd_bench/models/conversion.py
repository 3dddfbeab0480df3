"""Conversion of files that torch refuses because of what stands beside the weights."""

from pathlib import Path
from typing import Any

import torch

from kd_bench.errors import ConfigError
from kd_bench.models.weights import NAMESPACE, read_weights, save_tensors, weights_sha256


class Nothing:
    """Stand-in for ``argparse.Namespace`` that drops what it is given.

    No code of the file can run: torch's restricted unpickler imports nothing, it looks names up in a table and refuses
    those that are not there. This class adds one name, bound to itself and not to the real class. The unpickler can do
    three things with it: ``__new__``, which is ``object``'s and takes no arguments; calling it, which is the same; and
    ``__setstate__``, which is below. With neither ``__dict__`` nor slots it keeps nothing of the file, and it cannot be
    given another class, whose instances would have another layout. The content of the namespace is read by the same
    rules: anything there that is not plain is refused as everywhere else.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def convert(source: Path, out: Path) -> str:
    """Write the weights of ``source``, and nothing else of it, to the safetensors file ``out``.

    Returns:
        A line that says what was written.

    Raises:
        ConfigError: ``out`` exists, or its name does not end in ``.safetensors``.
        IntegrityError: ``source`` holds no weights, or things that are neither plain nor an ``argparse.Namespace``.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: weights are written to a file whose name ends in .safetensors")
    if out.exists():
        raise ConfigError(f"--out {out} exists; delete it or choose another name")
    with torch.serialization.safe_globals([(Nothing, NAMESPACE)]):
        weights = read_weights(source)
    save_tensors(weights, out)
    return f"{out}: {len(weights)} tensors, sha256 {weights_sha256(weights)}"
