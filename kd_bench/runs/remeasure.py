"""Measuring a finished run again: from its predictions, and in full from its weights."""

from dataclasses import dataclass
from pathlib import Path

from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.supplement import EVALUATION_FILE, Evaluation, read_evaluation, write_evaluation
from kd_bench.runs.added import measured
from kd_bench.runs.restore import restore


@dataclass(frozen=True)
class Evaluated:
    """The measurements of a finished run.

    Attributes:
        differences: numbers of the record that the predictions do not give.
    """

    record: Record
    evaluation: Evaluation
    differences: list[str]


def evaluate(directory: Path, full: bool, overrides: list[str]) -> Evaluated:
    """Measure the finished run in ``directory``; nothing is written.

    Args:
        full: also what needs the weights; the runs of its teachers must lie beside it then.
        overrides: of the configuration, for a full evaluation: ``paths.data=DIR``, ``evaluation.sections=[latency]``.

    Raises:
        ConfigError: there is no such run, or an override that there is not.
        IntegrityError: a file of the run is damaged, or its weights do not give its predictions.
    """
    record = read_record(directory / RECORD_FILE)
    opened = restore(record, directory, ["evaluation=full", *overrides]) if full else None
    evaluation = measured(record, directory, opened)
    assert evaluation.metrics is not None  # null in published files alone
    return Evaluated(record, evaluation, metric_differences(record.metrics, evaluation.metrics))


def write(evaluated: Evaluated, directory: Path) -> Path:
    """Write ``evaluation.json`` beside the record.

    Raises:
        IntegrityError: the record contradicts what was measured.
        ConfigError: a full evaluation would be lost.
    """
    if evaluated.differences:
        raise IntegrityError(f"nothing is written: {evaluated.differences[0]}")
    path = directory / EVALUATION_FILE
    if evaluated.evaluation.full is None and path.exists() and read_evaluation(path).full is not None:
        raise ConfigError(f"--write: {path} holds a full evaluation, which would be lost; add --full, or delete it")
    write_evaluation(evaluated.evaluation, path)
    return path
