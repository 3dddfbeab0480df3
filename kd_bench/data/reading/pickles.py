"""Pickled dictionaries of lists and byte arrays, as Python 2 and numpy wrote CIFAR's files, read without running code.

A pickle is a program that may call whatever it names. Here it can name only what such an array needs, and even those
names lead to the inert stand-ins below: no function of numpy is called with what a file says.
"""

import io
import pickle
import pickletools
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_bench.errors import IntegrityError

Bytes = npt.NDArray[np.uint8]


class _Dtype:
    """Stand-in for ``numpy.dtype``: only unsigned bytes pass."""

    def __init__(self, code: Any, *_: Any) -> None:
        if code not in (b"u1", "u1", b"|u1", "|u1"):
            raise ValueError(f"it holds an array of {code!r}, not of bytes")

    def __setstate__(self, state: Any) -> None:
        """Ignore byte order and fields, which single bytes do not have."""


class _Array:
    """Stand-in for ``numpy.ndarray``; ``value`` is the array once its state is set."""

    value: Bytes | None = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes):
            raise ValueError("it holds an array that is not made of bytes")
        self.value = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _new_array(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    """Encode text as bytes, which is the way that Python 3 pickles bytes for Python 2."""
    if encoding != "latin1":
        raise ValueError(f"it holds text in the encoding {encoding!r}")
    return text.encode("latin1")


_GLOBALS = {
    "numpy.core.multiarray._reconstruct": _new_array,
    "numpy._core.multiarray._reconstruct": _new_array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Dtype,
    "_codecs.encode": _encode,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _GLOBALS[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no such file needs") from None


def read_pickle(content: bytes, origin: str) -> dict[str, Any]:
    """Read the dictionary that a file holds; byte strings are kept, arrays are numpy's, keys are text.

    Args:
        origin: the file, for error messages.

    Raises:
        IntegrityError: the file is damaged, or names anything but a byte array.
    """
    try:
        _check_memo(content)
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged file makes the unpickler raise whatever it likes
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise IntegrityError(f"{origin} is refused: {reason}") from error
    if not isinstance(found, dict):
        raise IntegrityError(f"{origin} is refused: it holds no dictionary")
    return {_text(key): value.value if isinstance(value, _Array) else value for key, value in found.items()}


def _check_memo(content: bytes) -> None:
    """Refuse numbers of remembered values that are larger than any honest one: the unpickler makes room for all below.

    Raises:
        ValueError: the file has such a number, or is damaged.
    """
    for opcode, number, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and isinstance(number, int) and number > len(content):
            raise ValueError(f"it remembers a value under the number {number}")


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)
