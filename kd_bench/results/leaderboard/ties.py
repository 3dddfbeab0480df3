"""Groups of rows that the family of a board does not separate, like the lines of a critical-difference diagram."""

import numpy as np

from kd_bench.results.leaderboard.board import Board


def tie_groups(board: Board) -> list[range]:
    """Return the longest runs of ranked rows, by their positions, in which no two rows are separated.

    Rows are taken in the order of the board, as in the diagrams of Demšar (2006). A row that is separated from both of
    its neighbours is in no group. Two rows without a group in common need not be separated.
    """
    names = {name: position for position, name in enumerate(board.family.names)}
    order = [names[row.entry.key] for row in board.rows if row.rank]
    separated = (board.family.better | board.family.better.T)[np.ix_(order, order)]
    found: list[range] = []
    for first in range(len(order)):
        stop = first + 1
        while stop < len(order) and not separated[first:stop, stop].any():
            stop += 1
        if not found or stop > found[-1].stop:
            found.append(range(first, stop))
    return [group for group in found if len(group) > 1]
