"""Accuracy part by part of the test split: by class, from the counts of records, and by group.

All seeds are tested on the same images, so that the noise of the images does not shrink with their number: intervals
add it, in quadrature, to the noise of the seeds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import ndtri

from kd_bench.deploy.subject import Quantity, Subject
from kd_bench.results.records.measured import GroupCounts
from kd_bench.results.statistics.intervals import CONFIDENCE, Estimate, estimate

QUANTILE = float(ndtri((1 + CONFIDENCE) / 2))
NO_GROUPS = "not assessed: the data set has no groups (dataset.groups)"


@dataclass(frozen=True)
class Counts:
    """Test images of one part in one run: how many, how many the student has right, and the flips."""

    samples: int
    correct: int
    negative: int
    positive: int


def class_quantities(subject: Subject, against_teacher: bool) -> list[Quantity]:
    """Return top-1 of each class, or its difference to the teacher's. Classes without test images are left out."""
    classes = [run.headline().classes for run in subject.runs]
    names = subject.runs[0].dataset.class_names
    by_class: list[list[Counts]] = [[] for _ in names]
    for each in classes:
        if each is None:
            return [Quantity(reason="counts by class are not measured", command=subject.evaluation("--write"))]
        if against_teacher and (each.negative_flips is None or each.positive_flips is None):
            return [Quantity(reason="there is no teacher to compare classes with")]
        none = [0] * len(names)
        rows = zip(each.samples, each.correct, each.negative_flips or none, each.positive_flips or none, strict=True)
        for counts, row in zip(by_class, rows, strict=True):
            counts.append(Counts(*row))
    named = [(name, counts) for name, counts in zip(names, by_class, strict=True) if counts[0].samples]
    return [part_quantity(name, counts, against_teacher) for name, counts in named]


def group_quantities(subject: Subject, against_teacher: bool) -> list[Quantity]:
    """Return top-1 of each group of test images, or its difference to the teacher's."""
    found = [run.full.groups if run.full else None for run in subject.runs]
    known = [groups for groups in found if groups is not None]
    if len(known) < len(found):
        command = subject.evaluation("--full --write dataset.groups=FILE")
        return [Quantity(reason=NO_GROUPS, command=command)]
    if len({groups.sha256 for groups in known}) > 1:
        return [Quantity(reason="the runs have different groups (dataset.groups)")]
    if against_teacher and any(groups.negative_flips is None for groups in known):
        return [Quantity(reason="there is no teacher to compare groups with")]
    return [
        part_quantity(name, [_counts_of_group(groups, number) for groups in known], against_teacher)
        for number, name in enumerate(known[0].names)
    ]


def _counts_of_group(groups: GroupCounts, number: int) -> Counts:
    negative, positive = (
        0 if counts is None else counts[number] for counts in (groups.negative_flips, groups.positive_flips)
    )
    return Counts(groups.samples[number], groups.correct[number], negative, positive)


def part_quantity(name: str, counts: Sequence[Counts], against_teacher: bool) -> Quantity:
    """Return the mean over seeds of a part's top-1, or of its difference to the teacher's, with its interval."""
    if against_teacher:
        values = [(each.positive - each.negative) / each.samples for each in counts]
        halves = [paired_half_width(each.negative, each.positive, each.samples) for each in counts]
    else:
        values = [each.correct / each.samples for each in counts]
        halves = [share_half_width(each.correct, each.samples) for each in counts]
    over_seeds = estimate(values)
    half = math.hypot(max(halves), over_seeds.half_width or 0.0)
    least = -1.0 if against_teacher else 0.0
    interval = max(over_seeds.mean - half, least), min(over_seeds.mean + half, 1.0)
    return Quantity(Estimate(over_seeds.mean, *interval, counts[0].samples), name, unit="images")


def paired_half_width(negative: int, positive: int, samples: int) -> float:
    """Return half the width of the interval of a difference of two accuracies on the same images, as a fraction.

    Wald's interval with an image added to either kind of flips (Bonett and Price 2012): without flips it would have
    width 0 else, and claim certainty.
    """
    changes, total = negative + positive + 2, samples + 2
    return QUANTILE * math.sqrt(changes - (positive - negative) ** 2 / total) / total


def share_half_width(correct: int, samples: int) -> float:
    """Return half the width of an accuracy's interval with two images added on either side (Agresti and Coull 1998).

    Without them one of 0 or 1 would have width 0, and claim certainty.
    """
    total = samples + 4
    share = (correct + 2) / total
    return QUANTILE * math.sqrt(share * (1 - share) / total)
