"""JSON data as bytes, by which results are kept: thousands of records have the same few parts."""

import marshal
from typing import Any


def packed(value: Any) -> bytes:
    """Return bytes that differ for different data: 1, 1.0 and true do, as the order of keys does; NaN is itself."""
    return marshal.dumps(value, 2)  # in later formats the bytes depend on who else holds a text


def unpacked(content: bytes) -> Any:
    """Return the data that this process packed."""
    return marshal.loads(content)  # noqa: S302


def packed_cell(config: dict[str, Any]) -> bytes:
    """Pack a configuration with the seed 0: the seeds of a cell differ in nothing else, and are many."""
    return packed({**config, "seed": 0} if has_plain_seed(config) else config)


def has_plain_seed(config: dict[str, Any]) -> bool:
    """Tell whether the seed is one that a configuration may have."""
    seed = config.get("seed")
    return type(seed) is int and 0 <= seed < 2**63
