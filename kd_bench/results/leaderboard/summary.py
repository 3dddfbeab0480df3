"""Sentences and small tables that Markdown and HTML share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone

from kd_bench import __version__
from kd_bench.results.leaderboard.aggregates import Aggregate
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.columns import INTERVALS_EXPLAINED, RANKS_EXPLAINED, SCOPE_EXPLAINED
from kd_bench.results.records.record import Record
from kd_bench.results.records.states import RunState
from kd_bench.results.statistics.intervals import Estimate, sampling_half_width
from kd_bench.results.text.escape import visible
from kd_bench.results.text.formats import MISSING, count, decimal, percent, seconds

TITLE = "kd_bench leaderboard"
LEAD = (
    "Small networks (students) trained with the help of larger ones (teachers). A table compares methods on the same"
    " data, with the same teacher, student and recipe; a rank is the interval of ranks that the seeds allow."
)
VERIFICATION_EXPLAINED = (
    "Records that contradict themselves or each other are rejected and listed below. On the page each row has the"
    " tier of its weakest record: “local” is valid and without contradictions, “checked” means that all metrics follow"
    " from the predictions at hand, which “kd-bench leaderboard --check” looks at. “kd-bench verify” computes a run"
    " again."
)
VERSION_LINE = f"Computed from records by kd_bench {__version__}."
EMPTY = "There are no finished student runs to rank."
EXPLANATIONS = (SCOPE_EXPLAINED, RANKS_EXPLAINED, INTERVALS_EXPLAINED, VERIFICATION_EXPLAINED)
TEACHER_COLUMNS = ("Teacher", "Dataset", "Recipe", "Seed", "Test top-1 %", "Parameters", "MACs", "Train s", "Run")
STATE_COLUMNS = (
    *("State", "Method", "Dataset", "Teacher", "Student", "Recipe", "Seed", "Epoch", "Cause", "Updated", "Run"),
)
AGGREGATE_COLUMNS = ("Method", "Seeds", "IQM of gap closed %", "Optimality gap %", "P(better than KD)")
AGGREGATES_EXPLAINED = (
    "Gap closed of every run: 0 is scratch, 100 the teacher. IQM is the mean of the middle half of all runs on all"
    " boards; the optimality gap is what is missing to 100 on average; P(better than KD) is the probability that a run"
    " beats one of KD on a board drawn at random. In brackets 95 % bootstrap intervals over seeds, those of scratch"
    " included, stratified by board and widened for few seeds. Only methods with three shared seeds on every board are"
    " compared; nothing is imputed."
)
# Columns of any table of a page that hold numbers.
NUMERIC_COLUMNS = frozenset(
    {"Cost", *AGGREGATE_COLUMNS[1:], "Seed", "Test top-1 %", "Parameters", "MACs", "Train s", "Epoch"}
)
HASH_LENGTH = 10
NAME_LIMIT = 60


@dataclass(frozen=True)
class Listing:
    """A plain table below the boards; ``caption`` is its short name."""

    title: str
    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]


def listings(leaderboard: Leaderboard) -> tuple[Listing, ...]:
    """Return the tables of teachers, of runs without a record and of rejected files."""
    found = leaderboard.collection
    rejected: list[tuple[str, ...]] = [(each.path, each.reason) for each in found.rejected]
    return (
        Listing("Teachers", "Teachers", TEACHER_COLUMNS, list(map(_teacher_row, leaderboard.teachers))),
        Listing("Failed and unfinished runs", "Runs", STATE_COLUMNS, list(map(_state_row, found.states))),
        Listing("Rejected files", "Files", ("File", "Reason"), rejected),
    )


def header(leaderboard: Leaderboard) -> str:
    """Return the line of the counts of what was found."""
    found = leaderboard.collection
    return counts(len(found.records), found.unfinished, found.failed, len(found.rejected))


def counts(records: int, unfinished: int, failed: int, rejected: int) -> str:
    """Return a line such as ``16 records, 0 unfinished, 0 failed, 0 rejected``."""
    noun = "record" if records == 1 else "records"
    return f"{records} {noun}, {unfinished} unfinished, {failed} failed, {rejected} rejected"


def facts(board: Board) -> list[str]:
    """Return sentences on what the numbers refer to: data, teacher, and how far the test split tells rows apart."""
    data = board.dataset
    height, width = data.image_size
    lines = [
        f"{data.num_classes} classes, {height}×{width} pixels. Trained on {data.train_samples}, validated on"
        f" {data.validation_samples}, tested on {data.test_samples} images (data {data.content_sha256[:HASH_LENGTH]})."
    ]
    if board.teacher:
        teacher = board.teacher
        lines.append(
            f"Teacher {visible(teacher.name, NAME_LIMIT)}: {percent(teacher.test_top1)} % test top-1,"
            f" {count(teacher.parameters)} parameters, {count(teacher.macs)} MACs"
            f" (weights {teacher.weights_sha256[:HASH_LENGTH]})."
        )
    accuracy = max(row.top1.mean for row in board.rows)
    width_of_sampling = sampling_half_width(accuracy, data.test_samples)
    if width_of_sampling:
        lines.append(
            f"Another test split of this size would move an accuracy of {percent(accuracy)} % by"
            f" ± {percent(width_of_sampling)} points (95 %)."
        )
    return [*lines, board.family.power()]


def aggregate_title(aggregate: Aggregate) -> str:
    """Return the heading of an aggregate."""
    return f"Over {len(aggregate.boards)} boards · {aggregate.recipe}"


def aggregate_rows(aggregate: Aggregate) -> list[tuple[str, ...]]:
    """Return the rows of the table of an aggregate."""
    return [
        (
            method.label,
            str(method.seeds),
            _with_interval(method.score, percent),
            percent(method.optimality_gap),
            MISSING if method.improvement is None else _with_interval(method.improvement, decimal),
        )
        for method in aggregate.methods
    ]


def _with_interval(value: Estimate, text: Callable[[float], str]) -> str:
    if value.low is None or value.high is None:
        return text(value.mean)
    return f"{text(value.mean)} [{text(value.low)}, {text(value.high)}]"


def _teacher_row(record: Record) -> tuple[str, ...]:
    return (
        record.student.name,
        record.dataset.name,
        record.recipe,
        str(record.seed),
        percent(record.headline().test.top1),
        count(record.student.parameters),
        count(record.student.macs),
        seconds(record.times.train_seconds),
        record.run_id,
    )


def _state_row(state: RunState) -> tuple[str, ...]:
    updated = state.updated_at if state.updated_at.tzinfo else state.updated_at.replace(tzinfo=timezone.utc)
    return (
        state.state,
        state.method,
        state.dataset,
        state.teacher or MISSING,
        state.student,
        state.recipe,
        str(state.seed),
        f"{state.epoch}/{state.epochs}",
        state.cause or MISSING,
        f"{updated.astimezone(timezone.utc):%Y-%m-%d %H:%M} UTC",
        state.run_id,
    )
