"""A published table beside our runs: the published value, our mean, and whether the one reproduces the other."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kd_bench.reproduction.cells import Cell, composed_cells
from kd_bench.reproduction.matching import Matched, by_names, matched
from kd_bench.reproduction.tables import Table, table_named
from kd_bench.runs.record import Record
from kd_bench.statistics import Estimate, Spread, Verdict, equivalence, estimate

MARGIN = 0.005  # half a percentage point
TEACHER_MARGIN = 0.01
CellVerdict = Verdict | Literal["not run"]
VERDICTS: tuple[CellVerdict, ...] = ("reproduced", "below", "above", "inconclusive", "not run")


@dataclass(frozen=True)
class Line:
    """One cell. Accuracies are fractions.

    Attributes:
        runs: records of the cell, one a seed.
        ours: mean test top-1 of the epoch that the source reports, with its 95 % interval over seeds.
        difference: ours minus the published value, with its 90 % interval.
    """

    cell: Cell
    runs: tuple[Record, ...]
    ours: Estimate | None
    difference: Estimate | None
    verdict: CellVerdict
    notes: tuple[str, ...]

    @property
    def teacher_top1(self) -> float | None:
        """Of our teacher, on the test split."""
        return self.runs[0].teacher.test_top1 if self.runs and self.runs[0].teacher else None


@dataclass(frozen=True)
class Board:
    name: str
    table: Table
    margin: float
    lines: tuple[Line, ...]

    @property
    def counts(self) -> str:
        """Such as ``6 cells: 1 reproduced, 5 not run``."""
        found = Counter(line.verdict for line in self.lines)
        parts = [f"{found[verdict]} {verdict}" for verdict in VERDICTS if found[verdict]]
        noun = "cell" if len(self.lines) == 1 else "cells"
        return f"{len(self.lines)} {noun}: {', '.join(parts)}"


def build_board(name: str, cells: Sequence[Cell], records: Sequence[Record], margin: float) -> Board:
    """Compare the cells of a table with the records that are runs of them.

    Args:
        margin: how far from the published value still counts as the same, as a fraction.
    """
    named = [by_names(cell, records) for cell in cells]
    found = [number for number, runs in enumerate(named) if runs]
    composed = composed_cells([cells[number] for number in found], [])
    of_cell = {number: matched(run.cfg, named[number]) for number, run in zip(found, composed, strict=True)}
    lines = [_line(cell, of_cell.get(number, Matched((), ())), margin) for number, cell in enumerate(cells)]
    return Board(name, table_named(name), margin, tuple(lines))


def _line(cell: Cell, found: Matched, margin: float) -> Line:
    if not found.runs:
        return Line(cell, (), None, None, "not run", found.notes)
    # The recipe's rule is that of the source, or the run would not have matched: like is compared with like.
    values = [run.headline().test.top1 for run in found.runs]
    result = equivalence(values, cell.published.value, margin, spread=_spread(cell))
    notes = (*found.notes, *_other_teacher(cell, found.runs))
    return Line(cell, found.runs, estimate(values), result.difference, result.verdict, notes)


def _spread(cell: Cell) -> Spread | None:
    deviation, seeds = cell.published.std, cell.published.n_seeds
    return Spread(deviation, seeds) if deviation is not None and seeds is not None and seeds > 1 else None


def _other_teacher(cell: Cell, runs: tuple[Record, ...]) -> list[str]:
    teacher = runs[0].teacher
    if teacher is None or cell.teacher_top1 is None or abs(teacher.test_top1 - cell.teacher_top1) <= TEACHER_MARGIN:
        return []
    return [f"the teacher is not the published one: more than {100 * TEACHER_MARGIN:g} point apart"]
