"""Variants of a finished run: its student quantised, evaluated again, with a record that boards show beside its own."""

import copy
import os
import socket
import time
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

import onnx
import torch
from torch import Tensor

from kd_bench.config.files import file_sha256, write_atomically
from kd_bench.errors import IntegrityError
from kd_bench.evaluation.evaluate import metrics_of
from kd_bench.evaluation.machine import code, environment, hardware
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.models.weights import as_bytes, save_tensors, weights_sha256
from kd_bench.results.checking.configuration import expected_run_id
from kd_bench.results.records.directory import PREDICTIONS_FILE, claim, finished
from kd_bench.results.records.record import RECORD_FILE, Record, Times, read_record, write_record
from kd_bench.results.records.states import RunState, now, process_start, write_state

INT8_FILE = "student.int8.onnx"
INT8 = "int8"


def add_variant(record: Record, directory: Path, content: bytes, logits: dict[str, Tensor]) -> Record:
    """Write the int8 variant of a run to a directory of its own beside it, as ``<method> int8``.

    A variant that is there already stays as it is: records never change.

    Args:
        record: of the run, in ``directory``.
        content: the quantised ONNX model.
        logits: (N, K) that it gives, by split.

    Raises:
        IntegrityError: the run's predictions or those that it learned from are absent, or the disk is full.
    """
    started = now(), time.perf_counter()
    named = _named(record)
    run_id = _run_id(named, directory.parent)
    with claim(directory.parent, run_id, wait=True) as place:
        if (there := finished(place)) is not None:
            return there
        predictions = _predictions(record, directory, logits)
        write_atomically(place / INT8_FILE, content)
        save_tensors(predictions, place / PREDICTIONS_FILE)
        variant = _record(named, run_id, place, content, predictions, started)
        write_state(_state(variant), place)
        write_record(variant, place / RECORD_FILE)
    return variant


def _named(record: Record) -> Record:
    """Return the record under the name of its variant, in its configuration as well."""
    name = f"{record.method.name} {INT8}"
    config = copy.deepcopy(record.config)
    config["names"]["method"] = name
    method = record.method.model_copy(update={"name": name})
    kept = [each for each in record.overrides or () if each.partition("=")[0] != "names.method"]
    overrides = None if record.overrides is None else [*kept, f"names.method='{name}'"]
    return record.model_copy(update={"config": config, "method": method, "overrides": overrides})


def _run_id(named: Record, runs: Path) -> str:
    def weights_of(run_id: str) -> str | None:
        path = runs / run_id / RECORD_FILE
        return read_record(path).student.weights_sha256 if path.is_file() else None

    run_id = expected_run_id(named, weights_of)
    if run_id is None:
        learned = ", ".join(named.method.trained_from) or "its teachers"
        raise IntegrityError(f"run {named.run_id}: the runs that it learned from ({learned}) are not in {runs}")
    return run_id


def _predictions(record: Record, directory: Path, logits: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the predictions of the run with those of its variant in the place of each selection rule's."""
    path = directory / PREDICTIONS_FILE
    saved = load_predictions(path)
    if file_sha256(path) != record.artifacts.get(PREDICTIONS_FILE):
        raise IntegrityError(f"{path} is not the file of its record: its content has changed")
    rules = [rule for rule, metrics in record.metrics if metrics is not None]
    return saved | {f"{split}/{rule}": values for split, values in logits.items() for rule in rules}


def _record(
    named: Record,
    run_id: str,
    place: Path,
    content: bytes,
    predictions: dict[str, Tensor],
    started: tuple[datetime, float],
) -> Record:
    epoch = named.headline().epoch
    rules = [rule for rule, metrics in named.metrics if metrics is not None]
    initializers = onnx.load_from_string(content).graph.initializer
    tensors = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in initializers}
    began, clock = started
    own = environment()
    update = {
        "run_id": run_id,
        "variant_of": named.run_id,
        "student": named.student.model_copy(
            update={"weights_sha256": weights_sha256(tensors), "file_bytes": len(as_bytes(tensors))}
        ),
        "code": code().model_copy(update={"plugins": named.code.plugins}),
        "environment": own.model_copy(
            update={"packages": own.packages | {name: version(name) for name in ("onnx", "onnxruntime")}}
        ),
        "hardware": hardware(torch.device("cpu")),
        "times": Times(
            started_at=began,
            finished_at=now(),
            train_seconds=named.times.train_seconds,
            evaluation_seconds=time.perf_counter() - clock,
            teacher_train_seconds=named.times.teacher_train_seconds,
            resumed=0,
        ),
        "metrics": metrics_of(predictions, dict.fromkeys(rules, epoch)),
        "history": [],
        "artifacts": {name: file_sha256(place / name) for name in (PREDICTIONS_FILE, INT8_FILE)},
        "cost": None,
        "full": None,
    }
    return Record.model_validate(named.model_copy(update=update).model_dump())


def _state(record: Record) -> RunState:
    return RunState(
        run_id=record.run_id,
        state="completed",
        role=record.role,
        study=record.study,
        dataset=record.dataset.name,
        teacher=record.teacher.name if record.teacher else None,
        student=record.student.name,
        method=record.method.name,
        recipe=record.recipe,
        seed=record.seed,
        epoch=record.metrics.last.epoch,
        epochs=record.metrics.last.epoch,
        host=socket.gethostname(),
        pid=os.getpid(),
        pid_since=process_start(os.getpid()),
        updated_at=now(),
    )
