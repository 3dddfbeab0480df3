"""The board of a published table: the published values, our means, and whether these reproduce those."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from kd_bench.results.checking.load import FAILED_STATES, Collection
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.intervals import Estimate, estimate
from kd_bench.results.statistics.power import Spread, Verdict, equivalence
from kd_bench.results.statistics.ranking import MINIMUM_CLAIM, MINIMUM_RANKED
from kd_bench.runs.reproduction.cells import Cell, composed_cells
from kd_bench.runs.reproduction.matching import Matched, by_names, matched
from kd_bench.runs.reproduction.tables import Table, table_named

MARGIN = 0.005  # half a percentage point
TEACHER_MARGIN = 0.01
CellVerdict = Verdict | Literal["not run"]
VERDICTS: tuple[CellVerdict, ...] = ("reproduced", "below", "above", "inconclusive", "not run")


@dataclass(frozen=True)
class Line:
    """One cell beside our runs. Accuracies are fractions.

    Attributes:
        runs: records of the cell, one a seed.
        ours: mean test top-1 of the epoch that the source reports, with its 95 % interval over seeds.
        difference: ours minus the published value, with its 90 % interval.
        verdict: of two one-sided tests; always inconclusive below three seeds and without any spread.
    """

    cell: Cell
    runs: tuple[Record, ...]
    ours: Estimate | None
    difference: Estimate | None
    verdict: CellVerdict
    notes: tuple[str, ...]

    @property
    def preliminary(self) -> bool:
        """Whether the verdict rests on three or four seeds."""
        return self.verdict in ("reproduced", "below", "above") and len(self.runs) < MINIMUM_CLAIM

    @property
    def teacher_top1(self) -> float | None:
        """The test top-1 of our teacher."""
        return self.runs[0].teacher.test_top1 if self.runs and self.runs[0].teacher else None


@dataclass(frozen=True)
class Board:
    """All cells of a table; ``rejected`` counts the files among the records that cannot be used."""

    name: str
    table: Table
    margin: float
    lines: tuple[Line, ...]
    rejected: int

    @property
    def counts(self) -> str:
        """The verdicts counted, such as ``6 cells: 2 reproduced (1 preliminary), 4 not run``."""
        found = Counter(line.verdict for line in self.lines)
        early = Counter(line.verdict for line in self.lines if line.preliminary)
        notes = {verdict: f" ({early[verdict]} preliminary)" if early[verdict] else "" for verdict in VERDICTS}
        parts = [f"{found[verdict]} {verdict}{notes[verdict]}" for verdict in VERDICTS if found[verdict]]
        noun = "cell" if len(self.lines) == 1 else "cells"
        return f"{len(self.lines)} {noun}: {', '.join(parts)}"


def build_board(name: str, cells: Sequence[Cell], collection: Collection, margin: float) -> Board:
    """Compare the cells of a table with the records that are runs of them.

    Args:
        collection: all that was found; runs that failed are noted.
        margin: largest difference from the published value that counts as the same, as a fraction.
    """
    named = [by_names(cell, collection.records) for cell in cells]
    found = [number for number, runs in enumerate(named) if runs]
    composed = composed_cells([cells[number] for number in found], [])
    of_cell = {number: matched(run.cfg, named[number]) for number, run in zip(found, composed, strict=True)}
    lines = []
    for number, cell in enumerate(cells):
        match = of_cell.get(number, Matched((), ()))
        failed = _failed(cell, match, collection)
        lines.append(_line(cell, replace(match, notes=(*match.notes, *failed)), margin))
    return Board(name, table_named(name), margin, tuple(lines), len(collection.rejected))


def _failed(cell: Cell, found: Matched, collection: Collection) -> list[str]:
    """Note the seeds that failed, so that none is replaced by another unseen."""
    names = (cell.protocol.dataset, *cell.networks, cell.choice)
    finished = {run.seed for run in found.runs}
    failed = [
        f"{state.seed} ({state.state})"
        for state in collection.states
        if (state.dataset, state.teacher, state.student, state.method) == names
        and state.state in FAILED_STATES
        and state.seed not in finished
    ]
    return [f"failed: seed {', '.join(failed)}"] if failed else []


def _line(cell: Cell, found: Matched, margin: float) -> Line:
    if not found.runs:
        return Line(cell, (), None, None, "not run", found.notes)
    # The recipe's rule is that of the source, or the run would not have matched: like is compared with like.
    values = [run.headline().test.top1 for run in found.runs]
    result = equivalence(values, cell.published.value, margin, spread=_spread(cell))
    notes = [*found.notes, *_other_teacher(cell, found.runs)]
    verdict: CellVerdict = result.verdict
    if len(values) < MINIMUM_RANKED:
        verdict = "inconclusive"
    elif len(set(values)) == 1:
        verdict = "inconclusive"
        notes.append("all seeds agree to the last image, so that nothing is known of their spread")
    return Line(cell, found.runs, estimate(values), result.difference, verdict, tuple(notes))


def _spread(cell: Cell) -> Spread | None:
    deviation, seeds = cell.published.std, cell.published.n_seeds
    return Spread(deviation, seeds) if deviation is not None and seeds is not None and seeds > 1 else None


def _other_teacher(cell: Cell, runs: tuple[Record, ...]) -> list[str]:
    teacher = runs[0].teacher
    if teacher is None or cell.teacher_top1 is None or abs(teacher.test_top1 - cell.teacher_top1) <= TEACHER_MARGIN:
        return []
    return [f"the teacher is not the published one: more than {100 * TEACHER_MARGIN:g} point apart"]
