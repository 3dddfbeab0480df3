"""The table of metrics against the record's own schema, and what boards make of it."""

import re
import types
from typing import Annotated, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from support.records import measured_content, record_content

from kd_bench.config.schema import RunConfig
from kd_bench.evaluation.transfer import SOURCES
from kd_bench.results.leaderboard.known_metrics import GROUPS, METRICS
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.records.measured import FullEvaluation, SelectedMetrics, TrainingCost
from kd_bench.results.records.record import Record

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
    "probe_digits": None,
    "probe_fashion_mnist": 0.7,
    "knn_fashion_mnist": 0.6,
    "tuning_trials": None,
    "adapter_parameters": 0,
}
CONDITIONS = ("samples", "clean_top1", "teacher_mean_top1")


def measured_record(seed=0, change=0.0, method="kd"):
    return Record.model_validate(measured_content(record_content(method, seed), change), strict=False)


def models(annotation):
    """The models that a value of this annotation may be, or the values of a dictionary."""
    if get_origin(annotation) is dict:
        return models(get_args(annotation)[1])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [model for part in get_args(annotation) for model in models(part)]
    return []


@pytest.mark.parametrize("path", [p for metric in METRICS.values() for p in (metric.path, metric.floor) if p])
def test_every_path_leads_to_a_field_of_the_record(path):
    names = path.split(".")
    found, names = ([SelectedMetrics], names[1:]) if names[0] == "headline" else ([Record], names)
    if names[0] == "config":
        found, names = [RunConfig], names[1:]
    while names:
        assert len(found) == 1
        name = names.pop(0)
        assert name in found[0].model_fields, f"{found[0].__name__} has no {name}"
        annotation = found[0].model_fields[name].annotation
        if get_origin(annotation) is dict and models(annotation):
            assert (found[0], name) == (FullEvaluation, "transfer")
            assert names.pop(0) in SOURCES
        found = models(annotation)
    assert found == []


def leaves(model, prefix=""):
    """Paths of all numbers of a model, nested ones too."""
    for name, field in model.model_fields.items():
        nested = models(field.annotation)
        if nested:
            yield from leaves(nested[0], f"{prefix}{name}.")
        elif set(NUMBERS) & set(parts(field.annotation)):
            yield prefix + name


def parts(annotation):
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return [part for each in get_args(annotation) for part in parts(each)]
    return [annotation]


NUMBERS = (int, float)
# Numbers of a record that are no metrics of the student on the test split: conditions, the teacher's, parts of others.
NO_METRICS = {
    "headline.epoch",
    "headline.test.top1",  # the column of its own
    "headline.test.retention",  # computed from the means
    "headline.test.retention_over_chance",
    "headline.test.ece_noise_floor",  # beside the ECE
    "headline.test.scaled.ece_noise_floor",
    "headline.exemplars.total",  # 1 - agreement
    "full.metrics.value",  # of metrics that a user adds under names of their own
    "cost.cached_teacher_seconds",  # a part of the training seconds
    *(f"full.train_fidelity.{name}" for name in ("samples", "clean.top1", "clean.teacher_top1")),
    *(f"full.train_fidelity.augmented.{name}" for name in ("top1", "teacher_top1")),
    *(f"full.{each}.{name}" for each in ("corruptions", "cifar_c") for name in CONDITIONS),
    *(f"full.latency.{name}" for name in ("batch_size", "threads", "processes", "timings")),
    *(f"full.latency.p50_ratio.{name}" for name in ("low", "high")),
    "full.latency.student.best_batch",
    "full.transfer.student.embedding_size",
    *(f"full.transfer.{name}" for name in ("classes", "train_samples", "test_samples")),
}


def test_boards_can_show_every_number_that_is_measured():
    """A number that a record gets has a metric, or its name here says why it has none."""
    roots = {"headline": SelectedMetrics, "full": FullEvaluation, "cost": TrainingCost}
    numbers = {path for root, model in roots.items() for path in leaves(model, f"{root}.")}
    numbers = {path for path in numbers if not path.startswith("headline.validation.") and ".teacher." not in path}
    shown = {re.sub(r"^full\.transfer\.\w+", "full.transfer", metric.path) for metric in METRICS.values()}
    assert numbers - shown == NO_METRICS


def test_keys_are_unique():
    assert len(METRICS) == sum(map(len, GROUPS.values()))


@pytest.mark.parametrize(("key", "value"), KNOWN.items())
def test_values_of_a_record(key, value):
    assert value_at(measured_record(), METRICS[key].path) == value


def test_what_stands_in_a_configuration_in_place_of_a_number_is_none():
    content = record_content()
    for value, number in ((7, 7), ("7", None), (True, None), ({"a": 1}, None)):
        content["config"]["tuning"] = {"trials": value}
        found = value_at(Record.model_validate(content, strict=False), METRICS["tuning_trials"].path)
        assert found == number


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
