"""The form above the boards, for search, rows and columns. Its fields are the state in the page's address."""

from collections.abc import Iterable, Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import Column
from kd_bench.results.leaderboard.pages.board import pair_name
from kd_bench.results.text.escape import for_html
from kd_bench.results.text.formats import count

SIZES = (10**5, 10**6, 10**7, 10**8)
LIMITS = (10, 25, 50, 100)
OPTION_LIMIT = 60
PRESETS = ("quality", "calibration", "harm", "cost")  # the first is what is shown by default
ALWAYS = ("top1", "kd_difference")


def filter_form(boards: Sequence[Board]) -> str:
    """Return the form, which the script shows because it does nothing without one; columns are chosen without, too."""
    rows = [row for board in boards for row in board.rows]
    if not rows:
        return ""
    choices: dict[str, list[str]] = {
        "pair": sorted({pair_name(board) for board in boards}),
        "recipe": sorted({board.recipe for board in boards}),
        "family": sorted({row.entry.latest.method.family for row in rows}),
        "evidence": sorted({str(row.evidence) for row in rows}),
    }
    selects = "".join(
        _select(name, f"any {name}", [(v, v) for v in values]) for name, values in choices.items() if len(values) > 1
    )
    sizes = _select("size", "any size", [(str(size), f"at most {count(size)}") for size in SIZES])
    limits = _select("rows", "all rows", [(str(limit), f"{limit} a board") for limit in LIMITS])
    return (
        '<form class="filter" role="search" hidden><label class="wide">Search <input type="search" name="filter"'
        ' autocomplete="off" spellcheck="false" placeholder="method, paper, dataset, network"></label>'
        '<details class="more" open><summary>Filters</summary><div class="fields">'
        f'{selects}{sizes}<label>Since <input type="date" name="since"></label>{limits}'
        '<button type="reset">Show all</button></div></details></form>'
        f'<output class="shown" aria-live="polite" hidden>showing {len(rows)} of {len(rows)} rows</output>'
    )


def _select(name: str, everything: str, options: Iterable[tuple[str, str]]) -> str:
    items = "".join(
        f'<option value="{for_html(value)}">{for_html(text, OPTION_LIMIT)}</option>' for value, text in options
    )
    return (
        f'<label>{name.capitalize()} <select name="{name}"><option value="">{everything}</option>{items}</select>'
        "</label>"
    )


def column_chooser(columns: Sequence[Column]) -> str:
    """Return the boxes of the columns, on which a style sheet alone acts."""
    groups: dict[str, list[Column]] = {}
    for column in columns:
        if column.group != "row":
            groups.setdefault(column.group, []).append(column)
    fields = "".join(
        f"<fieldset><legend>{group.capitalize()}</legend>{''.join(_box(column) for column in members)}</fieldset>"
        for group, members in groups.items()
    )
    return (
        f'{_presets(columns)}<details class="columns"><summary>Choose columns</summary><div class="groups">'
        f"{fields}</div></details>"
    )


def _presets(columns: Sequence[Column]) -> str:
    """Return buttons that choose the columns of a question, which the script shows."""
    buttons = []
    for name in PRESETS:
        keys = [c.key for c in columns if (c.shown if name == "quality" else c.group == name or c.key in ALWAYS)]
        buttons.append(f'<button type="button" data-show="{" ".join(keys)}">{name.capitalize()}</button>')
    return f'<div class="presets" role="group" aria-label="Sets of columns" hidden>Show {"".join(buttons)}</div>'


def _box(column: Column) -> str:
    checked = " checked" if column.shown else ""
    return (
        f'<label title="{for_html(column.explanation)}"><input type="checkbox" id="show-{column.key}"{checked}>'
        f" {for_html(column.title)}</label>"
    )


def column_style(columns: Sequence[Column]) -> str:
    """Return rules that hide the columns whose box is not checked; without ``:has`` a browser shows all columns."""
    return "\n".join(
        f"body:not(:has(#show-{column.key}:checked)) .in-{column.key} {{ display: none; }}"
        for column in columns
        if column.group != "row"
    )
