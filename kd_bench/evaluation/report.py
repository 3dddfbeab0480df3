"""Measurements of a run as text for a terminal. Needs no torch."""

from collections.abc import Iterator, Sequence
from typing import Any

from kd_bench.results.records.measured import FullEvaluation, SelectedMetrics, SplitMetrics
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import visible

MISSING = "–"
LISTED = 10  # classes and exemplars by name


def as_text(record: Record, selected: SelectedMetrics, full: FullEvaluation | None) -> str:
    """Write the headline metrics, the gaps by class and by sample, and what a full evaluation gave.

    Args:
        record: for the names of things.
        selected: metrics of the rule that it selects by.
    """
    pair = f"{record.teacher.name} -> {record.student.name}" if record.teacher else record.student.name
    title = f"run {record.run_id}: {record.dataset.name}, {pair}, {record.method.name}, seed {record.seed}"
    lines = [title, f"weights of {record.selection.replace('_', ' ')}, epoch {selected.epoch}", ""]
    lines += _table([("", "validation", "test", "test, scaled"), *_rows(selected.validation, selected.test)])
    lines += ["", *_classes(record, selected), *_exemplars(record, selected)]
    if full is not None:
        lines += ["", *_table([(path, shown(value)) for path, value in leaves(full.model_dump())])]
    lines += [f"{path} not measured: {why}" for path, why in _reasons(selected, full)]
    return "\n".join(visible(line, 400) for line in lines)


def _rows(validation: SplitMetrics, test: SplitMetrics) -> Iterator[tuple[str, ...]]:
    scaled = test.scaled.model_dump() if test.scaled else {}
    for name, value in test.model_dump().items():
        if name != "scaled":
            yield name, shown(getattr(validation, name)), shown(value), shown(scaled[name]) if name in scaled else ""
    if scaled:
        yield "temperature", "", "", shown(scaled["temperature"])


def _classes(record: Record, selected: SelectedMetrics) -> Iterator[str]:
    classes, names = selected.classes, record.dataset.class_names
    if classes is None:
        return
    yield (
        f"classes: worst {shown(classes.worst_top1)}, worst tenth {shown(classes.worst_tenth_top1)}, "
        f"standard deviation {shown(classes.sd_top1)}"
    )
    for word, found in (("worse", classes.significantly_worse), ("better", classes.significantly_better)):
        if found is not None:
            which = ": " + _listed([names[label] for label in found]) if found else ""
            yield f"classes significantly {word} than the teacher: {len(found)} of {len(names)}{which}"


def _exemplars(record: Record, selected: SelectedMetrics) -> Iterator[str]:
    found, names = selected.exemplars, record.dataset.class_names
    if found is None:
        return
    yield f"test images on which student and teacher differ: {found.total}; first those that the teacher is surest of"
    columns = (found.index, found.target, found.teacher, found.student, found.teacher_confidence)
    rows = [
        (str(index), *(names[label] for label in labels), shown(confidence))
        for index, *labels, confidence in list(zip(*columns, strict=True))[:LISTED]
    ]
    if rows:
        yield from _table([("index", "label", "teacher", "student", "confidence"), *rows])


def _reasons(selected: SelectedMetrics, full: FullEvaluation | None) -> Iterator[tuple[str, str]]:
    yield from selected.not_measured.items()
    yield from full.not_measured.items() if full else ()


def leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted names of what was measured, and the values."""
    for name, value in values.items():
        if isinstance(value, dict) and name != "not_measured":
            yield from leaves(value, f"{prefix}{name}.")
        elif value is not None and name != "not_measured":
            yield prefix + name, value


def shown(value: Any) -> str:
    """Write a value with four digits; a dash where there is none."""
    if value is None:
        return MISSING
    if isinstance(value, list):
        return " ".join(shown(each) for each in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
