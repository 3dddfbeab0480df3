"""Values in the grammar of Hydra's overrides."""

import re
from collections.abc import Mapping
from typing import Any

from kd_bench.config.composition import quoted
from kd_bench.errors import ConfigError

_DICTIONARY_KEY = re.compile(r"[A-Za-z_][\w.]*")
_WORD = re.compile(r"[A-Za-z_][\w./-]*")  # a text that needs no quotes
_OTHER_VALUES = ("null", "true", "false", "nan", "inf")


def literal(value: Any) -> str:
    """Write a value in the grammar of Hydra's overrides.

    Raises:
        ConfigError: a dictionary with a key that the grammar has no way to write.
    """
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, Mapping):
        if odd := [key for key in value if not _DICTIONARY_KEY.fullmatch(key)]:
            raise ConfigError(f"{odd[0]!r}: is no key that an override can name")
        return "{" + ",".join(f"{key}:{literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(literal, value)) + "]"
    if isinstance(value, str):
        plain = _WORD.fullmatch(value) and value.lower() not in _OTHER_VALUES
        return value if plain else quoted(value)
    return repr(value)
