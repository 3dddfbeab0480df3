"""Runs with predictions: records of the factory whose accuracy is that of the logits beside them."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from support.records import record_content, split_metrics

from kd_bench.results.records.record import Record

SAMPLES, CLASSES = 400, 4
TARGETS = np.arange(SAMPLES) % CLASSES


def guesses(number: int, accuracy: float) -> np.ndarray:
    """Predicted classes (N,) that are right with this probability."""
    random = np.random.default_rng(number)
    wrong = (TARGETS + random.integers(1, CLASSES, SAMPLES)) % CLASSES
    return np.where(random.random(SAMPLES) < accuracy, TARGETS, wrong)


def save_run(
    folder: Path, method: str, seed: int, predicted: np.ndarray, hashed: bool = True, study: str = "one", **kwargs: Any
) -> Record:
    """A run of these predictions in ``folder / run id``; ``best``: other predictions, of the epoch best on test."""
    best = kwargs.pop("best", None)
    content = record_content(method, seed, float(np.mean(predicted == TARGETS)), samples=SAMPLES, **kwargs)
    content["study"] = study
    tensors = {"test/last": _logits(predicted), "test/targets": TARGETS}
    if best is not None:
        content["metrics"]["best_on_test"] = json.loads(json.dumps(content["metrics"]["last"]))
        top1, teacher = float(np.mean(best == TARGETS)), content["teacher"] and content["teacher"]["test_top1"]
        content["metrics"]["best_on_test"]["test"] = split_metrics(top1, teacher, SAMPLES)
        tensors["test/best_on_test"] = _logits(best)
    run = folder / content["run_id"]
    run.mkdir(parents=True)
    path = run / "predictions.safetensors"
    save_file(tensors, path)
    if hashed:
        content["artifacts"] = {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    (run / "record.json").write_text(json.dumps(content))
    return Record.model_validate_json(json.dumps(content))


def _logits(predicted: np.ndarray) -> np.ndarray:
    return np.eye(CLASSES, dtype=np.float32)[predicted] * 3


def save_seeds(folder: Path, method: str, predictions: list[np.ndarray], **kwargs: Any) -> list[Record]:
    return [save_run(folder, method, seed, predicted, **kwargs) for seed, predicted in enumerate(predictions)]
