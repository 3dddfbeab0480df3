"""The leaderboard as JSON: typed, with its JSON Schema in ``leaderboard.schema.json`` beside this module.

A test keeps that equal to ``schema_text``. Accuracies, rates and errors are fractions, differences are of fractions,
``null`` is missing. Texts are as the records have them: escape them.
"""

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from kd_bench import __version__
from kd_bench.results.leaderboard.aggregates import THRESHOLDS, Aggregate
from kd_bench.results.leaderboard.board import Board
from kd_bench.results.leaderboard.building import Leaderboard
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.records.measured import Strict
from kd_bench.results.statistics.intervals import Estimate
from kd_bench.results.statistics.ranking import Evidence
from kd_bench.results.statistics.simultaneous import Claim, Comparison

FORMAT_VERSION: Literal[2] = 2
SCHEMA_FILE = Path(__file__).with_name("leaderboard.schema.json")


class EstimateDocument(Strict):
    """A mean over ``n`` values with its 95 % interval, which needs two of them."""

    mean: float | int
    low: float | int | None
    high: float | int | None
    n: Annotated[int, Field(ge=1)]


class ComparisonDocument(Strict):
    """A row compared with a baseline on shared seeds, in the family of all pairs of ranked rows of the board.

    Interval and p value are null where nothing was tested: below three shared seeds and where these differ alike.
    """

    difference: float | None
    shared_seeds: Annotated[int, Field(ge=0)]
    low: Annotated[float | None, Field(description="of the simultaneous 95 % interval")]
    high: float | None
    p_value: Annotated[float | None, Field(description="adjusted for all pairs of the board")]
    claim: Claim


class MetricDocument(Strict):
    """Meaning of a metric."""

    title: str
    explanation: str
    unit: str
    lower_is_better: bool


class RunDocument(Strict):
    """A run of a row."""

    run_id: str
    seed: int
    test_top1: float


class RowDocument(Strict):
    """A method in one configuration, over its seeds."""

    rank: Annotated[list[int] | None, Field(description="first and last rank that it can have; null below 3 seeds")]
    evidence: Evidence
    significantly_best: bool
    method: str
    generation: int
    options: Annotated[dict[str, str], Field(description="what tells it from rows of one name, as JSON values")]
    family: str
    paper: str
    selection: str
    runs: list[RunDocument]
    failed_runs_of_method: int
    unfinished_runs_of_method: int
    further_runs_left_out: int
    finished_on: str
    test_top1: EstimateDocument
    versus_scratch: ComparisonDocument | None
    versus_kd: ComparisonDocument | None
    retention: float | None
    retention_over_chance: float | None
    gap_closed: float | None
    metrics: Annotated[
        dict[str, EstimateDocument], Field(description="by the keys of metrics; missing ones are absent")
    ]
    noise_floors: Annotated[dict[str, float], Field(description="what a perfectly calibrated model would have")]


class BoardDocument(Strict):
    """Rows that may be compared, and what they share."""

    identifier: str
    dataset: str
    dataset_sha256: str
    test_samples: int
    teacher: str | None
    teacher_weights_sha256: str | None
    teacher_test_top1: float | None
    student: str
    recipe: str
    options: dict[str, str]
    power: Annotated[str, Field(description="which differences are too small for these seeds")]
    notes: list[str]
    rows: list[RowDocument]


class MethodAggregateDocument(Strict):
    """A method over several boards."""

    method: str
    seeds: int
    gap_closed_iqm: EstimateDocument
    optimality_gap: float
    probability_better_than_kd: EstimateDocument | None
    profile: Annotated[list[float], Field(description="share of runs above each threshold")]


class AggregateDocument(Strict):
    """Methods of one recipe over several boards."""

    recipe: str
    boards: Annotated[list[str], Field(description="identifiers")]
    thresholds: Annotated[list[float], Field(description="of gap closed")]
    methods: list[MethodAggregateDocument]
    notes: list[str]


class RejectedDocument(Strict):
    """A file that is no valid record."""

    path: str
    reason: str


class LeaderboardDocument(Strict):
    """All that the page shows of rows."""

    format_version: Literal[2]
    kd_bench_version: str
    records: int
    failed: int
    unfinished: int
    rejected: list[RejectedDocument]
    metrics: dict[str, MetricDocument]
    boards: list[BoardDocument]
    aggregates: list[AggregateDocument]


def json_text(leaderboard: Leaderboard) -> str:
    """Return the leaderboard as JSON that fits the schema."""
    found = leaderboard.collection
    document = LeaderboardDocument(
        format_version=FORMAT_VERSION,
        kd_bench_version=__version__,
        records=len(found.records),
        failed=found.failed,
        unfinished=found.unfinished,
        rejected=[RejectedDocument(path=item.path, reason=item.reason) for item in found.rejected],
        metrics={
            key: MetricDocument(
                title=metric.title,
                explanation=metric.explanation,
                unit=metric.unit,
                lower_is_better=metric.lower,
            )
            for key, metric in METRICS.items()
        },
        boards=[_board(board) for board in leaderboard.boards],
        aggregates=[_aggregate(aggregate) for aggregate in leaderboard.aggregates],
    )
    return document.model_dump_json(indent=1) + "\n"


def _board(board: Board) -> BoardDocument:
    teacher = board.teacher
    return BoardDocument(
        identifier=board.identifier,
        dataset=board.dataset.name,
        dataset_sha256=board.dataset.content_sha256,
        test_samples=board.dataset.test_samples,
        teacher=teacher.name if teacher else None,
        teacher_weights_sha256=teacher.weights_sha256 if teacher else None,
        teacher_test_top1=teacher.test_top1 if teacher else None,
        student=board.student,
        recipe=board.recipe,
        options=dict(board.options),
        power=board.family.power(),
        notes=list(board.notes),
        rows=[_row(row) for row in board.rows],
    )


def _row(row: Row) -> RowDocument:
    entry, method = row.entry, row.entry.latest.method
    runs = [RunDocument(run_id=run.run_id, seed=run.seed, test_top1=entry.scores[run.seed]) for run in entry.runs]
    metrics = {key: _estimate(value) for key, value in row.metrics.items()}
    return RowDocument(
        rank=list(row.rank) if row.rank else None,
        evidence=row.evidence,
        significantly_best=row.best,
        method=entry.name,
        generation=entry.generation,
        options=dict(entry.options),
        family=method.family,
        paper=method.paper,
        selection=entry.selection,
        runs=runs,
        failed_runs_of_method=row.failed,
        unfinished_runs_of_method=row.unfinished,
        further_runs_left_out=entry.left_out,
        finished_on=entry.finished_on,
        test_top1=_known(row.top1),
        versus_scratch=_comparison(row.versus_scratch),
        versus_kd=_comparison(row.versus_kd),
        retention=row.retention,
        retention_over_chance=row.retention_over_chance,
        gap_closed=row.gap_closed,
        metrics={key: value for key, value in metrics.items() if value is not None},
        noise_floors={key: value for key, value in row.floors.items() if value is not None},
    )


def _known(value: Estimate) -> EstimateDocument:
    return EstimateDocument(mean=value.mean, low=value.low, high=value.high, n=value.n)


def _estimate(value: Estimate | None) -> EstimateDocument | None:
    return None if value is None else _known(value)


def _comparison(found: Comparison | None) -> ComparisonDocument | None:
    if found is None:
        return None
    return ComparisonDocument(
        difference=found.difference,
        shared_seeds=found.seeds,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        claim=found.claim,
    )


def _aggregate(aggregate: Aggregate) -> AggregateDocument:
    methods = [
        MethodAggregateDocument(
            method=method.label,
            seeds=method.seeds,
            gap_closed_iqm=_known(method.score),
            optimality_gap=method.optimality_gap,
            probability_better_than_kd=_estimate(method.improvement),
            profile=list(method.profile),
        )
        for method in aggregate.methods
    ]
    return AggregateDocument(
        recipe=aggregate.recipe,
        boards=[board.identifier for board in aggregate.boards],
        thresholds=list(THRESHOLDS),
        methods=methods,
        notes=list(aggregate.notes),
    )


def schema_text() -> str:
    """Return the JSON Schema of the document."""
    return json.dumps(LeaderboardDocument.model_json_schema(), indent=1, sort_keys=True) + "\n"
