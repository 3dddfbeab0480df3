"""The record of a finished run: typed, immutable, one file per run. Everything a board shows is computed from records.

Fields with a default came after the first records of this schema version, which lack them, or are left out of published
records (see ``compact.py``).

The JSON Schema of this file is published as ``record.schema.json`` beside it; ``python -m
kd_bench.results.records.record`` writes it, and a test keeps the two equal. Numbers are JSON numbers; accuracies, rates
and errors are fractions in [0, 1], never percent; a quantity that was not measured is ``null``, never 0 and never NaN.
"""

import json
from collections import Counter
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from kd_bench.config.files import write_atomically
from kd_bench.config.ranges import Count, Fraction, NonNegative, Selection
from kd_bench.errors import IntegrityError
from kd_bench.results.records.measured import FullEvaluation, Metrics, SelectedMetrics, Strict, TrainingCost
from kd_bench.results.records.packed import packed, unpacked
from kd_bench.results.records.reading import read_text

SCHEMA_VERSION: Literal[2] = 2
SCHEMA_FILE = Path(__file__).with_name("record.schema.json")
RECORD_FILE = "record.json"
PUBLISHED_FILES = "seed*[0-9].json"  # not their supplements, seed0.evaluation.json
_NUMBERS = frozenset({float, int, bool, type(None)})
_COUNTED_APART = ("history", "config")
YEARS = range(1900, 9000)  # times at the ends of the calendar cannot be converted

# Anybody may write a record: boards divide such numbers, and other programs read no larger ones as whole.
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
RunId = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


def _within_years(time: datetime) -> datetime:
    if time.year not in YEARS:
        raise ValueError(f"lies outside of the years {YEARS[0]} to {YEARS[-1]}")
    return time


Time = Annotated[datetime, AfterValidator(_within_years)]


class DatasetInfo(Strict):
    """The data set of a run, its content by a hash, and the sizes of its splits."""

    name: str
    content_sha256: Sha256
    num_classes: Annotated[int, Field(ge=2)]
    class_names: list[str]
    image_size: Annotated[list[int], Field(min_length=2, max_length=2)]
    duplicates: Annotated[Count, Field(description="test images that are in the training data as well, byte for byte")]
    train_samples: Size
    validation_samples: Size
    test_samples: Size


class NetworkInfo(Strict):
    """A network as evaluated: what is needed at test time, exits and borrowed classifiers included."""

    name: str
    weights_sha256: Sha256
    parameters: Size
    macs: Annotated[Size, Field(description="multiply-accumulates of one image, convolutions and products")]
    input_size: Annotated[
        list[int], Field(min_length=2, max_length=2, description="height and width that it gets its images in")
    ]
    trainable_parameters: Annotated[
        Count | None, Field(description="of the student's, those that training may change")
    ] = None
    file_bytes: Annotated[Count | None, Field(description="of its weights as safetensors")] = None


class TeacherInfo(NetworkInfo):
    """The teacher of the pair: what retention, agreement and flips refer to."""

    run_id: Annotated[RunId | None, Field(description="of the run that trained it; null for files and ensembles")]
    source: Annotated[str, Field(description="run ids or file names that the weights came from")]
    test_top1: Fraction


class MethodInfo(Strict):
    """The method of a run and the earlier runs that it distilled from."""

    name: str
    family: str
    paper: str
    target: str
    adapter_parameters: Annotated[Size, Field(description="trained beside the student, not needed at test time")]
    trained_from: Annotated[
        list[RunId],
        Field(description="runs whose networks the method distilled from beside or instead of the pair's teacher"),
    ]
    generation: Annotated[int, Field(ge=0, description="position in a chain of runs; 0 outside chains")]


class CodeInfo(Strict):
    """The code that ran. ``commit`` and ``dirty`` are null outside of a git checkout."""

    version: str
    commit: str | None
    dirty: bool | None
    plugins: Annotated[
        dict[str, Sha256], Field(description="sources of the plugins by module; none in the first records")
    ] = Field(default_factory=dict)


class Environment(Strict):
    """Versions of Python and of the packages that numbers may depend on."""

    python: str
    packages: dict[str, str]


class Hardware(Strict):
    """The machine of a run."""

    host: Annotated[str | None, Field(description="null in published records")] = None
    system: str
    processor: str
    device: str
    threads: Annotated[int, Field(ge=1)]


class Times(Strict):
    """When a run took place, and how long its parts took."""

    started_at: Time
    finished_at: Time
    train_seconds: Annotated[NonNegative | None, Field(description="null if the network was trained elsewhere")]
    evaluation_seconds: NonNegative
    teacher_train_seconds: Annotated[
        NonNegative | None, Field(description="of the pair's teacher, if it was trained here")
    ]
    resumed: Annotated[int, Field(ge=0, description="how often the run was taken up again")]


class Record(Strict):
    """All that is kept of a finished run, but for its weights and predictions."""

    schema_version: Literal[2]
    run_id: RunId
    role: Literal["student", "teacher"]
    study: str | None
    dataset: DatasetInfo
    teacher: TeacherInfo | None
    student: NetworkInfo
    method: MethodInfo
    recipe: str
    selection: Selection
    seed: Count
    config: Annotated[dict[str, Any], Field(description="the resolved configuration, as composed")]
    overrides: Annotated[
        list[str] | None, Field(description="choices and overrides that composed to it; null in the first records")
    ] = None
    code: CodeInfo
    environment: Environment
    hardware: Hardware
    times: Times
    metrics: Metrics
    history: list[dict[str, float]] = Field([], description="one row per epoch: loss terms, validation metrics")
    history_sha256: Annotated[
        Sha256 | None, Field(description="of a published record, whose history lies in the table beside it")
    ] = None
    imported_from: Annotated[str | None, Field(description="name of the file that the weights came from, if any")]
    variant_of: Annotated[
        RunId | None, Field(description="run whose student this is, quantised after its training; it has no history")
    ] = None
    artifacts: Annotated[dict[str, Sha256], Field(description="files beside the record and their sha256")]
    cost: TrainingCost | None = None
    full: Annotated[FullEvaluation | None, Field(description="beyond predictions; null unless measured")] = None

    @model_validator(mode="after")
    def _fits_together(self) -> "Record":
        if (self.selection == "best_on_test") != (self.metrics.best_on_test is not None):
            raise ValueError("metrics.best_on_test belongs to selection=best_on_test")
        if self.selection == "ema" and self.metrics.ema is None:
            raise ValueError("metrics.ema: is missing, with selection=ema")
        if self.history and self.history_sha256 is not None:
            raise ValueError("history_sha256 belongs to a record without history")
        return self

    def headline(self) -> SelectedMetrics:
        """Return the metrics that the recipe's selection rule puts in the headline."""
        selected: SelectedMetrics = getattr(self.metrics, self.selection)
        return selected


def write_record(record: Record, path: Path) -> None:
    """Write a complete record.

    Raises:
        IntegrityError: the file cannot be written.
    """
    write_atomically(path, record.model_dump_json(indent=1) + "\n")


def read_record(path: Path) -> Record:
    """Read and check a record.

    Raises:
        IntegrityError: the file is not a record of this schema; the message lists every problem at once.
    """
    found = parsed_record(path)
    if isinstance(found, list):
        raise IntegrityError(f"{path} is not a valid record: {'; '.join(found)}")
    return found


def parsed_record(path: Path) -> Record | list[str]:
    """Read a record, or list every problem of its file.

    Raises:
        IntegrityError: the file cannot be read.
    """
    text = read_text(path)
    try:
        record = Record.model_validate_json(text)
    except ValidationError as error:
        return problems_in(error)
    twice = [] if _each_key_once(text, record) else _repeated_keys(text)
    return [f"{key}: stands twice in one object" for key in twice] or record


def problems_in(error: ValidationError, prefix: str = "") -> list[str]:
    """List key and reason of each problem that pydantic found."""
    return [f"{prefix}{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()]


def _each_key_once(text: str, record: Record) -> bool:
    """Tell by counting whether no object of the JSON has a key twice; False where that does not tell.

    Without escapes every quote begins or ends a key or a text, and what was read has fewer of them if a key stood
    twice. Boards read many records, and to look at each object takes longer than to read it.
    """
    if "\\" in text:
        return False
    of_config = len(record.config) + sum(map(_texts_of, map(packed, record.config.values())))
    return text.count('"') == 2 * (_texts(record) + of_config + sum(map(len, record.history)))


@lru_cache(maxsize=1024)
def _texts_of(part: bytes) -> int:
    """Count the texts of a part of a configuration."""
    return _texts([unpacked(part)])


def _texts(value: Any) -> int:
    """Count the keys that were given, and texts, at any depth of models, dictionaries and lists. Times are texts.

    Left out are the rows of the history, which hold numbers alone, and the configuration, whose parts are those of many
    records.
    """
    kind = type(value)
    if kind is dict:
        own, inner = len(value), value.values()
    elif kind is list:
        own, inner = 0, value
    else:
        given, values = value.model_fields_set, value.__dict__
        own, inner = len(given), [values[name] for name in given if name not in _COUNTED_APART]
    if _NUMBERS.issuperset(map(type, inner)):
        return own
    for each in inner:
        kind = type(each)
        if kind is float or kind is int or each is None or kind is bool:
            continue
        own += 1 if kind is str or kind is datetime else _texts(each)
    return own


def _repeated_keys(text: str) -> list[str]:
    """List keys that one object has twice: people and programs would read different values."""
    twice: list[str] = []

    def count(pairs: list[tuple[str, Any]]) -> None:
        if len(dict(pairs)) < len(pairs):  # hardly ever, and boards read many records
            twice.extend(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)

    json.loads(text, object_pairs_hook=count)
    return twice


def schema_text() -> str:
    """Return the JSON Schema of a record as it is published."""
    return json.dumps(Record.model_json_schema(), indent=1, sort_keys=True) + "\n"


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
