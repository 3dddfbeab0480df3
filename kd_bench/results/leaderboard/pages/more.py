"""The last cell of a row: how far its records are verified, and, behind a button, links and lines to copy."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kd_bench.config.paths import CONF
from kd_bench.errors import ConfigError
from kd_bench.results.checking.collection import Tier
from kd_bench.results.leaderboard.columns import Column
from kd_bench.results.leaderboard.latex import latex_row
from kd_bench.results.leaderboard.pages.command import reproduce_words
from kd_bench.results.leaderboard.pages.html import with_links
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.leaderboard.tiers import MEANINGS, row_tier
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import for_html

NAME_LIMIT = 90
PAPER_LIMIT = 200
LINE_LIMIT = 2000
HEADER = (
    '<th scope="col" class="in-records" title="How far the records of a row are verified, by the weakest of them; the'
    ' button shows links and lines to copy.">Records</th>'
)
SHIPPED = frozenset(path.stem for path in (CONF / "method").glob("*.yaml"))


@dataclass(frozen=True)
class Surroundings:
    """Facts that a page has beside its boards: whether every run has a page, tiers of runs, where methods have pages.

    ``method_pages`` is the address of a folder with a page for each shipped method, empty where there is none.
    """

    run_pages: bool = True
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    method_pages: str = ""


def more_cell(row: Row, row_name: str, columns: Sequence[Column], surroundings: Surroundings) -> str:
    """Return the cell. What its button shows needs no script; the buttons that copy do."""
    tier, label = row_tier(row, surroundings.tiers), for_html(row.entry.label, NAME_LIMIT)
    method = row.entry.latest.method
    lines = [
        f"<p><b>{label}</b> · {for_html(method.family, NAME_LIMIT)}</p>",
        f"<p>{with_links(for_html(method.paper, PAPER_LIMIT))}</p>" if method.paper else "",
        f"<p>{_method_page(row.entry.name, surroundings.method_pages)}</p>",
        f"<p>Records: {tier}, that is, {MEANINGS[tier]}.</p>",
        _line("Command of all seeds", _command(row.entry.runs)),
        _line("LaTeX row", latex_row([column for column in columns if column.shown], row)),
    ]
    return (
        f'<td class="in-records"><span class="tier {tier}" title="{MEANINGS[tier]}">{tier}</span> <button type="button"'
        f' popovertarget="{row_name}-more" aria-label="More on {label}">⋯</button>'
        f'<div popover id="{row_name}-more">{"".join(lines)}</div></td>'
    )


def _method_page(name: str, folder: str) -> str:
    if folder and name in SHIPPED:
        return f'<a href="{folder}/{for_html(name)}.html">Page of the method</a>'
    return f"Page of the method: <code>kd-bench list methods {for_html(name, NAME_LIMIT)}</code>"


def _line(title: str, text: str) -> str:
    if not text:
        return ""
    return f"<p>{title}:</p><pre><code>{for_html(text, LINE_LIMIT)}</code></pre>"


def _command(runs: Sequence[Record]) -> str:
    """Return the line that makes all runs of a row again; empty where no command composes to their configuration."""
    try:
        words = reproduce_words(runs[0])
    except ConfigError:
        return ""
    if words[1] != "train" or len(runs) == 1:
        return shlex.join(words)
    kept = [word for word in words[2:] if not word.startswith("seed=")]
    return shlex.join([*words[:2], "-m", *kept, f"seed={','.join(str(run.seed) for run in runs)}"])
