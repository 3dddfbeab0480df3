"""Measurements added to a finished run: the sections of a full evaluation and the metrics that it lacks."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kd_bench.config.files import file_sha256
from kd_bench.errors import IntegrityError
from kd_bench.evaluation import machine
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.full import FIELDS, NOT_ASKED_FOR, full_evaluation
from kd_bench.evaluation.latency import device_of
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.measured import FullEvaluation
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.records.states import now
from kd_bench.results.records.supplement import (
    EVALUATION_FILE,
    Evaluation,
    supplemented,
    with_supplement,
    write_evaluation,
)
from kd_bench.training.loop import torch_threads
from kd_bench.training.pair import load_student, load_teachers

CHANGED = 1e-3  # share of classes that may change between machines, because two logits were nearly equal


def add_sections(opened: OpenedRun, record: Record) -> Path | None:
    """Measure what is asked for and lacking, and write it to ``evaluation.json`` with what was measured before.

    Returns:
        The file; None if nothing is lacking.

    Raises:
        IntegrityError: a file of the run is damaged, or its weights do not give its predictions.
    """
    before = with_supplement(opened.directory / RECORD_FILE, record)
    reasons = before.full.not_measured if before.full else dict.fromkeys(sum(FIELDS.values(), ()), NOT_ASKED_FOR)
    lacking = [
        section
        for section in opened.config.evaluation.sections
        if any(reasons.get(field) == NOT_ASKED_FOR for field in FIELDS[section])
    ]
    config, present = opened.config, before.full.metrics if before.full else {}
    metrics = {name: node for name, node in config.metrics.items() if name not in present}
    if not lacking and not metrics:
        return None
    sections = config.evaluation.model_copy(update={"sections": lacking})
    asked = config.model_copy(update={"evaluation": sections, "metrics": metrics})
    load_student(opened.pair, opened.directory)
    if opened.pair.teacher is not None:
        load_teachers(opened.pair.teacher, opened.teachers)
    evaluation = measured(record, opened.directory, replace(opened, config=asked))
    path = opened.directory / EVALUATION_FILE
    write_evaluation(evaluation.model_copy(update={"full": supplemented(before, evaluation).full}), path)
    return path


def measured(record: Record, directory: Path, opened: OpenedRun | None) -> Evaluation:
    """Measure a finished run from its predictions and, where it is opened with its weights, in full.

    Raises:
        IntegrityError: as ``add_sections``.
    """
    predictions = _predictions(record, directory)
    epochs = {rule: selected.epoch for rule, selected in record.metrics if selected is not None}
    return Evaluation(
        run_id=record.run_id,
        evaluated_at=now(),
        code=machine.code(),
        environment=machine.environment(),
        hardware=machine.hardware(device_of(opened.config) if opened else torch.device("cpu")),
        metrics=metrics_of(predictions, epochs),
        full=_full(opened, record, predictions) if opened else None,
    )


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
        return full_evaluation(opened, predictions)
