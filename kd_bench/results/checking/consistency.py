"""Contradictions between the parts of a record. Needs no torch."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import chain
from pathlib import PurePath
from typing import Any

from kd_bench.config.interpolations import leaves
from kd_bench.results.records.measured import Strict
from kd_bench.results.records.packed import packed, unpacked
from kd_bench.results.records.record import RECORD_FILE, Record
from kd_bench.results.text.escape import visible

SCRATCH = "kd_bench.methods.scratch.Scratch"  # trains teachers
LONGEST_TEXT = 500
LARGEST_COUNT = 2**63 - 1  # what other programs still read as a whole number
LARGEST_NUMBER = 1e39  # more than single precision holds, and little enough to add and to square
_LIMITS: dict[type, float] = {int: LARGEST_COUNT, float: LARGEST_NUMBER}
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


def _is_plain(record: Record) -> bool:
    """Tell whether all texts, keys included, are printable and short, and all numbers within their limits."""
    # The history is most of a record, and its rows have the same few names.
    numbers = list(chain.from_iterable(map(dict.values, record.history)))
    plain = min(numbers, default=0) >= -LARGEST_NUMBER and max(numbers, default=0) <= LARGEST_NUMBER
    names = "".join(chain(set().union(*record.history), record.config))
    plain = plain and names.isprintable() and _is_plain_part({**record.__dict__, "history": None, "config": None})
    return plain and all(map(_is_plain_config, map(packed, record.config.values())))


@lru_cache(maxsize=1024)
def _is_plain_config(part: bytes) -> bool:
    return _is_plain_part({"": unpacked(part)})


def _is_plain_part(value: Any) -> bool:
    kind = type(value)
    if kind is dict and not "".join(value).isprintable():
        return False
    if kind is not dict and kind is not list and Strict not in kind.__mro__:  # isinstance would take most of the time
        return True
    if kind is list and len(kinds := set(map(type, value))) == 1 and (most := _LIMITS.get(kinds.pop())):
        return bool(min(value) >= -most and max(value) <= most)
    for each in value if kind is list else (value if kind is dict else value.__dict__).values():
        kind = type(each)
        if kind is float:
            plain = -LARGEST_NUMBER <= each <= LARGEST_NUMBER
        elif kind is int:
            plain = -LARGEST_COUNT <= each <= LARGEST_COUNT
        elif kind is str:
            plain = len(each) <= LONGEST_TEXT and each.isprintable()
        else:
            plain = each is None or kind is bool or _is_plain_part(each)
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
    yield from _role_problems(record)
    device, accelerator = record.hardware.device, _at(record.config, "trainer.accelerator")
    measured_here = record.variant_of is None  # a variant is evaluated on a CPU wherever its run was trained
    if measured_here and accelerator is not None and (device == "cpu") != (accelerator == "cpu"):
        yield f"hardware.device={device!r}: but config.trainer.accelerator={accelerator!r}"
    configured, plugins = record.config.get("plugins"), record.code.plugins
    if plugins and not (isinstance(configured, list) and plugins.keys() == set(map(str, configured))):
        yield f"code.plugins: are {', '.join(plugins)}, but config.plugins={configured!r}"
    teacher = record.teacher
    if teacher is not None and teacher.run_id is not None and teacher.source != teacher.run_id:
        yield f"teacher.source={teacher.source!r}: but teacher.run_id={teacher.run_id!r}"
    if record.run_id in (teacher.run_id if teacher else None, *record.method.trained_from):
        yield f"run_id={record.run_id}: a run cannot learn from itself"


def _role_problems(record: Record) -> Iterator[str]:
    """Check that what is no row of a board was trained for others: alone and from scratch, or as an assistant."""
    if record.role != "teacher" or record.imported_from is not None:
        return
    if record.teacher is not None and _at(record.config, "method.assistants") is None:
        yield f"role='teacher': but it learned from {record.teacher.name!r} and is no assistant"
    elif record.teacher is None and record.method.target != SCRATCH:
        yield f"role='teacher': but method.target={record.method.target!r}; teachers are trained by {SCRATCH}"


def _artifact_problems(record: Record) -> Iterator[str]:
    for name in record.artifacts:
        if not is_plain_name(name) or name == RECORD_FILE:
            yield f"artifacts.{name!r}: must name a file beside the record"


def is_plain_name(name: str) -> bool:
    """Tell whether a text names a file in a folder and cannot lead out of it, on any operating system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and PurePath(name).name == name
