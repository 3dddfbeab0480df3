"""Pieces of HTML that the pages share."""

import base64
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from kd_bench.results.leaderboard.summary import NUMERIC_COLUMNS, VERSION_LINE
from kd_bench.results.text.escape import for_html

BASE_STYLE = Path(__file__).with_name("base.css").read_text(encoding="utf-8")
REASON_LIMIT = 600
COLUMN_KINDS = {"Cause": "wide", "Reason": "wide", "State": "short", "Updated": "short", "Run": "short"}
COLUMN_KINDS |= {"Verdict": "short", "Epoch": "short", "Source": "short"}
ARXIV = re.compile(r"(?<![\w./-])(?:arXiv:\s?)?(\d{4}\.\d{4,5})(?:v\d+)?(?![\w.-])", re.IGNORECASE | re.ASCII)


def document(title: str, body: Iterable[str], style: str = BASE_STYLE, script: str = "") -> str:
    """Return a whole page. The policy in its head lets it load nothing from anywhere and run its own script alone."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        script = f"\n<script>{script}</script>"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{for_html(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<footer>{for_html(VERSION_LINE)}</footer>{script}\n</body>\n</html>\n"
    )


def scroll(label: str, content: str) -> str:
    """Return a region that scrolls sideways by itself, also with the keyboard, so that the page does not."""
    return f'<div class="scroll" role="region" aria-label="{for_html(label)}" tabindex="0">{content}</div>'


def mark(sign: str, meaning: str) -> str:
    """Return a sign with what it means, for screen readers and as a tooltip."""
    return f'<span role="img" aria-label="{meaning}" title="{meaning}">{sign}</span>'


def unbroken(text: str) -> str:
    """Keep percent signs from starting a line."""
    return text.replace(" %", "&nbsp;%")


def full(text: str, limit: int) -> str:
    """Return a title attribute with the whole text where less of it is displayed."""
    return f' title="{for_html(text)}"' if len(text) > limit else ""


def with_links(text: str) -> str:
    """Turn arXiv numbers of an escaped text into links."""
    return ARXIV.sub(r'<a rel="noreferrer" href="https://arxiv.org/abs/\1">\g<0></a>', text)


def table(
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    row_headers: bool = False,
    numeric: Collection[str] = NUMERIC_COLUMNS,
) -> str:
    """Return a table with a caption for screen readers, in a region of its own; empty without rows.

    Args:
        row_headers: whether the first cell of a row names it.
        numeric: names of columns of numbers.
    """
    if not rows:
        return ""
    kinds = ["number" if name in numeric else COLUMN_KINDS.get(name, "text") for name in columns]
    head = "".join(
        f'<th scope="col" class="{kind}">{for_html(name)}</th>' for name, kind in zip(columns, kinds, strict=True)
    )
    lines = []
    for row in rows:
        cells = [
            f'<td class="{kind}"{full(text, REASON_LIMIT)}>{for_html(text, REASON_LIMIT)}</td>'
            for text, kind in zip(row, kinds, strict=True)
        ]
        if row_headers:
            cells[0] = f'<th scope="row" class="text">{for_html(row[0], REASON_LIMIT)}</th>'
        lines.append(f"<tr>{''.join(cells)}</tr>")
    name = for_html(caption)
    return scroll(
        caption,
        f'<table><caption class="visually-hidden">{name}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table>",
    )


def section(title: str, content: str) -> str:
    """Return a section with a heading; empty without content."""
    return f"<section><h2>{for_html(title)}</h2>{content}</section>" if content else ""


def details(summary: str, content: str) -> str:
    """Return content that opens by a click; empty without content."""
    return f"<details><summary>{for_html(summary)}</summary>{content}</details>" if content else ""


def legend(names: Sequence[str], limit: int = 60) -> str:
    """Return the names of the lines of a plot, each with a piece of its line."""
    items = (
        f'<li><svg class="chart key" viewBox="0 0 28 8" aria-hidden="true"><path class="series s{index}" d="M0 4h28"/>'
        f"</svg>{for_html(name, limit)}</li>"
        for index, name in enumerate(names)
    )
    return f'<ul class="legend">{"".join(items)}</ul>'
