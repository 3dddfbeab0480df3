"""Logits that runs left, read without torch."""

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from kd_bench.errors import IntegrityError
from kd_bench.runs.record import Record

FILE = "predictions.safetensors"

Classes = npt.NDArray[np.int64]


def prediction_files(folders: list[Path]) -> dict[str, Path]:
    """Where the predictions of each run id lie below ``folders``."""
    return {path.parent.name: path for folder in folders for path in sorted(folder.rglob(FILE))}


def test_predictions(path: Path, record: Record, rule: str) -> tuple[Classes, Classes]:
    """Predicted classes and targets (N,) of the test split.

    Args:
        rule: the epoch: ``last``, ``best_on_validation`` or ``best_on_test``.

    Raises:
        IntegrityError: the file is not the one that the record was made of.
    """
    if (sha256 := record.artifacts.get(FILE)) and _sha256(path) != sha256:
        raise IntegrityError(f"{path} is not the file of its record: its content has changed")
    try:
        with safe_open(path, framework="numpy") as file:
            logits, targets = file.get_tensor(f"test/{rule}"), file.get_tensor("test/targets")
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from error
    return logits.argmax(axis=1), targets


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
