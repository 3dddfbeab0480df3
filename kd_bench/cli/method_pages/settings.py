"""Hyperparameters of a choice of ``conf/method``: values and comments as in its file, ranges as they are checked."""

import inspect
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from hydra.utils import get_class
from pydantic import TypeAdapter

from kd_bench.cli.method_pages.docstrings import docstring
from kd_bench.config.composition import file_of

_KINDS = {
    "integer": "integer",
    "number": "number",
    "string": "text",
    "boolean": "``true`` or ``false``",
    "null": "null",
}
_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


class Written(NamedTuple):
    """A value of a file and the comment above or beside it."""

    value: str
    comment: str


class Hyperparameter(NamedTuple):
    """A key below ``method``, its ``meaning`` by the class and the ``note`` that stands in the file."""

    name: str
    default: str
    allowed: str
    meaning: str
    note: str


def header(choice: str) -> str:
    """Return the comment at the top of the file."""
    lines = _text(choice).splitlines()
    return _joined(lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))])


def taken_over(choice: str) -> dict[str, str]:
    """Return the choices that the file builds on by place: ``""`` for a variant, ``terms.kd`` for a part."""
    defaults = yaml.safe_load(_text(choice)).get("defaults", [])
    entries = [entry.partition("@") for entry in defaults if entry != "_self_"]
    return {place: base for base, _, place in entries}


def written(choice: str) -> dict[str, Written]:
    """Return every value by its dotted key: those of the file over those of the files that it builds on."""
    found = {
        ".".join(filter(None, [place, key])): value
        for place, base in taken_over(choice).items()
        for key, value in written(base).items()
    }
    text = _text(choice)
    return found | dict(_leaves(yaml.compose(text), text.splitlines()))


def hyperparameters(choice: str) -> list[Hyperparameter]:
    """List the hyperparameters of the class, or of the classes of a combination's parts."""
    values = written(choice)
    targets = {key.removesuffix("_target_"): value.value for key, value in values.items() if key.endswith("_target_")}
    if len(targets) > 1:
        del targets[""]
    return [row for prefix, target in targets.items() for row in _of_class(prefix, get_class(target), values)]


def _of_class(prefix: str, target: type, values: dict[str, Written]) -> Iterator[Hyperparameter]:
    meanings = docstring(target).arguments
    for name, parameter in inspect.signature(target, eval_str=True).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        key = prefix + name
        value, note = values[key] if key in values else Written(json.dumps(parameter.default), "")
        yield Hyperparameter(key, value, allowed(parameter.annotation), meanings.get(name, ""), note)


def allowed(annotation: Any) -> str:
    """Say in words what a parameter of this type accepts."""
    return _words(TypeAdapter(annotation).json_schema())


def _words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return " or ".join(f"``{value}``" for value in schema["enum"])
    if "prefixItems" in schema:
        return f"[{', '.join(map(_words, schema['prefixItems']))}]"
    if schema["type"] == "array":
        least = f", at least {schema['minItems']}" if "minItems" in schema else ""
        return f"list of {_words(schema['items'])}{least}"
    bounds = ", ".join(f"{sign} {schema[name]}" for name, sign in _BOUNDS.items() if name in schema)
    return f"{_KINDS[schema['type']]} {bounds}".rstrip()


def _leaves(node: Any, lines: list[str], key: str = "") -> Iterator[tuple[str, Written]]:
    """Yield the values below a node of YAML's tree, with the comments around them in the file's lines."""
    for name, child in node.value:
        if name.value == "defaults":
            continue
        path = f"{key}.{name.value}" if key else name.value
        if child.id == "mapping" and child.value:
            yield from _leaves(child, lines, path)
        else:
            line, start, end = child.start_mark.line, child.start_mark.column, child.end_mark.column
            comment = _joined([*_above(lines, line), lines[line][end:].strip()])
            yield path, Written(lines[line][start:end], comment)


def _above(lines: list[str], line: int) -> list[str]:
    """Return the comment lines right above a line, unless they are the header of the file."""
    first = line
    while first > 0 and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return lines[first:line] if first > 0 else []


def _joined(comments: list[str]) -> str:
    return " ".join(comment.lstrip("# ") for comment in comments if comment)


def _text(choice: str) -> str:
    return file_of("method", choice).read_text(encoding="utf-8")
