"""Contradictions between the parts of a record. Needs no torch."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

from kd_bench.config.interpolations import leaves
from kd_bench.results.records.measured import Strict
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.text.escape import visible

LONGEST_TEXT = 500
LARGEST_COUNT = 2**63 - 1  # what other programs still read as a whole number
LARGEST_NUMBER = 1e39  # more than single precision holds, and little enough to add and to square
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
    plain = _is_plain(record)  # nearly always, and much faster to find out
    return [
        *(() if plain else _text_problems(record)),
        *(() if plain else number_problems(record)),
        *_configuration_problems(record),
        *dataset_problems(record),
        *_origin_problems(record),
        *_artifact_problems(record),
    ]


def number_problems(record: Record) -> Iterator[str]:
    """Find numbers that boards cannot compute with."""
    if _is_plain(record):
        return
    for key, value in leaves(record.model_dump()):
        if isinstance(value, int) and abs(value) > LARGEST_COUNT and not key.endswith("seed"):
            yield f"{key}: is a number of {len(str(value))} digits; at most {LARGEST_COUNT}"
        elif isinstance(value, float) and abs(value) > LARGEST_NUMBER and not key.startswith("config."):
            yield f"{key}={value}: is more than single precision holds"


def _is_plain(value: Any) -> bool:
    """Tell whether all texts, keys included, are printable and short, and all numbers within their limits."""
    kind = type(value)
    if kind is dict and not "".join(value).isprintable():
        return False
    if kind is not dict and kind is not list and not isinstance(value, Strict):
        return True
    for each in value if kind is list else (value if kind is dict else value.__dict__).values():
        kind = type(each)
        if kind is float:
            plain = -LARGEST_NUMBER <= each <= LARGEST_NUMBER
        elif kind is int:
            plain = -LARGEST_COUNT <= each <= LARGEST_COUNT
        elif kind is str:
            plain = len(each) <= LONGEST_TEXT and each.isprintable()
        else:
            plain = each is None or kind is bool or _is_plain(each)
        if not plain:
            return False
    return True


def _text_problems(record: Record) -> Iterator[str]:
    """Find texts that no board can show as they are. Markup is none of these: boards escape it."""
    # The overrides are held against the configuration, whose texts are looked at.
    for key, value in leaves(record.model_dump(exclude={"overrides"})):
        if visible(key) != key:
            yield f"{key}: its name has hidden characters"
        if not isinstance(value, str):
            continue
        if visible(value) != value and not key.startswith("dataset.class_names"):  # they come from data of others
            yield f"{key}={value!r}: has hidden characters"
        if len(value) > LONGEST_TEXT:
            yield f"{key}: is a text of {len(value)} characters; at most {LONGEST_TEXT}"


def _configuration_problems(record: Record) -> Iterator[str]:
    for field, key in CONFIGURED.items():
        said, configured = _at(record, field), _at(record.config, key)
        if said != configured:
            yield f"{field}={said!r}: but config.{key}={configured!r}"


def _at(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else getattr(node, name) if isinstance(node, Strict) else None
    return node


def dataset_problems(record: Record) -> Iterator[str]:
    """Find impossible sizes of a data set."""
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


def _artifact_problems(record: Record) -> Iterator[str]:
    for name in record.artifacts:
        if not is_plain_name(name) or name == RECORD_FILE:
            yield f"artifacts.{name!r}: must name a file beside the record"


def is_plain_name(name: str) -> bool:
    """Tell whether a text names a file in a folder and cannot lead out of it, on any operating system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and PurePath(name).name == name
