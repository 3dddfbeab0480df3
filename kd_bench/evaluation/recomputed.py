"""Metrics recomputed from predictions and compared with those of the record."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from kd_bench.config.check import check_metric
from kd_bench.errors import KDBenchError
from kd_bench.evaluation.added_metrics import added_metrics, nodes_of
from kd_bench.evaluation.evaluate import SPLITS, metrics_of
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.record import Record

SINGLE = 1e-5  # of a number computed in single precision


def prediction_problems(record: Record, path: Path) -> list[str]:
    """Name the metrics that do not follow from the predictions in ``path``, or why there are none."""
    try:
        predictions = load_predictions(path)
        if problems := list(_shape_problems(record, predictions)):
            return [f"{path.name}: {problem}" for problem in problems]
        epochs = {rule: selected.epoch for rule, selected in record.metrics if selected is not None}
        computed = metrics_of(predictions, epochs)
        added = list(_added_differences(record, predictions))
    except KDBenchError as error:
        return [f"{path.name}: {error}"]
    return metric_differences(record.metrics, computed) + added


def _added_differences(record: Record, predictions: dict[str, Tensor]) -> Iterator[str]:
    """Compare the metrics of torchmetrics, whose arithmetic is in single precision and may change with its version."""
    recorded = record.full.metrics if record.full else {}
    targets, logits = predictions["test/targets"], predictions[f"test/{record.selection}"]
    for name, node in nodes_of(record.full).items():
        found = added_metrics({name: check_metric(name, node)}, logits, targets)[name]
        written = recorded[name]
        for key, one, other in (
            ("value", [written.value], [found.value]),
            ("by_class", written.by_class, found.by_class),
        ):
            if not _alike(one, other):
                yield f"full.metrics.{name}.{key}={getattr(written, key)}: the predictions give {getattr(found, key)}"


def _alike(one: list[float | None] | None, other: list[float | None] | None) -> bool:
    if one is None or other is None or len(one) != len(other):
        return one is other
    return all(map(_close, one, other))


def _close(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= SINGLE * max(1.0, abs(other))


def _shape_problems(record: Record, predictions: dict[str, Tensor]) -> Iterator[str]:
    classes = record.dataset.num_classes
    rules = [rule for rule, selected in record.metrics if selected is not None]
    for split in SPLITS:
        samples = getattr(record.dataset, f"{split}_samples")
        expected = {f"{split}/{name}": (samples,) for name in ("targets", "index")}
        logits = [*rules, *(["teacher"] if record.teacher else [])]
        shapes: dict[str, tuple[int, ...]] = {**expected, **{f"{split}/{name}": (samples, classes) for name in logits}}
        for name, shape in shapes.items():
            if name not in predictions or tuple(predictions[name].shape) != shape:
                found = tuple(predictions[name].shape) if name in predictions else "nothing"
                yield f"{name}: should be of shape {shape}, is {found}"
            elif name in expected and predictions[name].is_floating_point():
                yield f"{name}: should hold whole numbers"
            elif name.endswith("targets") and not bool(
                ((predictions[name] >= 0) & (predictions[name] < classes)).all()
            ):
                yield f"{name}: should lie in 0 to {classes - 1}"
            elif name.endswith("index") and sorted(predictions[name].tolist()) != list(range(samples)):
                yield f"{name}: should name each of {samples} samples once"
