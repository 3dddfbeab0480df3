"""A trained module to predictions, and predictions to metrics."""

from typing import Any

import torch
from torch import Tensor

from kd_bench.data.datamodule import ImageDataModule
from kd_bench.distillation import DistillationModule, cloned
from kd_bench.evaluation.metrics import split_metrics
from kd_bench.evaluation.predictions import predict
from kd_bench.models.features import FeatureTap
from kd_bench.runs.measured import Metrics, SelectedMetrics

SPLITS = ("validation", "test")


def teacher_predictions(tap: FeatureTap, data: ImageDataModule) -> dict[str, Tensor]:
    """Logits (N, K) of a network on each held-out split."""
    return {split: predict(tap, data.evaluation_loader(getattr(data, split))) for split in SPLITS}


def student_predictions(
    module: DistillationModule, data: ImageDataModule, teacher: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """What ``predictions.safetensors`` holds. The module keeps its last weights."""
    result: dict[str, Tensor] = {}
    last = cloned(module)
    for rule, weights in (("best_on_validation", module.best["weights"]), ("last", last)):
        module.load_state_dict(weights)
        for split in SPLITS:
            loader = data.evaluation_loader(getattr(data, split))
            result[f"{split}/{rule}"] = predict(module.student, loader, module.method)
    for split in SPLITS:
        targets = getattr(data, split).targets
        result[f"{split}/targets"], result[f"{split}/index"] = targets, torch.arange(len(targets))
        if teacher is not None:
            result[f"{split}/teacher"] = teacher[split]
    return result


def metrics_of(predictions: dict[str, Tensor], epochs: dict[str, int]) -> Metrics:
    """Every metric of a run, from its predictions alone.

    Args:
        epochs: training epochs done by the weights of each rule, ``last`` and ``best_on_validation``.
    """

    def of(rule: str) -> SelectedMetrics:
        splits: dict[str, Any] = {
            split: split_metrics(
                predictions[f"{split}/{rule}"], predictions[f"{split}/targets"], predictions.get(f"{split}/teacher")
            )
            for split in SPLITS
        }
        return SelectedMetrics(epoch=epochs[rule], **splits)

    return Metrics(last=of("last"), best_on_validation=of("best_on_validation"))
