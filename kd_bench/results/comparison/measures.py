"""Measures of a comparison: by seed, by test sample, by class, and in cost."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from kd_bench.errors import IntegrityError
from kd_bench.results.comparison.flips import test_predictions
from kd_bench.results.comparison.sides import Couple, Setting
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.intervals import Estimate, clipped, estimate, mean
from kd_bench.results.statistics.multiplicity import benjamini_hochberg, holm
from kd_bench.results.statistics.paired import Scores, mcnemar_p_value, paired_estimate, paired_p_value
from kd_bench.results.statistics.ranking import Evidence, evidence

FALSE_DISCOVERY_RATE = 0.05
SIGNIFICANCE = 0.05

Claim = Literal["better", "worse", "not told apart", "too few seeds"]
Signs = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassChange:
    """One class of the test split. ``difference`` is the second minus the first, mean over seeds, as a fraction.

    ``p_value`` comes from McNemar's exact test, adjusted over the classes (Benjamini-Hochberg); None without files.
    """

    name: str
    samples: int
    difference: float
    p_value: float | None


@dataclass(frozen=True)
class Flips:
    """Changes of predictions, as shares of the test samples, means over seeds.

    Attributes:
        lost: the first is right, the second wrong.
        gained: the first is wrong, the second right.
        changed: they predict different classes.
        p_value: p value of McNemar's exact test over all samples.
    """

    lost: float
    gained: float
    changed: float
    p_value: float


@dataclass(frozen=True)
class CostRatio:
    """Costs of the second over the first's; None where one is unknown or 0. ``same_machine``: one trained all."""

    parameters: float | None
    macs: float | None
    train_seconds: float | None
    same_machine: bool


@dataclass(frozen=True)
class Comparison:
    """The second of two entries against the first. Accuracies are fractions.

    Attributes:
        left_out: number of seeds that only one of them has.
        selection: the epoch that is compared, which is that of both recipes, or the last where they differ.
        differing: settings that are not alike.
        board_methods: number of methods of the board that has both; its family of comparisons gives interval and p
            value then. None where they are on no board together and a paired t test is made.
        difference: mean difference by seed, with its 95 % interval.
        p_value: None below three seeds and where nothing was tested.
        adjusted_p_value: that of a paired t test after Holm's correction for all comparisons that are made together.
    """

    title: str
    names: tuple[str, str]
    seeds: tuple[int, ...]
    left_out: int
    selection: str
    evidence: Evidence
    differing: tuple[Setting, ...]
    top1: tuple[Estimate, Estimate]
    board_methods: int | None
    difference: Estimate
    p_value: float | None
    adjusted_p_value: float | None
    flips: Flips | None
    classes: tuple[ClassChange, ...]
    cost: CostRatio

    @property
    def claim(self) -> Claim:
        """The verdict of the seeds on the second: none where they are fewer than 3 or the interval contains 0."""
        if self.evidence not in ("ranked", "preliminary"):
            return "too few seeds"
        significant = self.adjusted_p_value is not None and self.adjusted_p_value <= SIGNIFICANCE
        if self.difference.contains_zero or not significant:
            return "not told apart"
        return "better" if self.difference.mean > 0 else "worse"


def compare_all(couples: Sequence[Couple], files: Mapping[str, Path]) -> list[Comparison]:
    """Compare every couple, with p values that are corrected for their number.

    Arguments and errors are those of ``compare``.
    """
    comparisons = [compare(couple, files) for couple in couples]
    adjusted = holm([comparison.p_value for comparison in comparisons])
    return [replace(one, adjusted_p_value=p_value) for one, p_value in zip(comparisons, adjusted, strict=True)]


def compare(couple: Couple, files: Mapping[str, Path]) -> Comparison:
    """Compare a couple on its shared seeds.

    Args:
        files: predictions by run id.

    Raises:
        IntegrityError: predictions do not belong to their record, or to one test split.
    """
    first, second = couple.entries
    rule = first.selection if first.selection == second.selection else "last"
    scores = [
        {run.seed: _top1(run, rule) for run in entry.runs if run.seed in couple.seeds} for entry in couple.entries
    ]
    difference, p_value = _difference(couple, scores[0], scores[1])
    sides = tuple(clipped(estimate(list(each.values())), 0.0, 1.0) for each in scores)
    flips, classes = _by_sample(couple, rule, files)
    return Comparison(
        title=couple.title,
        names=couple.names,
        seeds=couple.seeds,
        left_out=len({*first.scores} ^ {*second.scores}),
        selection=rule,
        evidence=evidence(len(couple.seeds)),
        differing=couple.differing,
        top1=(sides[0], sides[1]),
        board_methods=len(couple.family.names) if couple.family else None,
        difference=difference,
        p_value=p_value,
        adjusted_p_value=p_value,
        flips=flips,
        classes=classes if flips else _recorded_classes(couple, rule),
        cost=_cost(couple),
    )


def _difference(couple: Couple, first: Scores, second: Scores) -> tuple[Estimate, float | None]:
    if couple.family is not None:
        found = couple.family.compare(couple.entries[1].key, couple.entries[0].key)
        assert found.difference is not None  # a couple shares seeds
        return Estimate(found.difference, found.low, found.high, found.seeds), found.p_value
    difference = paired_estimate(second, first)
    assert difference is not None
    return clipped(difference, -1.0, 1.0), paired_p_value(second, first)


def _top1(run: Record, rule: str) -> float:
    return float(getattr(run.metrics, rule).test.top1)


def _by_sample(couple: Couple, rule: str, files: Mapping[str, Path]) -> tuple[Flips | None, tuple[ClassChange, ...]]:
    """Measure flips and changes by class where every shared run has its predictions.

    A sample is one unit of evidence however many seeds there are: it counts for the side that is right on it in more of
    them. With one seed this is McNemar's test, with more a sign test over samples, which do not depend on each other.
    """
    runs = list(couple.runs())
    if any(run.run_id not in files for both in runs for run in both):
        return None, ()
    changes, changed, targets = [], [], np.array([])
    for first, second in runs:
        (before, targets), (after, same) = (test_predictions(files[r.run_id], r, rule) for r in (first, second))
        if not np.array_equal(targets, same):
            raise IntegrityError(f"runs {first.run_id} and {second.run_id} have other test targets on the same data")
        changes.append((after == targets).astype(np.int64) - (before == targets))
        changed.append(float(np.mean(before != after)))
    each = np.stack(changes)  # (seeds, samples): -1 lost, 0, 1 gained
    votes = np.sign(each.sum(axis=0))
    flips = Flips(float(np.mean(each < 0)), float(np.mean(each > 0)), mean(changed), _mcnemar(votes))
    names = runs[0][0].dataset.class_names
    classes = [number for number in range(len(names)) if (targets == number).any()]
    adjusted = benjamini_hochberg([_mcnemar(votes[targets == number]) for number in classes])
    return flips, tuple(
        ClassChange(names[number], int((targets == number).sum()), float(each[:, targets == number].mean()), p_value)
        for number, p_value in zip(classes, adjusted, strict=True)
    )


def _mcnemar(votes: Signs) -> float:
    return mcnemar_p_value(int((votes < 0).sum()), int((votes > 0).sum()))


def _recorded_classes(couple: Couple, rule: str) -> tuple[ClassChange, ...]:
    """Measure changes by class from the counts in the records, where all of them have counts."""
    runs = list(couple.runs())
    counts = [tuple(getattr(run.metrics, rule).classes for run in both) for both in runs]
    if any(classes is None for both in counts for classes in both):
        return ()
    return tuple(
        ClassChange(name, total, mean([second.correct[n] - first.correct[n] for first, second in counts]) / total, None)
        for n, (name, total) in enumerate(zip(runs[0][0].dataset.class_names, counts[0][0].samples, strict=True))
        if total
    )


def _cost(couple: Couple) -> CostRatio:
    runs = list(couple.runs())

    def ratio(get: Callable[[Record], float | None]) -> float | None:
        before, after = _total([get(first) for first, _ in runs]), _total([get(second) for _, second in runs])
        return None if after is None or not before else after / before

    machines = {run.hardware.model_dump_json(exclude={"host"}) for both in runs for run in both}
    return CostRatio(
        parameters=ratio(lambda run: run.student.parameters),
        macs=ratio(lambda run: run.student.macs),
        train_seconds=ratio(lambda run: run.times.train_seconds),
        same_machine=len(machines) == 1,
    )


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
