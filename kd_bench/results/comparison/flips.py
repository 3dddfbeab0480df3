"""Predictions that runs left, read without torch."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from kd_bench.config.files import file_sha256
from kd_bench.errors import IntegrityError
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import Record

Classes = npt.NDArray[np.int64]


def prediction_files(folders: Iterable[Path]) -> dict[str, Path]:
    """Find the file of predictions of each run id below ``folders``."""
    return {path.parent.name: path for folder in folders for path in sorted(folder.rglob(PREDICTIONS_FILE))}


def test_predictions(path: Path, record: Record, rule: str) -> tuple[Classes, Classes]:
    """Read predicted classes and targets (N,) of the test split.

    Args:
        rule: the rule that selects the epoch: ``last``, ``best_on_validation`` or ``best_on_test``.

    Raises:
        IntegrityError: the file cannot be read or is not the one that the record was made of.
    """
    if (sha256 := record.artifacts.get(PREDICTIONS_FILE)) and file_sha256(path) != sha256:
        raise IntegrityError(f"{path} is not the file of its record: its content has changed")
    try:
        with safe_open(path, framework="numpy") as file:
            logits, targets = file.get_tensor(f"test/{rule}"), file.get_tensor("test/targets")
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
    expected = (record.dataset.test_samples, record.dataset.num_classes)
    if logits.shape != expected or targets.shape != expected[:1]:
        raise IntegrityError(f"{path}: logits of shape {logits.shape} and targets of {targets.shape}, not {expected}")
    predicted = logits.argmax(axis=1)
    if not np.isclose(np.mean(predicted == targets), getattr(record.metrics, rule).test.top1, rtol=0, atol=1e-9):
        raise IntegrityError(f"{path} is not the file of its record: its accuracy is another one")
    return predicted, targets
