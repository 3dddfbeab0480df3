"""Texts from records are written by anyone: what shows them safely in a terminal, Markdown, CSV and HTML."""

import html
import re
import unicodedata

ELLIPSIS = "…"
# Control characters, formats such as the right-to-left override, surrogates, private use, line separators.
HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# A spreadsheet runs a cell that starts with one of these; the last four are their full-width forms.
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def visible(text: str, limit: int | None = None) -> str:
    """One line in which every character can be seen: hidden ones as ``\\n`` or ``\\u202e``, cut to ``limit``."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    return "".join(_escaped(character) if _hidden(character) else character for character in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in HIDDEN_CATEGORIES


def _escaped(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return short or (f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}")


def for_markdown(text: str, limit: int | None = None) -> str:
    """Text of a Markdown table cell, heading or paragraph that renders as itself."""
    escaped = re.sub(r"([\\`*_\[\]|~#$@])", r"\\\1", visible(text, limit))
    return re.sub(r"[&<>]", lambda match: MARKDOWN_ENTITIES[match.group()], escaped)


def for_csv(text: str) -> str:
    """Text of a CSV cell that no spreadsheet takes for a formula: a leading apostrophe where it might."""
    shown = visible(text)
    return "'" + shown if text.lstrip(" ").startswith(FORMULA_STARTS) or shown.startswith(FORMULA_STARTS) else shown


def for_html(text: str, limit: int | None = None) -> str:
    """Text of an HTML element or of a quoted attribute."""
    return html.escape(visible(text, limit), quote=True)
