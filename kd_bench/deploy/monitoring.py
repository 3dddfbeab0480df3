"""Monitoring of a student: its reference statistics, drift of predictions in use, and what a new student changes."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from kd_bench.config.files import file_sha256
from kd_bench.deploy.changes import Changes, changes
from kd_bench.deploy.columnar import Array
from kd_bench.deploy.drift import DriftTest, drift_tests
from kd_bench.deploy.policy import DriftBounds
from kd_bench.deploy.reference import REFERENCE_FILE, Reference, make_reference, read_reference, write_reference
from kd_bench.deploy.scores import read_scores, scores_of
from kd_bench.errors import IntegrityError
from kd_bench.evaluation.predictions import embed, load_predictions
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import RECORD_FILE, Record, read_record
from kd_bench.runs.restore import restore


@dataclass(frozen=True)
class Monitored:
    """A run with its reference statistics, and where these are."""

    record: Record
    reference: Reference
    path: Path


def reference_of(directory: Path, overrides: list[str]) -> Monitored:
    """Read the reference statistics of a run, or make and write them: that takes its weights and the test images.

    Args:
        overrides: of the configuration, such as ``paths.data=DIR``.

    Raises:
        IntegrityError: a file of the run is missing or damaged.
    """
    record = read_record(directory / RECORD_FILE)
    path = directory / REFERENCE_FILE
    if path.is_file():
        return Monitored(record, read_reference(path, record), path)
    logits, teacher_logits = _test_logits(record, directory)
    opened = restore(record, directory, overrides)
    embeddings = embed(opened.pair.student, opened.data.evaluation_loader(opened.data.test))
    agreement = None
    if teacher_logits is not None:
        agreement = float((logits.argmax(1) == teacher_logits.argmax(1)).double().mean())
    reference = make_reference(record, scores_of(_array(logits), _array(embeddings)), agreement)
    write_reference(reference, path)
    return Monitored(record, reference, path)


def _test_logits(record: Record, directory: Path) -> tuple[Tensor, Tensor | None]:
    path = directory / PREDICTIONS_FILE
    predictions = load_predictions(path)
    if (sha256 := record.artifacts.get(PREDICTIONS_FILE)) and file_sha256(path) != sha256:
        raise IntegrityError(f"{path} is not the file of its record: its content has changed")
    name = f"test/{record.selection}"
    if name not in predictions:
        raise IntegrityError(f"{path}: holds no {name}")
    return predictions[name], predictions.get("test/teacher")


def _array(values: Tensor) -> Array:
    array: Array = values.double().numpy()
    return array


def drift_of(monitored: Monitored, predictions: Path, bounds: DriftBounds) -> list[DriftTest]:
    """Compare predictions in use with the reference.

    Raises:
        ConfigError: there is no such file of predictions.
        IntegrityError: they do not fit the student.
        NotEnoughEvidence: there are too few of them.
    """
    names = monitored.record.dataset.class_names
    scores = read_scores(predictions, names, monitored.record.selection)
    return drift_tests(monitored.reference, scores, bounds, names)


def changes_since(earlier: Path, directory: Path) -> Changes:
    """Compare a student with an earlier one, as ``changes`` does; both are directories of runs."""
    before, after = ((read_record(each / RECORD_FILE), each) for each in (earlier, directory))
    return changes(before, after)
