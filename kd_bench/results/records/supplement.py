"""Measurements added to a finished run: ``evaluation.json`` beside its record, which itself never changes. No torch."""

from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kd_bench.config.files import write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.measured import FullEvaluation, Metrics, Strict
from kd_bench.results.records.record import RECORD_FILE, CodeInfo, Environment, Hardware, Record, RunId, problems_in

EVALUATION_FILE = "evaluation.json"


class Evaluation(Strict):
    """What ``kd-bench evaluate --write`` measured of a run, and where."""

    schema_version: Literal[1] = 1
    run_id: RunId
    evaluated_at: datetime
    code: CodeInfo
    environment: Environment
    hardware: Hardware
    metrics: Metrics
    full: FullEvaluation | None


def supplement_path(record: Path) -> Path:
    """Beside ``record.json`` of a run, or ``seed0.evaluation.json`` beside a published ``seed0.json``."""
    name = EVALUATION_FILE if record.name == RECORD_FILE else f"{record.stem}.{EVALUATION_FILE}"
    return record.with_name(name)


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    write_atomically(path, evaluation.model_dump_json(indent=1) + "\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read and check a supplement.

    Raises:
        IntegrityError: it cannot be read or is none.
    """
    try:
        return Evaluation.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise IntegrityError(f"{path} is not a valid evaluation: {'; '.join(problems_in(error))}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None


def supplemented(record: Record, evaluation: Evaluation) -> Record:
    """The record with what only its supplement has. Nothing that the record says is replaced.

    Raises:
        IntegrityError: the supplement belongs to another run or contradicts the record.
    """
    if evaluation.run_id != record.run_id:
        raise IntegrityError(f"it is of run {evaluation.run_id}, not of {record.run_id}")
    if contradictions := metric_differences(record.metrics, evaluation.metrics):
        raise IntegrityError(f"it contradicts the record: {contradictions[0]}")
    own, added = (each.model_dump(include={"metrics", "full"}) for each in (record, evaluation))
    filled = _filled(own, added)
    metrics = Metrics.model_validate(filled["metrics"])
    full = FullEvaluation.model_validate(filled["full"]) if filled["full"] else None
    return record.model_copy(update={"metrics": metrics, "full": full})


def with_supplement(path: Path, record: Record) -> Record:
    """The record at ``path`` with what lies beside it, if anything does.

    Raises:
        IntegrityError: that file is no evaluation of this record, with its path.
    """
    beside = supplement_path(path)
    if not beside.exists():
        return record
    try:
        return supplemented(record, read_evaluation(beside))
    except IntegrityError as error:
        raise IntegrityError(f"{beside} {str(error).removeprefix(f'{beside} ')}") from None


def _filled(own: Any, added: Any) -> Any:
    """``own`` with values of ``added`` in the place of what was not measured; then its reasons are gone, too."""
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
