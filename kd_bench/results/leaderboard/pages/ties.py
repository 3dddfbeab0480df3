"""The cells of a table that show which rows are tied, as bars that stand beside all rows of a group."""

from collections.abc import Sequence

from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.ties import tie_groups

LANE = 7  # pixels
HEADER = (
    '<th scope="col" class="in-ties" title="Rows beside one bar are not separated from each other. Rows without a bar'
    ' in common need not be separated: see their ranks."><span class="visually-hidden">Ties</span></th>'
)


def tie_cells(board: Board) -> list[str]:
    """Return the cell of every row; groups without a row in common may share a lane."""
    groups = tie_groups(board)
    lanes, ends = [], list[int]()  # the lane of each group, and where each lane is free again
    for group in groups:
        lane = next((lane for lane, end in enumerate(ends) if end <= group.start), len(ends))
        ends[lane : lane + 1] = [group.stop]
        lanes.append(lane)
    return [_cell(position, groups, lanes, len(ends)) for position in range(len(board.rows))]


def _cell(position: int, groups: Sequence[range], lanes: Sequence[int], width: int) -> str:
    bars, names = [], []
    for number, (group, lane) in enumerate(zip(groups, lanes, strict=True), start=1):
        if position in group:
            kinds = ("first", position == group.start), ("last", position == group.stop - 1)
            kind = "".join(f" {name}" for name, holds in kinds if holds)
            bars.append(f'<i class="tie{kind}" style="left:{lane * LANE}px"></i>')
            names.append(str(number))
    text = f'<span class="visually-hidden">in tie {", ".join(names)}</span>' if names else ""
    return f'<td class="in-ties" style="min-width:{width * LANE}px">{"".join(bars)}{text}</td>'
