"""Metrics of torchmetrics that a configuration adds, computed from predictions.

Shapes: ``N`` samples, ``K`` classes.
"""

import math
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor

from kd_bench.errors import ConfigError
from kd_bench.results.records.measured import AddedMetric, FullEvaluation

_TRIED = 8  # samples that a metric is tried on before any training
_SEED = 0


def check_metrics(metrics: Mapping[str, Mapping[str, Any]], classes: int) -> None:
    """Try each metric on a few made-up predictions, before any training.

    Raises:
        ConfigError: a metric refuses its arguments, needs other inputs, or gives neither one number nor one a class.
    """
    logits = torch.randn(_TRIED, classes, generator=torch.Generator().manual_seed(_SEED))
    for name, node in metrics.items():
        _measured(name, node, logits, torch.arange(_TRIED) % classes)


def added_metrics(metrics: Mapping[str, Mapping[str, Any]], logits: Tensor, targets: Tensor) -> dict[str, AddedMetric]:
    """Compute metrics by name from logits (N, K) and targets (N,).

    Args:
        metrics: nodes of the configuration, or ``nodes_of`` a record.

    Raises:
        ConfigError: as ``check_metrics``.
    """
    return {name: _measured(name, node, logits, targets) for name, node in metrics.items()}


def nodes_of(full: FullEvaluation | None) -> dict[str, dict[str, Any]]:
    """Return the configuration of the metrics that a record has."""
    found = full.metrics if full else {}
    return {name: {"_target_": metric.target, **metric.arguments} for name, metric in found.items()}


def _measured(name: str, node: Mapping[str, Any], logits: Tensor, targets: Tensor) -> AddedMetric:
    classes = logits.shape[1]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of classes that do not occur, whose value is undefined or 0 by definition
            metric = instantiate(dict(node), num_classes=classes, _recursive_=False, _convert_="all")
            # torchmetrics takes logits that all lie in [0, 1] for probabilities.
            metric.update(logits.double().softmax(dim=1), targets)
            value = metric.compute()
    except Exception as error:  # a metric may raise anything for arguments that it cannot take
        cause = error.__cause__ or error
        reason = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise ConfigError(f"metrics.{name}: {node['_target_']} cannot be computed: {reason}") from error
    if not isinstance(value, Tensor) or value.shape not in ((), (classes,)):
        raise ConfigError(f"metrics.{name}: {node['_target_']} gives neither one number nor one for each class")
    numbers = [number if math.isfinite(number) else None for number in value.double().reshape(-1).tolist()]
    known = [number for number in numbers if number is not None]
    return AddedMetric(
        target=node["_target_"],
        arguments={key: argument for key, argument in node.items() if key != "_target_"},
        torchmetrics=version("torchmetrics"),
        value=math.fsum(known) / len(known) if known else None,
        by_class=numbers if value.shape else None,
    )
