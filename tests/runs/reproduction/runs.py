"""Records of runs of published cells, as the program itself would write their configurations."""

import json
from collections.abc import Sequence
from functools import cache
from typing import Any

from support.records import digest, record_content

from kd_bench.config.check import check
from kd_bench.config.schema import RunConfig
from kd_bench.results.records.record import Record
from kd_bench.runs.reproduction.cells import Cell, chosen_cells, composed_cells, table_cells
from kd_bench.runs.studies.grid import StudyRun


def cell_of(table: str, method: str, pair: str) -> Cell:
    (cell,) = chosen_cells(table_cells(table), [method], [pair])
    return cell


@cache
def _composed(table: str, method: str, pair: str) -> StudyRun:
    (run,) = composed_cells([cell_of(table, method, pair)], [])
    return run


def composed_once(cells: Sequence[Cell], overrides: list[str]) -> list[StudyRun]:
    """``composed_cells``, which takes a sixth of a second a cell, for tests that ask for one cell again and again."""
    assert not overrides
    return [_composed(cell.table, cell.method, cell.pair) for cell in cells]


@cache
def _checked(table: str, method: str, pair: str, overrides: tuple[str, ...]) -> RunConfig:
    (run,) = composed_cells([cell_of(table, method, pair)], list(overrides))
    return check(run.cfg)


def runs_of(cell: Cell, top1: list[float], *overrides: str, **kwargs: Any) -> list[Record]:
    """One record a value, for seeds 0, 1, ...; ``overrides`` lead away from the protocol."""
    config = _checked(cell.table, cell.method, cell.pair, overrides)
    teacher, student = cell.networks
    records = []
    for seed, value in enumerate(top1):
        content = record_content(
            cell.choice,
            seed,
            value,
            **{
                "teacher": teacher,
                "student": student,
                "dataset": "cifar100",
                "recipe": config.names.recipe,
                "selection": config.recipe.selection,
                "teacher_top1": cell.teacher_top1,
                **kwargs,
            },
        )
        content["config"] = config.model_copy(update={"seed": seed}).recorded()
        if config.recipe.selection == "best_on_test":
            # The last epoch is worse, by far: whoever compares it is found out.
            content["metrics"]["best_on_test"] = json.loads(json.dumps(content["metrics"]["last"]))
            content["metrics"]["last"]["test"]["top1"] = 0.5
        content["run_id"] = digest(cell.label, seed, overrides, sorted(kwargs.items()))[:16]
        content["student"]["weights_sha256"] = digest("weights", content["run_id"])
        records.append(Record.model_validate_json(json.dumps(content)))
    return records


def with_top1(records: list[Record], top1: list[float]) -> list[Record]:
    """The same runs with other results."""
    changed = []
    for record, value in zip(records, top1, strict=True):
        content = json.loads(record.model_dump_json())
        content["metrics"][record.selection]["test"]["top1"] = value
        changed.append(Record.model_validate_json(json.dumps(content)))
    return changed
