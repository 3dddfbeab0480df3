"""Memory of a prediction, counted instead of sampled: the same number on every machine and in every process."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, UntypedStorage
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_activation_bytes(call: Callable[[], Any]) -> int:
    """Return the most bytes of tensors made within ``call`` that are alive at one time.

    Weights and inputs exist before and do not count, nor does what an operation needs while it runs.
    """
    counted = _Counted()
    with torch.inference_mode(), counted:
        call()
    return counted.peak


class _Counted(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that follows the storages that operations return, from their creation to their end."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._follow(tensor.untyped_storage(), given)
        self.peak = max(self.peak, self.alive)
        return result

    def _follow(self, storage: UntypedStorage, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in given:
            return
        self._known.add(key)
        self.alive += size
        weakref.finalize(storage, self._ended, key, size)

    def _ended(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.alive -= size
