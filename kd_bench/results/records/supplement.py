"""Measurements added to a finished run: ``evaluation.json`` beside its record, which itself never changes. No torch."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from kd_bench.config.files import write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.measured import FullEvaluation, Metrics, Strict
from kd_bench.results.records.reading import read_text
from kd_bench.results.records.record import (
    RECORD_FILE,
    CodeInfo,
    Environment,
    Hardware,
    Record,
    RunId,
    Time,
    problems_in,
)

EVALUATION_FILE = "evaluation.json"


class Evaluation(Strict):
    """Measurements that ``kd-bench evaluate --write`` made of a run, and where it made them."""

    schema_version: Literal[1] = 1
    run_id: RunId
    evaluated_at: Time
    code: CodeInfo
    environment: Environment
    hardware: Hardware
    metrics: Annotated[Metrics | None, Field(description="null in published files if the record says the same")] = None
    full: FullEvaluation | None


def supplement_path(record: Path) -> Path:
    """Return ``evaluation.json`` beside a ``record.json``, or ``seed0.evaluation.json`` beside a ``seed0.json``."""
    name = EVALUATION_FILE if record.name == RECORD_FILE else f"{record.stem}.{EVALUATION_FILE}"
    return record.with_name(name)


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write a supplement.

    Raises:
        IntegrityError: the file cannot be written.
    """
    write_atomically(path, evaluation.model_dump_json(indent=1) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read and check a supplement.

    Raises:
        IntegrityError: it cannot be read or is none.
    """
    try:
        return Evaluation.model_validate_json(read_text(path))
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a valid evaluation: {'; '.join(problems_in(error))}") from None


def supplemented(record: Record, evaluation: Evaluation) -> Record:
    """Return the record with what only its supplement has. Nothing that the record says is replaced.

    Raises:
        IntegrityError: the supplement belongs to another run or contradicts the record.
    """
    if evaluation.run_id != record.run_id:
        raise IntegrityError(f"it is of run {evaluation.run_id}, not of {record.run_id}")
    if evaluation.metrics and (contradictions := metric_differences(record.metrics, evaluation.metrics)):
        raise IntegrityError(f"it contradicts the record: {contradictions[0]}")
    own, added = (each.model_dump(include={"metrics", "full"}) for each in (record, evaluation))
    filled = _filled(own, added)
    metrics = Metrics.model_validate(filled["metrics"])
    full = FullEvaluation.model_validate(filled["full"]) if filled["full"] else None
    return record.model_copy(update={"metrics": metrics, "full": full})


def with_supplement(path: Path, record: Record) -> Record:
    """Return the record at ``path`` with its supplement, if there is one.

    Raises:
        IntegrityError: that file is no evaluation of this record; the message begins with its path.
    """
    beside = supplement_path(path)
    if not os.path.lexists(beside):
        return record
    try:
        return supplemented(record, read_evaluation(beside))
    except IntegrityError as error:
        raise IntegrityError(f"{beside} {str(error).removeprefix(f'{beside} ')}") from None


def _filled(own: Any, added: Any) -> Any:
    """Return ``own`` with values of ``added`` for what was not measured, and without the reasons why not."""
    if own is None:
        return added
    if not isinstance(own, dict) or not isinstance(added, dict):
        return own
    filled = {name: _filled(own.get(name), added.get(name)) for name in {**own, **added}}
    if "not_measured" in filled:
        filled["not_measured"] = {
            path: reason for path, reason in filled["not_measured"].items() if not _measured(filled, path)
        }
    return filled


def _measured(values: Any, path: str) -> bool:
    for name in path.split("."):
        values = values.get(name) if isinstance(values, dict) else None
    return bool(values)
