"""Predictions of several runs held against each other: labels of one data set, answers of one teacher. No torch."""

import hashlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kd_bench.results.checking.together import SAMPLES_APART, Agreement, own_key, teacher_key
from kd_bench.results.records.record import Record


def prediction_contradictions(found: Iterable[tuple[Path, Record, Path]]) -> dict[Path, list[str]]:
    """Find runs whose predictions contradict those of others, each by the path of its record, with the reasons.

    Nothing is said of files that cannot be read; what they should hold is checked elsewhere.

    Args:
        found: paths of records, the records, and their files of predictions.
    """
    labels: Agreement[Path] = Agreement(lambda value: f"test/targets are {value[:10]}")
    answers: Agreement[Path] = Agreement(lambda value: f"test/teacher is {_name(value)}", _nearly_equal)
    items = list(found)
    teachers = {teacher_key(record) for _, record, _ in items if record.teacher}
    for path, record, file in items:
        for name, values in _read(file, record).items():
            if name == "targets":
                labels.add(record.dataset.content_sha256, hashlib.sha256(values.tobytes()).hexdigest(), path)
            elif name == "teacher":
                answers.add(teacher_key(record), values, path)
            elif (own := own_key(record)) in teachers:
                answers.add(own, values, path, decides=True)
    problems: dict[Path, list[str]] = {}
    for agreement in (labels, answers):
        for path, problem in agreement.problems():
            problems.setdefault(path, []).append(f"predictions: {problem}")
    return problems


def _read(file: Path, record: Record) -> dict[str, np.ndarray[Any, Any]]:
    """Read labels and the classes that teacher and student predict, in the order of the test split."""
    names = {"targets": "test/targets", "teacher": "test/teacher", "student": f"test/{record.selection}"}
    try:
        with safe_open(file, framework="numpy") as arrays:
            kept = {name: arrays.get_tensor(key) for name, key in names.items() if key in arrays.keys()}  # noqa: SIM118
            order = np.argsort(arrays.get_tensor("test/index"), kind="stable")
        sorted_ = {name: values[order] for name, values in kept.items()}
        return {name: values.argmax(1) if values.ndim == 2 else values for name, values in sorted_.items()}
    except (OSError, SafetensorError, ValueError, TypeError, IndexError):
        return {}


def _nearly_equal(first: np.ndarray[Any, Any], second: np.ndarray[Any, Any]) -> bool:
    if first.shape != second.shape:
        return False
    return int((first != second).sum()) <= max(1, SAMPLES_APART * len(first))


def _name(values: Hashable) -> str:
    return hashlib.sha256(np.asarray(values).tobytes()).hexdigest()[:10]
