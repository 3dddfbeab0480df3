"""Counts of single classes and samples against the shares of the whole test split. Needs no torch."""

import math
from collections.abc import Iterator

from kd_bench.results.records.measured import ClassMetrics, Exemplars, SelectedMetrics
from kd_bench.results.records.record import DatasetInfo

RELATIVE = 1e-9


def class_problems(metrics: SelectedMetrics, dataset: DatasetInfo) -> Iterator[str]:
    """Find contradictions in what is measured class by class, if it is."""
    if metrics.classes is not None:
        yield from (f"classes.{problem}" for problem in _counts(metrics, metrics.classes, dataset))
    if metrics.exemplars is not None:
        yield from (f"exemplars.{problem}" for problem in _exemplars(metrics, metrics.exemplars, dataset))


def _counts(metrics: SelectedMetrics, classes: ClassMetrics, dataset: DatasetInfo) -> Iterator[str]:
    test, size = metrics.test, dataset.test_samples
    sums = {
        "samples": 1.0,
        "correct": test.top1,
        "negative_flips": test.negative_flips,
        "positive_flips": test.positive_flips,
    }
    for name, share in sums.items():
        counts = getattr(classes, name)
        if counts is None:
            continue
        if len(counts) != dataset.num_classes:
            yield f"{name}: has {len(counts)} of {dataset.num_classes} classes"
        elif share is not None and sum(counts) != round(share * size):
            yield f"{name}: add up to {sum(counts)}, not to {round(share * size)} of {size} samples"
    pairs = list(zip(classes.correct, classes.samples, strict=False))
    if any(correct > samples for correct, samples in pairs):
        yield "correct: is more than the samples of a class"
        return
    shares = [correct / samples for correct, samples in pairs if samples]
    if shares and not math.isclose(classes.worst_top1, min(shares), rel_tol=RELATIVE):
        yield f"worst_top1={classes.worst_top1}: by the counts it is {min(shares)}"
    mean = math.fsum(shares) / max(len(shares), 1)
    if test.macro_top1 is not None and not math.isclose(test.macro_top1, mean, rel_tol=RELATIVE):
        yield f"correct: a mean of {mean} over the classes, but test.macro_top1={test.macro_top1}"


def _exemplars(metrics: SelectedMetrics, exemplars: Exemplars, dataset: DatasetInfo) -> Iterator[str]:
    agreement, size = metrics.test.teacher_agreement, dataset.test_samples
    if agreement is not None and exemplars.total != size - round(agreement * size):
        yield f"total={exemplars.total}: test.teacher_agreement leaves {size - round(agreement * size)}"
    names = ("index", "target", "teacher", "student", "teacher_confidence")
    lengths = {len(getattr(exemplars, name)) for name in names}
    if len(lengths) != 1 or max(lengths) > exemplars.total:
        yield f"index: lists of {sorted(lengths)} entries for {exemplars.total} samples"
    if len(set(exemplars.index)) != len(exemplars.index) or any(index >= size for index in exemplars.index):
        yield f"index: must name different ones of {size} samples"
    classes = (*exemplars.target, *exemplars.teacher, *exemplars.student)
    if any(label >= dataset.num_classes for label in classes):
        yield f"target, teacher, student: there are {dataset.num_classes} classes"
    if any(one == other for one, other in zip(exemplars.teacher, exemplars.student, strict=False)):
        yield "student: is the teacher's class"
