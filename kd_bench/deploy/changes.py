"""Changes from one student to the next on the frozen test split: flips, and accuracy by class. Seeds may differ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kd_bench.errors import ConfigError
from kd_bench.results.comparison.flips import test_predictions
from kd_bench.results.comparison.measures import FALSE_DISCOVERY_RATE, ClassChange, Flips
from kd_bench.results.records.directory import PREDICTIONS_FILE
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.multiplicity import benjamini_hochberg
from kd_bench.results.statistics.paired import mcnemar_p_value
from kd_bench.results.text.formats import p_value, percent, points


@dataclass(frozen=True)
class Changes:
    """The later of two runs against the earlier one; classes without test images are left out."""

    earlier: str
    later: str
    flips: Flips
    classes: tuple[ClassChange, ...]


def changes(earlier: tuple[Record, Path], later: tuple[Record, Path]) -> Changes:
    """Compare the predictions of two runs, given by record and directory.

    Raises:
        ConfigError: they were tested on different data.
        IntegrityError: a file of predictions is missing or is not the one of its record.
    """
    records = earlier[0], later[0]
    if records[0].dataset.content_sha256 != records[1].dataset.content_sha256:
        names = [record.dataset.name for record in records]
        raise ConfigError(f"runs on different data cannot be compared: {names[0]} and {names[1]}")
    (before, targets), (after, _) = (
        test_predictions(directory / PREDICTIONS_FILE, record, record.selection)
        for record, directory in (earlier, later)
    )
    change = (after == targets).astype(np.int64) - (before == targets)
    lost, gained = change < 0, change > 0
    flips = Flips(
        float(lost.mean()),
        float(gained.mean()),
        float((before != after).mean()),
        mcnemar_p_value(int(lost.sum()), int(gained.sum())),
    )
    labels = np.unique(targets)
    adjusted = benjamini_hochberg(
        [mcnemar_p_value(int(lost[targets == label].sum()), int(gained[targets == label].sum())) for label in labels]
    )
    classes = tuple(
        ClassChange(
            records[0].dataset.class_names[label],
            int((targets == label).sum()),
            float(change[targets == label].mean()),
            adjusted_p,
        )
        for label, adjusted_p in zip(labels, adjusted, strict=True)
    )
    return Changes(records[0].run_id, records[1].run_id, flips, classes)


def as_text(found: Changes, shown: int = 5) -> str:
    """Write the flips and the classes that changed most."""
    flips = found.flips
    lines = [
        f"run {found.later} against run {found.earlier}: {percent(flips.lost)} % of the test images lost, "
        f"{percent(flips.gained)} % gained, {percent(flips.changed)} % get another class; McNemar p "
        f"{p_value(flips.p_value)}"
    ]
    differing = [one for one in found.classes if one.p_value is not None and one.p_value <= FALSE_DISCOVERY_RATE]
    rate = f"{100 * FALSE_DISCOVERY_RATE:g} %"
    lines.append(f"  {len(differing)} of {len(found.classes)} classes differ (McNemar, false discovery rate {rate})")
    for one in sorted(found.classes, key=lambda each: (-abs(each.difference), each.name))[:shown]:
        p = "" if one.p_value is None else f", p {p_value(one.p_value)}"
        lines.append(f"  class {one.name}: {points(one.difference)} points on {one.samples} images{p}")
    return "\n".join(lines)
