"""Take the weights out of files that torch refuses for what stands beside them."""

from pathlib import Path
from typing import Any

import torch

from kd_bench.errors import ConfigError
from kd_bench.models.weights import NAMESPACE, read_weights, save_tensors, weights_sha256


class Nothing:
    """Stands in for ``argparse.Namespace`` and drops what it is given.

    Why no code of the file can run: torch's restricted unpickler imports nothing, it looks names up in a table and
    refuses those that are not there. This adds one name, bound not to the real class but to this one. The unpickler can
    do three things with it: ``__new__``, which is ``object``'s and takes no arguments; calling it, which is the same;
    and ``__setstate__``, which is below. With neither ``__dict__`` nor slots it keeps nothing of the file, and it
    cannot be given another class, whose instances would have another layout. What stands within the namespace is read
    by the same rules: anything there that is not plain is refused as everywhere else.
    """

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        pass


def convert(source: Path, out: Path) -> str:
    """Write the weights of ``source``, and nothing else of it, to the safetensors file ``out``.

    Returns:
        One line that says what was written.

    Raises:
        ConfigError: ``out`` exists, or its name does not end in ``.safetensors``.
        IntegrityError: ``source`` holds no weights, or something that is neither plain nor an ``argparse.Namespace``.
    """
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out {out}: weights are written to a file whose name ends in .safetensors")
    if out.exists():
        raise ConfigError(f"--out {out} exists; delete it or choose another name")
    with torch.serialization.safe_globals([(Nothing, NAMESPACE)]):
        weights = read_weights(source)
    save_tensors(weights, out)
    return f"{out}: {len(weights)} tensors, sha256 {weights_sha256(weights)}"
