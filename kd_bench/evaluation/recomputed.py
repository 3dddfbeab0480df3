"""Metrics recomputed from predictions and compared with those of the record."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from kd_bench.errors import KDBenchError
from kd_bench.evaluation.evaluate import SPLITS, metrics_of
from kd_bench.evaluation.predictions import load_predictions
from kd_bench.results.records.differences import metric_differences
from kd_bench.results.records.record import Record


def prediction_problems(record: Record, path: Path) -> list[str]:
    """Name the metrics that do not follow from the predictions in ``path``, or why there are none."""
    try:
        predictions = load_predictions(path)
        if problems := list(_shape_problems(record, predictions)):
            return [f"{path.name}: {problem}" for problem in problems]
        epochs = {rule: selected.epoch for rule, selected in record.metrics if selected is not None}
        computed = metrics_of(predictions, epochs)
    except KDBenchError as error:
        return [f"{path.name}: {error}"]
    return metric_differences(record.metrics, computed)


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
