"""Escapes for texts from records, which anyone may have written: for a terminal, Markdown, CSV, HTML and LaTeX."""

import html
import re
import unicodedata
from functools import lru_cache

from kd_bench.config.characters import is_hidden

ELLIPSIS = "…"
MARKDOWN_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
# A spreadsheet runs a cell that starts with one of these; the last four are their full-width forms.
FORMULA_STARTS = tuple("=+-@\t\r\n＝＋－＠")


def visible(text: str, limit: int | None = None) -> str:
    """Make one line in which every character can be seen, hidden ones as ``\\n`` or ``\\u202e``, cut to ``limit``."""
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + ELLIPSIS
    if text.isprintable():  # nearly always, and much faster to find out
        return text
    return "".join(_escaped(character) if is_hidden(character) else character for character in text)


def _escaped(character: str) -> str:
    short = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character)
    return short or (f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}")


@lru_cache(maxsize=1 << 14)  # pages say the same things again and again
def for_markdown(text: str, limit: int | None = None) -> str:
    """Escape the text of a Markdown table cell, heading or paragraph, so that it renders as itself."""
    escaped = re.sub(r"([\\`*_\[\]|~#$@])", r"\\\1", visible(text, limit))
    return re.sub(r"[&<>]", lambda match: MARKDOWN_ENTITIES[match.group()], escaped)


def for_csv(text: str) -> str:
    """Escape the text of a CSV cell by a leading apostrophe where a spreadsheet might take it for a formula."""
    shown = visible(text)
    return "'" + shown if text.lstrip(" ").startswith(FORMULA_STARTS) or shown.startswith(FORMULA_STARTS) else shown


@lru_cache(maxsize=1 << 14)
def for_html(text: str, limit: int | None = None) -> str:
    """Escape the text of an HTML element or of a quoted attribute."""
    return html.escape(visible(text, limit), quote=True)


_LETTERS = {"ß": "ss", "æ": "ae", "Æ": "AE", "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i"}
LATEX_SPECIAL = {
    **{sign: f"\\{sign}" for sign in "{}#$%&_"},
    "\\": "\\textbackslash{}",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    '"': "{\\ttfamily\\char34}",
    "'": "{'}",  # in braces, or two become one sign
    "`": "{`}",
    "-": "{-}",  # two of them would become a dash
    "–": "--",
    "−": "$-$",
    "±": "$\\pm$",
    "≤": "$\\leq$",
    "Δ": "$\\Delta$",
    "κ": "$\\kappa$",
    "→": "$\\to$",
    "·": "$\\cdot$",
    "×": "$\\times$",
    ELLIPSIS: "\\ldots{}",
    **{letter: f"\\{name}{{}}" for letter, name in _LETTERS.items()},
}
_ACCENTS = "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327"  # that a letter may carry
LATEX_ACCENTS = dict(zip(_ACCENTS, "`'^~=u.\"rHvc", strict=True))


def for_latex(text: str, limit: int | None = None) -> str:
    """Escape the text of a LaTeX paragraph or table cell to plain ASCII, with rare letters written as ``U+6F22``."""
    return "".join(map(_latex_character, visible(text, limit)))


def _latex_character(character: str) -> str:
    if character in LATEX_SPECIAL:
        return LATEX_SPECIAL[character]
    if character.isascii():
        return character
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[1] in LATEX_ACCENTS:
        return f"\\{LATEX_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"U+{ord(character):04X}"
