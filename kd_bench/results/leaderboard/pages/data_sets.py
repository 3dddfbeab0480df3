"""Tabs by data set: radio buttons on which a style sheet alone acts, so that they need no script."""

from collections.abc import Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.text.escape import for_html

EVERYTHING = "*"  # the value of the tab of all data sets
NAME_LIMIT = 60


def data_sets(boards: Sequence[Board]) -> list[str]:
    """Return the names of the data sets in the order of their boards."""
    return list(dict.fromkeys(board.dataset.name for board in boards))


def data_set_tabs(boards: Sequence[Board]) -> str:
    """Return the tabs; empty for a single data set. The first is chosen, the last shows everything."""
    names = data_sets(boards)
    if len(names) < 2:
        return ""
    rows = {name: sum(len(board.rows) for board in boards if board.dataset.name == name) for name in names}
    choices = [(f"data-set-{position}", name, name, rows[name]) for position, name in enumerate(names)]
    choices.append(("data-set-all", EVERYTHING, "all data sets", sum(rows.values())))
    items = "".join(
        f'<label><input type="radio" name="dataset" id="{key}" value="{for_html(value)}"'
        f"{' checked' if position == 0 else ''}> {for_html(text, NAME_LIMIT)}"
        f' <span class="note">{number}</span></label>'
        for position, (key, value, text, number) in enumerate(choices)
    )
    return f'<div class="data-sets" role="radiogroup" aria-label="Data set">{items}</div>'


def data_set_style(boards: Sequence[Board]) -> str:
    """Return rules that show the sections of the chosen data set alone, and that of a link without script."""
    names = data_sets(boards)
    if len(names) < 2:
        return ""
    others = [
        f'body:has(#data-set-{position}:checked) section[data-set]:not([data-set="{position}"])'
        for position in range(len(names))
    ]
    # As specific as the rules above, and behind them.
    linked = "html:not(.scripted) body:has(#data-set-all) section[data-set]:target"
    return f"{', '.join(others)} {{ display: none; }}\n{linked} {{ display: block; }}"
