"""A finished run measured again: from its predictions, and in full from its weights."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from kd_bench.config.files import file_sha256
from kd_bench.errors import ConfigError, IntegrityError
from kd_bench.evaluation import machine as provenance
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.full import Trained, full_evaluation
from kd_bench.evaluation.latency import device_of
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.measured import FullEvaluation, Metrics
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.results.records.states import now
from kd_bench.results.records.supplement import EVALUATION_FILE, Evaluation, read_evaluation, write_evaluation
from kd_bench.runs.restore import Restored, restore
from kd_bench.training.loop import torch_threads

CHANGED = 1e-3  # share of classes that may change between machines, because two logits were nearly equal


@dataclass(frozen=True)
class Evaluated:
    """What was measured of a run. ``differences``: numbers of its record that its predictions do not give."""

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
    device, measured = "cpu", None
    if full:
        restored = restore(record, directory, ["evaluation=full", *overrides])
        device = str(device_of(restored.config))
        measured = _full(restored, record, directory, predictions)
    return Evaluated(
        record, _evaluation(record, metrics, measured, device), metric_differences(record.metrics, metrics)
    )


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


def _full(restored: Restored, record: Record, directory: Path, predictions: dict[str, Tensor]) -> FullEvaluation | None:
    config, data = restored.config, restored.data
    trained = Trained(config, restored.pair, data, directory, restored.teachers)
    with torch_threads(config.trainer.threads):
        computed = trained.student_logits(data.evaluation_loader(data.test)).argmax(dim=1)
        saved = predictions[f"test/{record.selection}"].argmax(dim=1)
        if (changed := int((computed != saved).sum())) > CHANGED * len(saved):
            raise IntegrityError(
                f"{directory}: its weights predict another class than {PREDICTIONS_FILE} on {changed} of {len(saved)} "
                "test images"
            )
        return full_evaluation(trained)


def _evaluation(record: Record, metrics: Metrics, full: FullEvaluation | None, device: str) -> Evaluation:
    return Evaluation(
        run_id=record.run_id,
        evaluated_at=now(),
        code=provenance.code(),
        environment=provenance.environment(),
        hardware=provenance.hardware(torch.device(device)),
        metrics=metrics,
        full=full,
    )
