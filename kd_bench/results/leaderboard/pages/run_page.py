"""The page of one run: how to do it again, what came out, curves, calibration, classes, and what it ran on."""

from collections.abc import Sequence

from pydantic_core import to_json

from kd_bench.errors import ConfigError
from kd_bench.results.leaderboard.known_metrics import GROUPS
from kd_bench.results.leaderboard.metric import Metric, value_at
from kd_bench.results.leaderboard.pages.command import reproduce_command
from kd_bench.results.leaderboard.pages.html import (
    REASON_LIMIT,
    details,
    document,
    legend,
    scroll,
    section,
    table,
    with_links,
)
from kd_bench.results.leaderboard.plots.chart import SERIES, hundredfold, plain
from kd_bench.results.leaderboard.plots.run_plots import class_gaps, class_plot, curve_plot, curves_of, reliability_plot
from kd_bench.results.records.measured import SelectedMetrics
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import for_html, visible
from kd_bench.results.text.formats import FORMATS, MISSING, count, decimal, percent, seconds

NAME_LIMIT = 80
EXEMPLARS = 20
HISTORY_ROWS = 12
RULES = {
    "last": "last epoch",
    "best_on_validation": "best on validation",
    "best_on_test": "best on test: too good",
    "ema": "moving average of the weights",
}
RULE_COLUMNS = ("Weights", "Epoch", "Validation top-1 %", "Test top-1 %", "NLL", "ECE")
EXEMPLAR_COLUMNS = ("Test image", "Class", "Teacher says", "Student says", "Teacher's confidence %")
CLASS_COLUMNS = ("Class", "Images", "Top-1 %", "Teacher's %", "Difference", "Significant")
BIN_COLUMNS = ("Confidence %", "Images", "Mean confidence %", "Accuracy %")


def run_page(record: Record) -> str:
    """The page of a record; it depends on nothing else."""
    title = f"{visible(record.method.name, NAME_LIMIT)}, seed {record.seed}"
    found = record.headline()
    return document(
        title,
        (
            f'<header><p><a href="../index.html">All boards</a></p><h1>{for_html(title)}</h1>',
            f'<p class="counts">{for_html(_subtitle(record))}</p><p>{with_links(for_html(record.method.paper))}</p>',
            "</header><main>",
            section("Do it again", _command(record)),
            section("Results", _results(record, found)),
            section("Learning curves", _curves(record)),
            section("Calibration", _reliability(found)),
            section("Classes", _classes(record, found)),
            section("Where student and teacher differ", _exemplars(record, found)),
            section("Provenance", _provenance(record)),
            section("Configuration", details("As JSON", scroll("Configuration", f"<pre>{_json(record.config)}</pre>"))),
            "</main>",
        ),
    )


def _command(record: Record) -> str:
    try:
        line = reproduce_command(record)
    except ConfigError as error:
        return f"<p>No command composes to the configuration of this record: {for_html(str(error), REASON_LIMIT)}</p>"
    return (
        f"<pre><code>{for_html(line)}</code></pre><p>With the code of this run it composes to this very configuration;"
        f" <code>kd-bench trace {record.run_id}</code> prints it as well.</p>"
    )


def _subtitle(record: Record) -> str:
    pair = f"{record.teacher.name} → {record.student.name}" if record.teacher else record.student.name
    return " · ".join(visible(text, NAME_LIMIT) for text in (record.dataset.name, pair, record.recipe, record.role))


def _results(record: Record, found: SelectedMetrics) -> str:
    reasons = {**found.not_measured, **(record.full.not_measured if record.full else {})}
    groups = "".join(_group(record, group, metrics) for group, metrics in GROUPS.items())
    return (
        table("By weights", RULE_COLUMNS, _rules(record), True, RULE_COLUMNS[1:])
        + f'<h3>Of the headline weights, on the test split</h3><div class="metrics">{groups}</div>'
        + details("What was not measured, and why", table("Not measured", ("Metric", "Reason"), _items(reasons)))
    )


def _group(record: Record, group: str, metrics: Sequence[Metric]) -> str:
    rows = [row for row in (_result(record, metric) for metric in metrics) if row[1] != MISSING]
    return table(f"Metrics: {group}", (group.capitalize(), "Value"), rows, row_headers=True, numeric=("Value",))


def _rules(record: Record) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = []
    for rule, name in RULES.items():
        selected: SelectedMetrics | None = getattr(record.metrics, rule)
        if selected is None:
            continue
        test = selected.test
        mark = " (headline)" if rule == record.selection else ""
        numbers = (percent(selected.validation.top1), percent(test.top1), decimal(test.nll), decimal(test.ece))
        lines.append((name + mark, str(selected.epoch), *numbers))
    return lines


def _result(record: Record, metric: Metric) -> tuple[str, str]:
    value = value_at(record, metric.path)
    floor = value_at(record, metric.floor) if metric.floor else None
    text = FORMATS[metric.unit]
    shown = MISSING if value is None else text(value)
    return metric.title, shown if floor is None else f"{shown} ({text(floor)})"


def _curves(record: Record) -> str:
    names = sorted({name for row in record.history for name in row} - {"epoch", "lr"})
    top1 = [name for name in names if name.endswith("top1")]
    figures = []
    for kind, chosen in (("top1", top1), ("loss", [name for name in names if name not in top1][:SERIES])):
        curves = curves_of(record.history, chosen)
        if curves:
            title = "Accuracy by epoch" if kind == "top1" else "Losses by epoch"
            plot = scroll(title, curve_plot(f"curves-{kind}", title, curves, kind == "top1"))
            figures.append(f"<figure>{plot}{legend(list(curves))}</figure>")
    if not figures:
        return ""
    step = max(1, -(-len(record.history) // HISTORY_ROWS))
    rows = [row for index, row in enumerate(record.history) if (len(record.history) - 1 - index) % step == 0]
    columns = ("epoch", *names)
    cells = [tuple(plain(row[name]) if name in row else MISSING for name in columns) for row in rows]
    shown = details("Curves as a table", table("Curves", columns, cells, numeric=columns))
    return f'<div class="figures">{"".join(figures)}</div>{shown}'


def _reliability(found: SelectedMetrics) -> str:
    bins = found.reliability
    if bins is None:
        return ""
    size = len(bins.samples)
    rows = [
        (
            f"{hundredfold(index / size)} to {hundredfold((index + 1) / size)}",
            str(samples),
            MISSING if confidence is None else percent(confidence),
            MISSING if not samples else percent(correct / samples),
        )
        for index, (samples, correct, confidence) in enumerate(
            zip(bins.samples, bins.correct, bins.confidence, strict=True)
        )
    ]
    return f"<figure>{scroll('Reliability', reliability_plot(bins))}</figure>" + details(
        "Reliability as a table", table("Reliability", BIN_COLUMNS, rows, True, BIN_COLUMNS[1:])
    )


def _classes(record: Record, found: SelectedMetrics) -> str:
    classes = found.classes
    if classes is None:
        return ""
    gaps = class_gaps(classes)
    worse, better = classes.significantly_worse or (), classes.significantly_better or ()
    rows = []
    for index, (samples, correct) in enumerate(zip(classes.samples, classes.correct, strict=True)):
        gap = gaps[index] if gaps else None
        top1 = correct / samples if samples else None
        teacher = None if gap is None or top1 is None else top1 - gap
        verdict = "worse" if index in worse else "better" if index in better else ""
        numbers = [MISSING if value is None else percent(value) for value in (top1, teacher, gap)]
        rows.append((_class_name(record, index), str(samples), *numbers, verdict))
    shown = table("Classes", CLASS_COLUMNS, rows, True, CLASS_COLUMNS[1:5])
    if not any(gap is not None for gap in gaps):
        return shown
    plot = scroll("Classes", class_plot(classes, record.dataset.class_names))
    return f"<figure>{plot}</figure>" + details("Classes as a table", shown)


def _class_name(record: Record, index: int) -> str:
    names = record.dataset.class_names
    return names[index] if index < len(names) else str(index)


def _exemplars(record: Record, found: SelectedMetrics) -> str:
    listed = found.exemplars
    if listed is None or not listed.total:
        return ""
    lists = (listed.index, listed.target, listed.teacher, listed.student, listed.teacher_confidence)
    rows = [
        (str(index), *(_class_name(record, label) for label in (target, teacher, student)), percent(confidence))
        for index, target, teacher, student, confidence in list(zip(*lists, strict=True))[:EXEMPLARS]
    ]
    return (
        f"<p>{listed.total} test images on which they predict different classes; here the {len(rows)} that the teacher"
        f" is surest of.</p>{details('Images', table('Images', EXEMPLAR_COLUMNS, rows, True, EXEMPLAR_COLUMNS[4:]))}"
    )


def _provenance(record: Record) -> str:
    code, machine, times = record.code, record.hardware, record.times
    commit = code.commit or "unknown"
    teacher = record.teacher
    rows = [
        ("run", record.run_id),
        ("study", record.study or MISSING),
        ("finished", times.finished_at.isoformat()),
        ("training", f"{seconds(times.train_seconds)} s, taken up again {times.resumed} times"),
        ("kd_bench", f"{code.version}, commit {commit}{', with changes' if code.dirty else ''}"),
        ("machine", f"{machine.system}, {machine.processor}, {machine.device}"),
        ("threads", str(machine.threads)),
        ("data", f"sha256 {record.dataset.content_sha256}, {count(record.dataset.train_samples)} training images"),
        ("student's weights", f"sha256 {record.student.weights_sha256}"),
        ("teacher's weights", f"sha256 {teacher.weights_sha256}, from {teacher.source}" if teacher else MISSING),
        ("trained from runs", ", ".join(record.method.trained_from) or MISSING),
        *((f"file {name}", f"sha256 {digest}") for name, digest in sorted(record.artifacts.items())),
    ]
    packages = {"python": record.environment.python, **record.environment.packages}
    return table("Provenance", ("What", "Value"), rows, row_headers=True) + details(
        "Packages", table("Packages", ("Package", "Version"), _items(packages))
    )


def _items(mapping: dict[str, str]) -> list[tuple[str, str]]:
    return sorted(mapping.items())


def _json(value: object) -> str:
    """Escaped line by line: a configuration may hold anything."""
    return "\n".join(for_html(line) for line in to_json(value, indent=1, inf_nan_mode="constants").decode().split("\n"))
