"""Boards, made of records: what is compared with what, the rows, their baselines and ranks."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kd_bench.results.checking.load import FAILED_STATES
from kd_bench.results.leaderboard.entries import (
    SETTING_PARTS,
    Entry,
    Options,
    baseline,
    build_entries,
    configuration,
    differences,
    frozen,
    options_text,
)
from kd_bench.results.leaderboard.rows import Context, Row, build_row, in_order, ranked
from kd_bench.results.records.record import DatasetInfo, Record, TeacherInfo
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.simultaneous import Family, compare_all

SCRATCH = "scratch"
KD = "kd"


@dataclass(frozen=True)
class Board:
    """Rows that may be compared: one dataset and split, teacher (by its weights), student network and recipe.

    All claims about them come from ``family``: the comparisons of the ranked rows, named by the keys of their entries.
    """

    identifier: str
    dataset: DatasetInfo
    teacher: TeacherInfo | None
    student: str
    recipe: str
    options: Options
    rows: tuple[Row, ...]
    family: Family
    notes: tuple[str, ...]

    @property
    def title(self) -> str:
        """Data set, pair, recipe, and what tells the board from others of these names."""
        pair = f"{self.teacher.name} → {self.student}" if self.teacher else f"{self.student}, no teacher"
        return f"{self.dataset.name} · {pair} · {self.recipe}{options_text(self.options)}"

    @property
    def pair(self) -> str:
        """Teacher and student as TEACHER--STUDENT."""
        return f"{self.teacher.name if self.teacher else 'none'}--{self.student}"

    @property
    def scratch(self) -> Row | None:
        """The row of scratch that differences refer to."""
        return self._baseline(SCRATCH)

    @property
    def kd(self) -> Row | None:
        """The row of KD that differences refer to."""
        return self._baseline(KD)

    def _baseline(self, name: str) -> Row | None:
        entry = baseline((row.entry for row in self.rows), name)
        return next((row for row in self.rows if row.entry is entry), None)


def build_boards(students: Iterable[Record], states: Sequence[RunState]) -> tuple[Board, ...]:
    """Group records into boards.

    A record without a teacher (scratch, self-distillation) belongs to every board of its dataset, student and recipe,
    and has one of its own only where there is no teacher to compare with.
    """
    settings: dict[str, dict[str, list[Record]]] = {}
    for record in students:
        settings.setdefault(_setting(record), {}).setdefault(_teacher(record), []).append(record)
    groups = []
    for setting, by_teacher in settings.items():
        alone = by_teacher.pop("", [])
        for teacher, records in by_teacher.items() or [("", [])]:
            groups.append((setting + teacher, [*records, *alone]))
    groups.sort(key=lambda group: (*_names(group[1]), group[0]))
    options = _board_options([records for _, records in groups])
    return tuple(
        _board(key, sorted(records, key=lambda record: record.run_id), shown, states)
        for (key, records), shown in zip(groups, options, strict=True)
    )


def _setting(record: Record) -> str:
    dataset = record.dataset.model_dump(exclude={"class_names"})
    parts = frozen(configuration(record, SETTING_PARTS))
    return json.dumps([dataset, record.student.name, record.recipe, parts], sort_keys=True)


def _teacher(record: Record) -> str:
    return json.dumps([record.teacher.name, record.teacher.weights_sha256]) if record.teacher else ""


def _names(records: Sequence[Record]) -> tuple[str, str, str, str]:
    teacher = min((record.teacher.name for record in records if record.teacher), default="")
    return records[0].dataset.name, teacher, records[0].student.name, records[0].recipe


def _board_options(groups: Sequence[Sequence[Record]]) -> list[Options]:
    """Find what tells boards of the same names apart in the recipe's or the student's configuration."""
    same: dict[tuple[str, ...], list[int]] = {}
    for position, records in enumerate(groups):
        same.setdefault(_names(records), []).append(position)
    options: list[Options] = [()] * len(groups)
    for positions in same.values():
        flats = [configuration(groups[position][0], SETTING_PARTS) for position in positions]
        for position, shown in zip(positions, differences(flats), strict=True):
            options[position] = shown
    return options


def _board(key: str, records: Sequence[Record], options: Options, states: Sequence[RunState]) -> Board:
    first = records[0]
    teacher = next((record.teacher for record in records if record.teacher), None)
    entries = in_order(build_entries(records))
    family = compare_all({entry.key: entry.scores for entry in entries if ranked(entry)})
    unrecorded = [state for state in states if _belongs(state, first, teacher)]
    baselines = baseline(entries, SCRATCH), baseline(entries, KD)
    context = Context(family, *baselines, teacher, first.dataset, unrecorded)
    return Board(
        identifier="board-" + hashlib.sha256(key.encode()).hexdigest()[:10],
        dataset=first.dataset,
        teacher=teacher,
        student=first.student.name,
        recipe=first.recipe,
        options=options,
        rows=tuple(build_row(entry, context) for entry in entries),
        family=family,
        notes=tuple(_notes(entries, context)),
    )


def _belongs(state: RunState, record: Record, teacher: TeacherInfo | None) -> bool:
    """Compare names: a run without a record is known by these only, so it can belong to several boards."""
    names = (state.dataset, state.student, state.recipe) == (record.dataset.name, record.student.name, record.recipe)
    same_teacher = state.teacher is None or (teacher is not None and state.teacher == teacher.name)
    return state.role == "student" and names and same_teacher


def _notes(entries: Sequence[Entry], context: Context) -> Iterable[str]:
    for reference, name in ((context.scratch, SCRATCH), (context.kd, KD)):
        if reference is None:
            yield f"No finished run of {name} as it ships: differences to {name} are missing."
        elif reference.options:
            yield f"Differences to {name} refer to {reference.label}."
    for entry in entries:
        if entry.left_out:
            runs = "run" if entry.left_out == 1 else "runs"
            yield f"{entry.label}: {entry.left_out} further {runs} of the same seeds left out; the latest counts."
    partly = [(entry, sum(run.full is not None for run in entry.runs)) for entry in entries]
    counts = [f"{each.label} {found} of {len(each.runs)}" for each, found in partly if 0 < found < len(each.runs)]
    if counts:
        yield f"Not all seeds have a full evaluation, and its numbers are missing until they do: {', '.join(counts)}."
    machines = frozenset[str | None]().union(*(entry.machines for entry in entries))
    if len(machines) > 1:
        yield f"Latencies were measured on {len(machines)} machines: only the ratio to the teacher's can be compared."
    finished = {entry.name for entry in entries}
    for name in sorted({state.method for state in context.states} - finished):
        failed = [state.state in FAILED_STATES for state in context.states if state.method == name]
        yield f"No finished run of {name}: {sum(failed)} failed, {len(failed) - sum(failed)} unfinished."
