"""Contradictions between the parts of a record. Needs no torch."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import PurePath
from typing import Any

from kd_bench.config.interpolations import leaves
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.records.states import now
from kd_bench.results.text.escape import visible

LONGEST_TEXT = 500
LARGEST_COUNT = 2**63 - 1  # what other programs still read as a whole number
CLOCKS_APART = timedelta(days=1)
JOINERS = "\u200c\u200d"  # invisible, but letters of some scripts need them
# Fields that the configuration decides.
CONFIGURED = {
    "study": "study",
    "seed": "seed",
    "dataset.name": "names.dataset",
    "dataset.num_classes": "dataset.num_classes",
    "dataset.image_size": "dataset.image_size",
    "student.name": "student.name",
    "teacher.name": "teacher.name",
    "method.name": "names.method",
    "method.target": "method._target_",
    "recipe": "names.recipe",
    "selection": "recipe.selection",
}


def consistency_problems(record: Record) -> list[str]:
    """List contradictions between the parts of a record, its measurements left out."""
    content = record.model_dump(exclude={"overrides"})  # held against the configuration, whose texts are looked at
    return [
        *_text_problems(content),
        *_number_problems(content),
        *_configuration_problems(content),
        *_dataset_problems(record),
        *_origin_problems(record),
        *_time_problems(record),
        *_artifact_problems(record),
    ]


def _text_problems(content: dict[str, Any]) -> Iterator[str]:
    """Find texts that no board can show as they are. Markup is none of these: boards escape it."""
    for key, value in leaves(content):
        if visible(key) != key:
            yield f"{key}: its name has hidden characters"
        if not isinstance(value, str):
            continue
        shown = value.translate(dict.fromkeys(map(ord, JOINERS))) if key.startswith("dataset.class_names") else value
        if visible(shown) != shown:
            yield f"{key}={value!r}: has hidden characters"
        if len(value) > LONGEST_TEXT:
            yield f"{key}: is a text of {len(value)} characters; at most {LONGEST_TEXT}"


def _number_problems(content: dict[str, Any]) -> Iterator[str]:
    for key, value in leaves(content):
        if isinstance(value, int) and abs(value) > LARGEST_COUNT and not key.endswith("seed"):
            yield f"{key}: is a number of {len(str(value))} digits; at most {LARGEST_COUNT}"


def _configuration_problems(content: dict[str, Any]) -> Iterator[str]:
    for field, key in CONFIGURED.items():
        said, configured = _at(content, field), _at(content["config"], key)
        if said != configured:
            yield f"{field}={said!r}: but config.{key}={configured!r}"


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _dataset_problems(record: Record) -> Iterator[str]:
    dataset = record.dataset
    if len(dataset.class_names) != dataset.num_classes:
        yield f"dataset.class_names: are {len(dataset.class_names)} for num_classes={dataset.num_classes}"
    for split in ("train", "validation", "test"):
        if getattr(dataset, f"{split}_samples") == 0:
            yield f"dataset.{split}_samples=0: nothing can be measured"
    wanted = _at(record.config, "dataset.train_samples")
    if wanted is not None and wanted != dataset.train_samples:
        yield f"dataset.train_samples={dataset.train_samples}: but config.dataset.train_samples={wanted!r}"
    if dataset.duplicates > dataset.test_samples:
        yield f"dataset.duplicates={dataset.duplicates}: of {dataset.test_samples} test samples"


def _origin_problems(record: Record) -> Iterator[str]:
    """Check where the weights came from: one run or a file, code that is known or not."""
    imported = record.imported_from is not None
    if imported != (record.times.train_seconds is None):
        yield f"imported_from={record.imported_from!r}: but times.train_seconds={record.times.train_seconds}"
    if imported and record.role != "teacher":
        yield f"role={record.role!r}: an imported network is a teacher"
    teacher = record.teacher
    if teacher is not None and teacher.run_id is not None and teacher.source != teacher.run_id:
        yield f"teacher.source={teacher.source!r}: but teacher.run_id={teacher.run_id!r}"
    if record.run_id in (teacher.run_id if teacher else None, *record.method.trained_from):
        yield f"run_id={record.run_id}: a run cannot learn from itself"
    if (record.code.commit is None) != (record.code.dirty is None):
        yield f"code.commit={record.code.commit!r}: but code.dirty={record.code.dirty}"


def _time_problems(record: Record) -> Iterator[str]:
    times = record.times
    started, finished = _aware(times.started_at), _aware(times.finished_at)
    if started > finished:
        yield f"times.started_at={started.isoformat()}: is after finished_at={finished.isoformat()}"
    if finished > now() + CLOCKS_APART:
        yield f"times.finished_at={finished.isoformat()}: is in the future"
    # Two clocks: the one of these seconds cannot be set. A resumed run has trained in earlier processes too.
    longest = (finished - started).total_seconds() * 1.05 + 60
    if not times.resumed and (times.train_seconds or 0) > longest:
        yield f"times.train_seconds={times.train_seconds:.0f}: the whole run took {(finished - started)}"


def _aware(time: datetime) -> datetime:
    """Take a time without a zone as UTC, as boards do."""
    return time if time.tzinfo else time.replace(tzinfo=timezone.utc)


def _artifact_problems(record: Record) -> Iterator[str]:
    for name in record.artifacts:
        if not is_plain_name(name) or name == RECORD_FILE:
            yield f"artifacts.{name!r}: must name a file beside the record"


def is_plain_name(name: str) -> bool:
    """Tell whether a text names a file in a folder and cannot lead out of it, on any operating system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and PurePath(name).name == name
