"""The table of metrics against the record's own schema, and what boards make of it."""

import types
from typing import Annotated, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from kd_bench.leaderboard.metric import value_at
from kd_bench.leaderboard.metrics import GROUPS, METRICS
from kd_bench.runs.measured import SelectedMetrics
from kd_bench.runs.record import Record

from .factory import measured_content, record_content
from .test_text import leaderboard_of

KNOWN = {
    "brier": 0.4,
    "scaled_brier": 0.3,
    "scaled_ece": 0.02,
    "temperature": 1.5,
    "correctness_kappa": -0.1,
    "worst_tenth_top1": 0.6,
    "classes_worse": 1,
    "classes_better": 0,
    "file_bytes": 6400,
    "teacher_forward_share": 0.3,
    "embedding_cka": 0.8,
    "latency_ratio": 0.25,
    "p50_ms": 2.5,
    "device_peak_memory_bytes": None,
    "cifar_c_top1": None,
    "train_agreement": None,
}


def measured_record(seed=0, change=0.0, method="kd"):
    return Record.model_validate(measured_content(record_content(method, seed), change), strict=False)


def models(annotation):
    """The models that a value of this annotation may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [model for part in get_args(annotation) for model in models(part)]
    return []


@pytest.mark.parametrize("path", [p for metric in METRICS.values() for p in (metric.path, metric.floor) if p])
def test_every_path_leads_to_a_field_of_the_record(path):
    names = path.split(".")
    found = [SelectedMetrics] if names[0] == "headline" else [Record]
    for name in names[1:] if names[0] == "headline" else names:
        assert len(found) == 1
        assert name in found[0].model_fields, f"{found[0].__name__} has no {name}"
        found = models(found[0].model_fields[name].annotation)
    assert found == []


def test_keys_are_unique():
    assert len(METRICS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(("key", "value"), KNOWN.items())
def test_values_of_a_record(key, value):
    assert value_at(measured_record(), METRICS[key].path) == value


def test_scaled_calibration_stands_beside_raw():
    keys = list(METRICS)
    for key in ("ece", "nll", "brier", "ece_equal_mass", "classwise_ece", "mce"):
        assert keys.index(f"scaled_{key}") == keys.index(key) + 1


def test_metrics_have_intervals_over_seeds():
    (board,) = leaderboard_of([measured_record(seed, 0.01 * seed) for seed in range(3)]).boards
    brier = board.rows[0].metrics["brier"]
    assert brier.mean == pytest.approx(0.41)
    assert brier.half_width == pytest.approx(4.302653 * 0.01 / 3**0.5)
    assert board.rows[0].metrics["parameters"].mean == 1500
