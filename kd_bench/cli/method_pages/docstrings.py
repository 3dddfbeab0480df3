"""Docstrings as Markdown."""

import inspect
import re
from typing import Any, NamedTuple

from kd_bench.results.text.escape import for_markdown

_SECTION = re.compile(r"(Args|Returns|Raises|Attributes):")


class Docstring(NamedTuple):
    """A docstring: its text without sections, the meaning of each argument, and what is returned ("" if unsaid)."""

    paragraphs: list[str]
    arguments: dict[str, str]
    returns: str


def docstring(documented: Any) -> Docstring:
    """Take apart the docstring of a module, class or function; each paragraph becomes one line."""
    sections: dict[str, list[str]] = {"": []}
    lines = sections[""]
    for line in inspect.cleandoc(documented.__doc__ or "").splitlines():
        if match := _SECTION.fullmatch(line):
            lines = sections[match[1]] = []
        else:
            lines.append(line)
    blocks = "\n".join(sections[""]).split("\n\n")
    paragraphs = [" ".join(block.split()) for block in blocks if block.strip()]
    returns = " ".join(" ".join(sections.get("Returns", [])).split())
    return Docstring(paragraphs, _arguments(sections.get("Args", [])), returns)


def _arguments(lines: list[str]) -> dict[str, str]:
    """Read ``one, other: meaning`` as the meaning of both; lines that are indented further continue the one before."""
    entries: list[str] = []
    for line in filter(None, lines):
        if line.startswith("     "):
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(line.strip())
    named = [entry.partition(": ") for entry in entries]
    return {name: meaning for names, _, meaning in named for name in names.split(", ")}


def markdown(text: str, cell: bool = False) -> str:
    """Write text with ``code`` in it as a paragraph, or as a cell of a table, where a bar would end the cell."""
    parts = re.split(r"(``.+?``)", text)
    parts[::2] = [for_markdown(part) for part in parts[::2]]
    if cell:
        parts[1::2] = [part.replace("|", "\\|") for part in parts[1::2]]
    return "".join(parts)
