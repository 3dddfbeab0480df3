"""A technical file in the order of Annex IV of the EU AI Act (Regulation 2024/1689), as far as a record fills it.

It is a draft for whoever is responsible, and no legal advice: the points that need a decision of people are marked.
"""

from collections.abc import Iterator, Sequence

from kd_bench.deploy.facts import (
    MEASURED_HEAD,
    NOT_MEASURED,
    NOT_PROVIDED,
    class_rows,
    compute_rows,
    difference_to_teacher,
    group_rows,
    hash_rows,
    measured_rows,
    table,
    tuning_text,
)
from kd_bench.deploy.gate_report import as_markdown
from kd_bench.deploy.gating import Report
from kd_bench.deploy.parts import NO_GROUPS
from kd_bench.deploy.subject import Subject
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import for_markdown

Lines = Iterator[str]


def technical_file(subject: Subject, reports: Sequence[Report], record_sha256: str) -> str:
    """Write the file, point by point; gaps say "not measured" or "not provided"."""
    run = subject.runs[0]
    opening = (
        f"Technical documentation of run {run.run_id}, in the order of Annex IV of Regulation (EU) 2024/1689. It is "
        f"filled from measurements; gaps are marked “{NOT_MEASURED}” where a number is missing and “{NOT_PROVIDED}” "
        "where the provider has to write. It is no legal advice."
    )
    lines = ["# Technical file", "", opening, ""]
    for section in (_general, _development, _control):
        lines += [*section(subject, reports), ""]
    lines += [*_rest(subject, reports), "", "## Hashes", ""]
    return "\n".join([*lines, *table(("file", "sha256"), hash_rows(run, record_sha256))]) + "\n"


def _point(name: str, text: str) -> str:
    return f"- **{name}**: {text}"


def _gap(name: str, what: str) -> str:
    return _point(name, f"{NOT_PROVIDED} ({what})")


def _general(subject: Subject, reports: Sequence[Report]) -> Lines:
    run = subject.runs[0]
    packages = ", ".join(f"{name} {version}" for name, version in sorted(run.environment.packages.items()))
    yield "## 1. General description"
    yield ""
    yield _gap("(a) Intended purpose, provider, version", "intended purpose and provider")
    yield _point("(a) Version", f"run {run.run_id}, finished {run.times.finished_at.isoformat()}")
    yield _gap("(b) Interaction with hardware and software", "the system that the model becomes a part of")
    yield _point(
        "(c) Versions of software",
        f"kd_bench {for_markdown(run.code.version)}, Python {for_markdown(run.environment.python)}, "
        f"{for_markdown(packages, 2000)}",
    )
    yield _gap("(d) Forms in which it is placed on the market", "such as a package, a file, a service")
    yield _gap("(e) Hardware that it is to run on", "its latency was measured as section 3 says")
    yield _gap("(f) Photographs of products, (g) user interface, (h) instructions for use", "for the deployer")


def _development(subject: Subject, reports: Sequence[Report]) -> Lines:
    run = subject.runs[0]
    yield "## 2. Elements and development"
    yield ""
    yield _point("(a) Methods and steps, third-party systems", _method(run))
    yield _point("(b) Design and what is optimised", _design(run))
    yield _point(
        "(c) Architecture and compute",
        f"{for_markdown(run.student.name)}, {run.student.parameters} parameters, {run.student.macs} "
        "multiply-accumulates an image",
    )
    yield ""
    yield from table(("compute", "measured"), compute_rows(run))
    yield ""
    yield _point("(d) Data", _data(run))
    yield _gap("(d) Provenance, labelling and cleaning of the data", "by whom and how")
    yield _gap("(e) Human oversight", "measures, Article 14")
    yield _gap("(f) Pre-determined changes", "such as retraining")
    yield _point(
        "(g) Validation and testing", "the tables of sections 3 and 4; the numbers follow from saved predictions"
    )
    yield _gap("(h) Cybersecurity", "of the system")


def _method(run: Record) -> str:
    name = for_markdown
    method = f"{name(run.method.name)} ({name(run.method.paper)}), recipe {name(run.recipe)}, seed {run.seed}"
    if run.teacher is None:
        return f"{method}; no teacher"
    origin = f"run {run.teacher.run_id}" if run.teacher.run_id else name(run.teacher.source)
    return (
        f"{method}; teacher {name(run.teacher.name)} from {origin}, weights sha256 {run.teacher.weights_sha256}; its "
        f"licence and whether its outputs may be used for training: {NOT_PROVIDED}"
    )


def _design(run: Record) -> str:
    return (
        f"the loss of the method and its weights are in the configuration of the record; the reported weights "
        f"are those of {run.selection.replace('_', ' ')}; runs of a search for hyperparameters: {tuning_text(run)}"
    )


def _data(run: Record) -> str:
    data = run.dataset
    return (
        f"{for_markdown(data.name)}, content sha256 {data.content_sha256}; {data.train_samples} images for training, "
        f"{data.validation_samples} for selection, {data.test_samples} for testing; {data.duplicates} test images are "
        "in the training data as well"
    )


def _control(subject: Subject, reports: Sequence[Report]) -> Lines:
    run = subject.runs[0]
    yield "## 3. Monitoring, functioning and control"
    yield ""
    yield "Accuracy, as Article 15 asks to declare it, and the rest of what was measured:"
    yield ""
    yield from table(MEASURED_HEAD, measured_rows(subject))
    yield ""
    yield _point("Difference to the teacher, points of top-1", difference_to_teacher(run))
    groups = group_rows(subject)
    yield _point("Accuracy for specific groups", "the table below" if groups else f"{NOT_MEASURED}: {NO_GROUPS}")
    if groups:
        yield ""
        yield from table(("group", "test images", "top-1 %", "points to the teacher"), groups)
        yield ""
    classes = class_rows(subject)
    yield _point("Accuracy by class", "the table below" if classes else NOT_MEASURED)
    if classes:
        yield ""
        yield from table(("class", "test images", "top-1 %", "points to the teacher"), classes)
        yield ""
    yield _gap("Foreseeable unintended outcomes and risks", "to health, safety and fundamental rights")
    height, width = run.student.input_size
    yield _point("Input data", f"images of 3 channels, {height} x {width} pixels as the network gets them")


def _rest(subject: Subject, reports: Sequence[Report]) -> Lines:
    yield "## 4. Appropriateness of the performance metrics"
    yield ""
    yield "Policies that were applied, rule by rule:" if reports else f"Policies: {NOT_PROVIDED}"
    for report in reports:
        yield f"\n{for_markdown(report.policy.policy.claim)}\n\n{as_markdown(report)}"
    yield from ("", "## 5. Risk management system (Article 9)", "", NOT_PROVIDED)
    yield from ("", "## 6. Changes through the lifecycle", "", _changes(subject.runs[0]))
    yield from ("", "## 7. Harmonised standards", "", NOT_PROVIDED)
    yield from ("", "## 8. EU declaration of conformity", "", NOT_PROVIDED)
    yield from ("", "## 9. Post-market monitoring (Article 72)", "")
    yield (
        f"The plan: {NOT_PROVIDED}. `kd-bench monitor {subject.runs[0].run_id}` writes reference statistics and tells "
        "drift of predictions in use from them; with `--since` it compares a new student with this one."
    )


def _changes(run: Record) -> str:
    code = f"commit {run.code.commit}" if run.code.commit else "no commit"
    return (
        f"The record is immutable and names code ({code}), data and weights by hash. Changes after it: {NOT_PROVIDED}."
    )
