"""The cells of a published table, and the runs that fill them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_bench.config.composition import quoted
from kd_bench.errors import ConfigError, IntegrityError, nearest
from kd_bench.runs.reproduction.pair_settings import pair_overrides
from kd_bench.runs.reproduction.published import MEASURED, PublishedValue, published_values
from kd_bench.runs.reproduction.tables import Overrides, Part, Protocol, Table, all_tables, table_named
from kd_bench.runs.studies.grid import StudyRun, compose_list

RUNS = Path("runs/reproduce")  # shared by all tables, which have teachers and cells in common
# Below a folder of teachers: as RepDistiller and mdistiller name them, or plainly.
TEACHER_FILES = ("{}_vanilla/ckpt_epoch_240.pth", "{}.pth", "{}.pt", "{}.safetensors")


@dataclass(frozen=True)
class Cell:
    """One published number and how the runs beside it are configured.

    Attributes:
        published: the number, with the names of method and student as printed.
        teacher: the published name of the pair's teacher, also where the method needs none.
        teacher_top1: its published top-1 in [0, 1]; None is not known.
        choice: our name of the method.
        overrides: of ``conf/train.yaml``, without the seed.
        runs: number of seeds.
        pair_settings: those of the overrides that its authors publish for this pair alone.
    """

    table: str
    published: PublishedValue
    teacher: str
    teacher_top1: float | None
    protocol: Protocol
    choice: str
    overrides: tuple[str, ...]
    runs: int
    pair_settings: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        """The method as printed."""
        return self.published.method

    @property
    def pair(self) -> str:
        """The pair as printed, ``TEACHER--STUDENT``."""
        return f"{self.teacher}--{self.published.student}"

    @property
    def label(self) -> str:
        """Method and pair, in one line."""
        return f"{self.method} {self.pair}"

    @property
    def networks(self) -> tuple[str, str]:
        """Our names of teacher and student."""
        return self.protocol.our_name(self.teacher), self.protocol.our_name(self.published.student)


def table_cells(name: str) -> list[Cell]:
    """Return every cell of a published table, pair by pair, in the order of its rows.

    Raises:
        ConfigError: there is no such table.
    """
    table = table_named(name)
    values = [(part, value) for part in table.parts for value in _values(part)]
    teachers: dict[str, dict[str, float | None]] = {}
    for _, value in values:
        if value.teacher:
            teachers.setdefault(value.student, {}).setdefault(value.teacher, value.teacher_top1)
    cells = [
        _cell(name, table, part, value, teacher, top1)
        for part, value in values
        for teacher, top1 in teachers.get(value.student, {}).items()
        if value.teacher in ("", teacher) and (part.pairs is None or f"{teacher}--{value.student}" in part.pairs)
    ]
    pairs = list(dict.fromkeys(cell.pair for cell in cells))
    return sorted(cells, key=lambda cell: pairs.index(cell.pair))


def _values(part: Part) -> list[PublishedValue]:
    """Return the published numbers of a part. Where a cell has several, the authors' own counts, then the first."""
    rows = [
        value
        for value in published_values()
        if (value.paper_key, value.table) in part.rows and value.method in part.methods and value.provenance in MEASURED
    ]
    chosen: dict[tuple[str, str, str], PublishedValue] = {}
    for value in sorted(rows, key=lambda value: MEASURED.index(value.provenance)):
        chosen.setdefault((value.method, value.teacher, value.student), value)
    return [value for value in rows if value in chosen.values()]


def _cell(name: str, table: Table, part: Part, value: PublishedValue, teacher: str, teacher_top1: float | None) -> Cell:
    protocol = all_tables().protocols[part.protocol]
    choice, *own = part.methods[value.method]
    pair = f"{teacher}--{value.student}"
    settings = pair_overrides(choice, protocol.dataset, pair)
    overrides = [
        *protocol.overrides,
        f"teacher.name={protocol.our_name(teacher)}",
        f"student.name={protocol.our_name(value.student)}",
        f"method={choice}",
        *settings,
        *own,
        *protocol.students.get(value.student, []),
        *(part.pairs or {}).get(pair, []),
    ]
    runs = value.n_seeds or table.seeds
    return Cell(name, value, teacher, teacher_top1, protocol, choice, tuple(overrides), runs, settings)


def chosen_cells(cells: Sequence[Cell], methods: Sequence[str], pairs: Sequence[str]) -> list[Cell]:
    """Return the cells of the named methods (as published, or our choice) and pairs; all where none is named.

    Raises:
        ConfigError: the table has no such method or pair, or not that method on that pair.
    """
    for kind, wanted, known in (
        ("method", methods, {name for cell in cells for name in (cell.method, cell.choice)}),
        ("pair", pairs, {cell.pair for cell in cells}),
    ):
        for name in wanted:
            if _plain(name) not in map(_plain, known):
                raise ConfigError(
                    f"{kind} {name!r}: not in this table{nearest(name, known) or f'; there are: {sorted(known)}'}"
                )
    chosen = [
        cell for cell in cells if _asked_for(methods, (cell.method, cell.choice)) and _asked_for(pairs, (cell.pair,))
    ]
    if not chosen:
        raise ConfigError(f"the table has no cell of {', '.join(methods)} for {', '.join(pairs)}")
    return chosen


def _asked_for(wanted: Sequence[str], names: Iterable[str]) -> bool:
    return not wanted or not {_plain(name) for name in wanted}.isdisjoint(_plain(name) for name in names)


def _plain(name: str) -> str:
    """Make names comparable: pairs may be written with our names of networks as well."""
    return name.lower().replace("_cifar", "")


def composed_cells(cells: Sequence[Cell], overrides: Overrides, teachers: Path | None = None) -> list[StudyRun]:
    """Compose the cells' configurations, with the default seed.

    Args:
        overrides: hold for every cell.
        teachers: folder of weight files; None trains the teachers.

    Raises:
        ConfigError: an override that does not fit.
        IntegrityError: a teacher has no file in the folder.
    """
    labelled = []
    for cell in cells:
        own = [*cell.overrides, f"study={cell.table}", f"paths.runs={RUNS}"]
        labelled.append((cell.label, [*own, *(_teacher(cell, teachers) if teachers else []), *overrides]))
    return compose_list(labelled)


def seeded(run: StudyRun, seeds: int) -> list[StudyRun]:
    """Return a run with each of the seeds 0 to ``seeds`` - 1."""
    return [StudyRun(f"{run.label} seed {seed}", run.written.but("seed", seed)) for seed in range(seeds)]


def _teacher(cell: Cell, folder: Path) -> Overrides:
    """Return overrides that load a cell's teacher from ``folder`` and check it against its published accuracy."""
    files = {path.relative_to(folder).as_posix().lower(): path for path in folder.glob("**/*") if path.is_file()}
    wanted = [name.format(cell.teacher) for name in TEACHER_FILES]
    found = [files[name.lower()] for name in wanted if name.lower() in files]
    if not found:
        raise IntegrityError(f"--teachers {folder}: no weights of {cell.teacher}: looked for {', '.join(wanted)}")
    expected = [] if cell.teacher_top1 is None else [f"teacher.expected_top1={cell.teacher_top1:.4f}"]
    return [f"teacher.checkpoint={quoted(str(found[0].resolve()))}", *expected]
