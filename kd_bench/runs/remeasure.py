"""Measuring a finished run again: from its predictions, and in full from its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd_bench.config.files import file_sha256
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation import machine as provenance
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.full import full_evaluation
from kd_bench.evaluation.latency import device_of
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.measured import FullEvaluation
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import now
from kd_bench.results.records.supplement import EVALUATION_FILE, Evaluation, read_evaluation, write_evaluation
from kd_bench.runs.restore import restore
from kd_bench.training.loop import torch_threads

CHANGED = 1e-3  # share of classes that may change between machines, because two logits were nearly equal


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
    predictions = _predictions(record, directory)
    epochs = {rule: selected.epoch for rule, selected in record.metrics if selected is not None}
    metrics = metrics_of(predictions, epochs)
    device, measured = torch.device("cpu"), None
    if full:
        opened = restore(record, directory, ["evaluation=full", *overrides])
        device, measured = device_of(opened.config), _full(opened, record, predictions)
    evaluation = Evaluation(
        run_id=record.run_id,
        evaluated_at=now(),
        code=provenance.code(),
        environment=provenance.environment(),
        hardware=provenance.hardware(device),
        metrics=metrics,
        full=measured,
    )
    return Evaluated(record, evaluation, metric_differences(record.metrics, metrics))


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


def _predictions(record: Record, directory: Path) -> dict[str, Tensor]:
    path = directory / PREDICTIONS_FILE
    predictions = load_predictions(path)
    if file_sha256(path) != record.artifacts.get(PREDICTIONS_FILE):
        raise IntegrityError(f"{path} is not the file of its record: its content has changed")
    return predictions


def _full(opened: OpenedRun, record: Record, predictions: dict[str, Tensor]) -> FullEvaluation | None:
    data = opened.data
    with torch_threads(opened.config.trainer.threads):
        computed = opened.student_logits(data.evaluation_loader(data.test)).argmax(dim=1)
        saved = predictions[f"test/{record.selection}"].argmax(dim=1)
        if (changed := int((computed != saved).sum())) > CHANGED * len(saved):
            raise IntegrityError(
                f"{opened.directory}: its weights predict another class than {PREDICTIONS_FILE} on {changed} of "
                f"{len(saved)} test images"
            )
        return full_evaluation(opened)
