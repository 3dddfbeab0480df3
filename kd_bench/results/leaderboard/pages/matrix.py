"""The win matrix of a board: every ranked row compared with every other one, all from the family of the board."""

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.columns import MARKS
from kd_bench.results.leaderboard.pages.html import details, mark, scroll
from kd_bench.results.statistics.simultaneous import Comparison
from kd_bench.results.text.escape import for_html
from kd_bench.results.text.formats import MISSING, p_value

FEWEST, MOST = 3, 60  # rows; two are compared by the table, and more than sixty cannot be read
NAME_LIMIT = 40
CAPTION = (
    "Row minus column in points of test top-1, on shared seeds. ▲ the row is shown better, ▼ worse, no sign: not"
    " separated. Below stands the adjusted p value. Numbers of columns are those of rows."
)


def win_matrix(board: Board) -> str:
    """Return the matrix as a table that opens by a click; empty for boards with too few or too many ranked rows."""
    entries = [row.entry for row in board.rows if row.rank]
    if not FEWEST <= len(entries) <= MOST:
        return ""
    names = [for_html(entry.label, NAME_LIMIT) for entry in entries]
    head = "".join(f'<th scope="col" title="{name}">{number}</th>' for number, name in enumerate(names, start=1))
    lines = []
    for number, (entry, name) in enumerate(zip(entries, names, strict=True), start=1):
        cells = "".join(
            "<td></td>" if other is entry else _cell(board.family.compare(entry.key, other.key)) for other in entries
        )
        lines.append(f'<tr><th scope="row">{number} {name}</th>{cells}</tr>')
    table = (
        f'<table class="matrix"><caption class="visually-hidden">Every pair of methods: {CAPTION}</caption><thead>'
        f'<tr><th scope="col">Method</th>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )
    return details("Every pair of methods", f'<p class="facts">{CAPTION}</p>{scroll("Every pair of methods", table)}')


def _cell(found: Comparison) -> str:
    if found.difference is None:
        return f"<td>{MISSING}</td>"
    text = f"{100 * found.difference:+.1f}".replace("-", "−")
    if found.p_value is None:
        return f"<td>{text} <small>not tested</small></td>"
    shown = found.claim != "not separated"
    kind = f' class="{found.claim}"' if shown else ""
    sign = mark(MARKS[found.claim], found.claim) if shown else ""
    return f"<td{kind}>{sign}{text} <small>p {for_html(p_value(found.p_value))}</small></td>"
