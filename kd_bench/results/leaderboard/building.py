"""The whole leaderboard, made of what was found in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kd_bench.results.checking.collection import Tier
from kd_bench.results.checking.load import Collection
from kd_bench.results.leaderboard.aggregates import Aggregate, build_aggregates
from kd_bench.results.leaderboard.board import Board, build_boards
from kd_bench.results.records.record import Record


@dataclass(frozen=True)
class Leaderboard:
    """All that the outputs show. ``collection`` is what was found; the rest is computed from it.

    ``tiers`` are those of runs, by id, that are verified further than what every record on a board is, "local".
    """

    collection: Collection
    boards: tuple[Board, ...]
    aggregates: tuple[Aggregate, ...]
    teachers: tuple[Record, ...]
    tiers: Mapping[str, Tier] = field(default_factory=dict)


def build(collection: Collection, tiers: Mapping[str, Tier] | None = None) -> Leaderboard:
    """Build the boards of all student records, and list the teachers' own; a function of the arguments alone."""
    students = [record for record in collection.records if record.role == "student"]
    teachers = [record for record in collection.records if record.role == "teacher"]
    teachers.sort(key=lambda record: (record.dataset.name, record.student.name, record.seed, record.run_id))
    boards = build_boards(students, collection.states)
    return Leaderboard(collection, boards, build_aggregates(boards), tuple(teachers), tiers or {})
