"""Measured numbers of a record that cannot be. Needs no torch.

Shares of N samples are whole numbers over N, so that flips, agreement and accuracies bind each other exactly.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from kd_bench.config.interpolations import leaves
from kd_bench.results.checking.class_counts import class_problems
from kd_bench.results.records.measured import SelectedMetrics, SplitMetrics
from kd_bench.results.records.record import Record

ROUNDING = 1e-6  # of a number of samples, which is computed in double precision
MACHINES_APART = 0.01  # of top-1, between epochs on one machine and an evaluation on another
EXACT = ("cpu", "32-true", 1)  # accelerator, precision, devices with which evaluating again gives the same
LEAST_LOSS = math.log(2)  # of a sample that is wrong: its class has at most half of the probability
SHARES = ("top1", "top5", "teacher_agreement", "negative_flips", "positive_flips")
OF_TEACHER = ("teacher_agreement", "negative_flips", "positive_flips")


@dataclass(frozen=True)
class Sample:
    """The facts about a split beside its metrics. ``teacher``: how many samples the teacher gets right."""

    size: int
    classes: int
    has_teacher: bool
    teacher: int | None


def measurement_problems(record: Record) -> list[str]:
    """List impossible values and combinations in metrics and history."""
    selected = {rule: each for rule, each in record.metrics if each is not None}
    of_classes = [
        f"metrics.{rule}.{problem}"
        for rule, metrics in selected.items()
        for problem in class_problems(metrics, record.dataset)
    ]
    return [
        *count_problems(record),
        *of_classes,
        *_epoch_problems(record, selected),
        *_history_problems(record, selected),
    ]


def count_problems(record: Record) -> list[str]:
    """List impossible values and combinations in the metrics of whole splits: what boards reject a record for."""
    selected = {rule: each for rule, each in record.metrics if each is not None}
    problems: list[str] = []
    for rule, metrics in selected.items():
        for split in ("validation", "test"):
            where, values = f"metrics.{rule}.{split}", getattr(metrics, split)
            sample = _sample(record, selected, split)
            problems += [f"{where}.{problem}" for problem in split_problems(values, sample)] if sample.size else []
    return problems


def _sample(record: Record, selected: Mapping[str, SelectedMetrics], split: str) -> Sample:
    """Take the teacher's test accuracy from the record; on other splits it follows from the retention."""
    size = getattr(record.dataset, f"{split}_samples")
    teacher = None
    if record.teacher is not None and split == "test":
        teacher = round(record.teacher.test_top1 * size)
    elif record.teacher is not None:
        splits: list[SplitMetrics] = [getattr(each, split) for each in selected.values()]
        known = [each.top1 / each.retention for each in splits if each.retention]
        teacher = round(known[0] * size) if known else None
    return Sample(size, record.dataset.num_classes, record.teacher is not None, teacher)


def split_problems(metrics: SplitMetrics, sample: Sample) -> Iterator[str]:
    """Find what is wrong with the metrics of one split, each problem with the name of its metric."""
    counts = {}
    for name in SHARES:
        value = getattr(metrics, name)
        if value is not None:
            counts[name] = round(value * sample.size)
            if abs(value * sample.size - counts[name]) > ROUNDING:
                yield f"{name}={value}: is no whole number of {sample.size} samples"
    yield from _presence(metrics, sample)
    blind = math.isclose(metrics.nll, math.log(sample.classes), rel_tol=1e-4)  # all classes tie; any five come first
    if "top5" in counts and counts["top5"] < counts["top1"] and not blind:
        yield f"top5={metrics.top5}: is below top1={metrics.top1}"
    if metrics.nll < (1 - metrics.top1) * LEAST_LOSS - ROUNDING:
        yield f"nll={metrics.nll}: too low for top1={metrics.top1}; a wrong sample costs at least log 2"
    yield from _teacher_problems(metrics, counts, sample)


def _presence(metrics: SplitMetrics, sample: Sample) -> Iterator[str]:
    if (metrics.top5 is None) != (sample.classes <= 5):
        yield f"top5={metrics.top5}: is measured with more than 5 classes; there are {sample.classes}"
    for name in OF_TEACHER:
        if (getattr(metrics, name) is None) == sample.has_teacher:
            yield f"{name}={getattr(metrics, name)}: is measured with a teacher; the record {_has(sample)}"
    if metrics.retention is not None and not sample.has_teacher:
        yield f"retention={metrics.retention}: is measured with a teacher; the record {_has(sample)}"


def _has(sample: Sample) -> str:
    return "has one" if sample.has_teacher else "has none"


def _teacher_problems(metrics: SplitMetrics, counts: dict[str, int], sample: Sample) -> Iterator[str]:
    """Hold retention, flips and agreement against both numbers of right answers."""
    student, teacher, size = counts["top1"], sample.teacher, sample.size
    if teacher is None or not counts.keys() >= set(OF_TEACHER):
        return
    retention = student / teacher if teacher else None
    if (retention is None) != (metrics.retention is None) or not math.isclose(
        metrics.retention or 0, retention or 0, rel_tol=ROUNDING
    ):
        yield f"retention={metrics.retention}: {student} right over the teacher's {teacher} is {retention}"
    negative, positive, agreement = (counts[name] for name in ("negative_flips", "positive_flips", "teacher_agreement"))
    if negative - positive != teacher - student or negative > min(teacher, size - student):
        yield (
            f"negative_flips={metrics.negative_flips}, positive_flips={metrics.positive_flips}: do not lead from the "
            f"teacher's {teacher} right of {size} to the student's {student}"
        )
    elif not teacher - negative <= agreement <= size - negative - positive:
        low, high = (teacher - negative) / size, (size - negative - positive) / size
        yield f"teacher_agreement={metrics.teacher_agreement}: lies between {low} and {high} with these flips"


def _epoch_problems(record: Record, selected: Mapping[str, SelectedMetrics]) -> Iterator[str]:
    last = record.metrics.last
    planned, trainer = planned_epochs(record), record.config.get("trainer")
    may_stop = isinstance(trainer, dict) and bool(trainer.get("callbacks"))
    if planned is not None and (last.epoch > planned if may_stop else last.epoch != planned):
        yield f"metrics.last.epoch={last.epoch}: the configuration says {planned} epochs"
    for rule, metrics in selected.items():
        if metrics.epoch > last.epoch:
            yield f"metrics.{rule}.epoch={metrics.epoch}: there are {last.epoch} epochs"
        elif (
            rule != "ema"
            and metrics.epoch == last.epoch
            and (metrics.validation.top1, metrics.test.top1)
            != (
                last.validation.top1,
                last.test.top1,
            )
        ):
            yield f"metrics.{rule}: is of the last epoch as well, with other numbers"


def planned_epochs(record: Record) -> int | None:
    """Return the epochs of all stages by the configuration; None where a plugin's method may have its own stages.

    A variant of a run was not trained itself: all its numbers are those of its run's headline weights, quantised.
    """
    if record.imported_from is not None:
        return 0
    if record.config.get("plugins") or record.variant_of is not None:
        return None
    recipe, method = record.config.get("recipe"), record.config.get("method")
    stages = [value for key, value in leaves(method) if key.rpartition(".")[2] == "pretrain_epochs"]
    epochs = [recipe.get("epochs") if isinstance(recipe, dict) else None, *stages]
    return sum(epochs) if all(isinstance(each, int) for each in epochs) else None


def _history_problems(record: Record, selected: Mapping[str, SelectedMetrics]) -> Iterator[str]:
    if record.history_sha256 is not None:  # it lies in a table that is not at hand
        return
    if record.variant_of is not None and not record.history:
        return
    epochs = [row.get("epoch") for row in record.history]
    if epochs != list(range(1, record.metrics.last.epoch + 1)):
        yield f"history: has the epochs {_abridged(epochs)}, not 1 to {record.metrics.last.epoch}"
        return
    for rule, metrics in selected.items():
        watched, split = ("test", "test") if rule == "best_on_test" else ("val", "validation")
        if not 1 <= metrics.epoch <= len(epochs):
            continue
        if rule == "ema":  # its weights are those of no epoch
            continue
        if rule != "last":
            yield from _choice_problems(record, rule, metrics.epoch, watched)
        said = record.history[metrics.epoch - 1].get(f"{watched}/top1")
        yield from _curve_problems(record, f"metrics.{rule}.{split}.top1", getattr(metrics, split).top1, said)


def _abridged(epochs: list[float | None]) -> str:
    return str(epochs) if len(epochs) < 6 else f"[{epochs[0]}, ..., {epochs[-1]}] ({len(epochs)} rows)"


def _choice_problems(record: Record, rule: str, epoch: int, watched: str) -> Iterator[str]:
    """Check that the epoch has the highest top-1; of equals the lower loss, then the earlier one.

    Epochs of the first stage of two are no candidates.
    """
    recipe = record.config.get("recipe")
    length = recipe.get("epochs") if isinstance(recipe, dict) else None
    rows = record.history[-length:] if isinstance(length, int) and length > 0 else record.history
    top1, nll = f"{watched}/top1", f"{watched}/nll"
    if not all(top1 in row and nll in row for row in rows):
        yield f"history: lacks {watched}/top1 or {watched}/nll, by which {rule} is chosen"
        return
    highest = max(row[top1] for row in rows)
    best = max((row for row in rows if row[top1] == highest), key=lambda row: (-row[nll], -row["epoch"]))
    if best["epoch"] != epoch:
        yield f"metrics.{rule}.epoch={epoch}: by the history it is {best['epoch']:.0f}"


def _curve_problems(record: Record, where: str, value: float, said: float | None) -> Iterator[str]:
    """Compare the number of an epoch in the history with that evaluated afterwards."""
    trainer = record.config.get("trainer")
    trainer = trainer if isinstance(trainer, dict) else {}
    kind = trainer.get("accelerator"), trainer.get("precision"), trainer.get("devices", 1)
    tolerance = ROUNDING if kind == EXACT and not record.times.resumed else MACHINES_APART
    if said is not None and abs(said - value) > tolerance:
        yield f"{where}={value}: the history says {said} after that epoch"
