"""Published records: short, without the name of a host, one line per key."""

import json
from collections.abc import Collection
from typing import Any

from kd_bench.results.records.curves import history_sha256
from kd_bench.results.records.directory import settings_text
from kd_bench.results.records.measured import Metrics, SelectedMetrics, SplitMetrics
from kd_bench.results.records.packed import packed
from kd_bench.results.records.record import Record
from kd_bench.results.records.supplement import Evaluation, supplemented

# Fields in which copies of a run may differ; of the configuration the part that determines numbers is compared.
_CIRCUMSTANCES = ("role", "study", "config", "overrides", "code", "environment", "hardware", "times", "cost")
REQUIRED = tuple(name for name, field in SplitMetrics.model_fields.items() if field.is_required())


def shortened(record: Record) -> Record:
    """Leave out of a record what ``kd-bench publish`` does not copy.

    That is the host's name; the history, which goes to the table of its study and leaves its hash; and beside the
    headline on the test split every metric that is not part of each record: those follow from the predictions.
    """
    update = {
        "hardware": record.hardware.model_copy(update={"host": None}),
        "metrics": _headline_alone(record.metrics, record.selection),
        "history": [],
        "history_sha256": history_sha256(record.history) if record.history else record.history_sha256,
    }
    return record.model_copy(update=update)


def shortened_evaluation(evaluation: Evaluation, record: Record) -> Evaluation:
    """Leave out of a supplement what ``kd-bench publish`` does not copy: what its record says as well.

    Raises:
        IntegrityError: the supplement does not belong to the record.
    """
    metrics = evaluation.metrics
    if supplemented(record, evaluation).metrics == record.metrics:
        metrics = None
    update = {
        "hardware": evaluation.hardware.model_copy(update={"host": None}),
        "metrics": metrics and _headline_alone(metrics, record.selection),
    }
    return evaluation.model_copy(update=update)


def _headline_alone(metrics: Metrics, selection: str) -> Metrics:
    update = {}
    for rule, each in metrics:
        if each is not None and rule == selection:
            update[rule] = each.model_copy(update={"validation": _required(each.validation)})
        elif each is not None:
            validation, test = _required(each.validation), _required(each.test)
            update[rule] = SelectedMetrics(epoch=each.epoch, validation=validation, test=test)
    return metrics.model_copy(update=update)


def _required(split: SplitMetrics) -> SplitMetrics:
    return SplitMetrics(**{name: getattr(split, name) for name in REQUIRED})


class Shared:
    """Records as far as boards show them; equal parts of several are one object, so that thousands fit into memory."""

    def __init__(self) -> None:
        self._parts: dict[tuple[str, bytes], Any] = {}

    def for_boards(self, record: Record) -> Record:
        """Return the record without its history, and with the metrics that ``shortened`` leaves."""
        metrics = _headline_alone(record.metrics, record.selection)
        headline = getattr(metrics, record.selection).model_copy(update={"reliability": None})
        update = {
            "metrics": metrics.model_copy(update={record.selection: headline}),
            "history": [],
            "config": {name: self._one("config", part, part) for name, part in record.config.items()},
        }
        models = {name: getattr(record, name) for name in ("dataset", "method", "environment", "hardware")}
        update |= {name: self._one(name, part, part.__dict__) for name, part in models.items()}
        return record.model_copy(update=update)

    def _one(self, kind: str, part: Any, content: Any) -> Any:
        return self._parts.setdefault((kind, packed(content)), part)


def are_copies(records: Collection[Record]) -> bool:
    """Tell whether all of these are one run: equal in what determines its numbers, and in the numbers.

    Two studies that share a teacher or a scratch run may train it twice, at other times, on another machine, with other
    choices of what to measure; what trains a teacher of one may be a point of the other. Weights or predictions that
    differ in the last digits are another result.
    """
    left_out = {*_CIRCUMSTANCES, *(("full",) if any(each.full is None for each in records) else ())}
    published = any(record.hardware.host is None for record in records)
    return len({_text_of(shortened(each) if published else each, left_out) for each in records}) == 1


def _text_of(record: Record, left_out: set[str]) -> str:
    """Write what copies share; as text, because NaN in a configuration is not equal to itself."""
    exclude: dict[str, Any] = dict.fromkeys(left_out, True)
    exclude["teacher"] = {"run_id", "source"}
    exclude |= {} if "full" in left_out else {"full": {"latency"}}
    return settings_text(record) + record.model_dump_json(exclude=exclude)


def as_lines(model: Record | Evaluation) -> str:
    """Write a model as JSON: a line for each key of an object, an array on one line, no field that has its default."""
    content = {"schema_version": model.schema_version, **model.model_dump(mode="json", exclude_defaults=True)}
    return f"{_lines(content)}\n"


def _lines(value: Any) -> str:
    if not isinstance(value, dict) or not value:
        return _text(value)
    return "{\n" + ",\n".join(f"{_text(key)}:{_lines(each)}" for key, each in value.items()) + "\n}"


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
