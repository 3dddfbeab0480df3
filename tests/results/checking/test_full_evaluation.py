"""What was measured beyond predictions, against itself and its record."""

import json

import pytest
from support.records import record_content

from kd_bench.results.checking.full_evaluation import full_problems
from kd_bench.results.records.record import Record

from .records import changed

SPEED = {"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": 2.0, "images_per_second": 900.0, "best_batch": 64}
SPEED |= {"activation_bytes": 4, "load_seconds": 0.01}
LATENCY = {"batch_size": 1, "threads": 1, "processes": 3, "timings": 200, "student": SPEED, "teacher": SPEED}
FIDELITY = {"top1": 1.0, "teacher_top1": 0.5, "teacher_agreement": 0.25, "kl": 0.1}
PROBE = {"embedding_size": 3, "linear_probe_top1": 0.5, "knn_top1": 0.25}
# 0.5, 0.25 and 0.75, 0 of the student over 0.75, 0.5 and 0.5, 0.5 of the teacher: errors 1.25 / 0.75 and 1.25 / 1.
CORRUPTIONS = {
    "name": "small",
    "sha256": None,
    "samples": 400,
    "severities": [1, 2],
    "clean_top1": 0.75,
    "mean_top1": 0.375,
    "relative_top1": 0.5,
    "teacher_mean_top1": 0.5625,
    "mce": (5 / 3 + 5 / 4) / 2,
    "top1": {"blur": [0.5, 0.25], "noise": [0.75, 0.0]},
    "teacher_top1": {"blur": [0.75, 0.5], "noise": [0.5, 0.5]},
}
FULL = {
    "embedding_cka": 0.5,
    "train_fidelity": {"samples": 900, "clean": FIDELITY, "augmented": FIDELITY},
    "corruptions": CORRUPTIONS,
    "transfer": {"digits": {"classes": 10, "train_samples": 8, "test_samples": 4, "student": PROBE, "teacher": PROBE}},
    "latency": {**LATENCY, "p50_ratio": {"mean": 1.0, "low": 0.5, "high": 2.0}},
}


def problems(*changes, **of_record):
    content = record_content(samples=400, **of_record) | {"full": json.loads(json.dumps(FULL))}
    for key, value in changes:
        changed(content["full"], key, value)
    return full_problems(Record.model_validate(content, strict=False))


def test_what_fits_together_has_no_problems():
    assert problems() == []
    assert full_problems(Record.model_validate(record_content(), strict=False)) == []


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("corruptions/mean_top1", 0.4, "corruptions.mean_top1=0.4: by its table it is 0.375"),
        ("corruptions/relative_top1", 0.9, "corruptions.relative_top1=0.9: by its table it is 0.5"),
        ("corruptions/teacher_mean_top1", None, "corruptions.teacher_mean_top1=None: by its table it is 0.5625"),
        ("corruptions/mce", 1.0, "corruptions.mce=1.0: by its table it is 1.4583"),
        ("corruptions/top1/blur/0", 0.5001, "corruptions.top1.blur[0]=0.5001: is no whole number of 400 samples"),
        ("corruptions/severities", [1], "corruptions.top1: should have 1 severities of each of ['blur', 'noise']"),
        ("corruptions/teacher_top1", {"blur": [0.5, 0.5]}, "corruptions.teacher_top1: should have 2 severities"),
        ("corruptions/clean_top1", 0.8, "corruptions.clean_top1=0.8: of the same images the record has 0.75"),
        ("corruptions/samples", 4000, "corruptions.samples=4000: there are 400 test images"),
        ("train_fidelity/samples", 1000, "train_fidelity.samples=1000: there are 900 training images"),
        ("train_fidelity/clean/top1", 0.3333, "train_fidelity.clean.top1=0.3333: is no whole number of 900 samples"),
        ("transfer/digits/student/knn_top1", 0.3, "transfer.digits.student.knn_top1=0.3: is no whole number of 4"),
        ("latency/student/p95_ms", 0.5, "latency.student: p50, p95 and p99 should not fall: 1.0, 0.5, 2.0 ms"),
        ("latency/p50_ratio/mean", 3.0, "latency.p50_ratio.mean=3.0: lies outside of its interval"),
        ("latency/p50_ratio", None, "latency.p50_ratio: is that of two networks"),
    ],
)
def test_what_cannot_be_is_named(key, value, problem):
    found = problems((key, value))
    assert any(one.startswith(f"full.{problem}") for one in found), found


def test_the_corruption_error_is_undefined_where_the_teacher_makes_none():
    perfect = {"blur": [1.0, 1.0], "noise": [0.5, 0.5]}
    changes = [("corruptions/teacher_top1", perfect), ("corruptions/teacher_mean_top1", 0.75)]
    assert problems(*changes, ("corruptions/mce", None)) == []
    assert problems(*changes) == [f"full.corruptions.mce={CORRUPTIONS['mce']}: by its table it is None"]


def test_without_a_teacher_nothing_is_compared_with_one():
    (found,) = problems(teacher=None)
    assert found == "full.embedding_cka: is measured with a teacher; the record has none"
