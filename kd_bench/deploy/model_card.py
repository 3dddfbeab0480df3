"""The model card of a run, as the Hugging Face hub reads it, made of its record. Nothing is sent unless asked for."""

from collections.abc import Sequence
from pathlib import Path

import yaml
from httpx import HTTPError
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    HfApi,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
    get_token,
)
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from kd_bench.config.files import file_sha256, write_atomically
from kd_bench.deploy.annex import technical_file
from kd_bench.deploy.facts import (
    MEASURED_HEAD,
    NOT_MEASURED,
    class_rows,
    compute_rows,
    difference_to_teacher,
    failure_rows,
    group_rows,
    hash_rows,
    measured_rows,
    table,
)
from kd_bench.deploy.gate_report import as_markdown
from kd_bench.deploy.gating import Report
from kd_bench.deploy.parts import NO_GROUPS
from kd_bench.deploy.subject import Subject, command_of
from kd_bench.errors import ConfigError, KDBenchError
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.records.record import Record
from kd_bench.results.text.escape import for_markdown, visible

CARD_FILE = "README.md"
TECHNICAL_FILE = "technical_file.md"
RESULTS_FOLDER = ".eval_results"
LIBRARY = "kd-bench"
TASK = "image-classification"
# Data sets that the hub has, by their names here.
HUB_DATASETS = {
    "cifar10": "uoft-cs/cifar10",
    "cifar100": "uoft-cs/cifar100",
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet": "ILSVRC/imagenet-1k",
    "tiny_imagenet": "zh-plus/tiny-imagenet",
}
# Metrics of a card's metadata: the hub's name, ours, and the path in a record.
RESULTS = (
    ("accuracy", "Test top-1", "headline.test.top1"),
    ("top_5_accuracy", "Test top-5", "headline.test.top5"),
    ("expected_calibration_error", "ECE, 15 bins", "headline.test.ece"),
    ("teacher_agreement", "Agreement with the teacher", "headline.test.teacher_agreement"),
    ("retention", "Top-1 over the teacher's", "headline.test.retention"),
)


def write_card(subject: Subject, record_file: Path, reports: Sequence[Report], folder: Path) -> list[Path]:
    """Write the card, ``.eval_results/*.yaml`` and the technical file into a folder; return their paths.

    Args:
        record_file: the record of the subject's only run.
        reports: gates whose outcome the card shows, waivers included.

    Raises:
        IntegrityError: the folder cannot be written.
    """
    run, sha256 = subject.runs[0], file_sha256(record_file)
    results = folder / RESULTS_FOLDER
    results.mkdir(parents=True, exist_ok=True)
    contents = {
        folder / CARD_FILE: card_text(subject, reports, sha256),
        folder / TECHNICAL_FILE: technical_file(subject, reports, sha256),
        results / f"{run.run_id}.yaml": eval_results(run),
    }
    for path, text in contents.items():
        write_atomically(path, text)
    return list(contents)


def card_text(subject: Subject, reports: Sequence[Report], record_sha256: str) -> str:
    """Write the card: metadata for the hub, then sections for people."""
    run = subject.runs[0]
    data = ModelCardData(
        model_name=visible(f"{run.student.name}-{run.method.name}-{run.dataset.name}", 200),
        library_name=LIBRARY,
        pipeline_tag=TASK,
        tags=["knowledge-distillation", TASK],
        datasets=[HUB_DATASETS[run.dataset.name]] if run.dataset.name in HUB_DATASETS else None,
        metrics=["accuracy"],
        eval_results=_results(run),
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(_body(subject, reports, record_sha256)) + "\n"))


def _results(run: Record) -> list[EvalResult]:
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=HUB_DATASETS.get(run.dataset.name, run.dataset.name),
            dataset_name=visible(run.dataset.name),
            dataset_split="test",
            metric_type=name,
            metric_name=title,
            metric_value=float(value),
        )
        for name, title, path in RESULTS
        if (value := value_at(run, path)) is not None
    ]


def eval_results(run: Record) -> str:
    """Write the results as the hub reads them from ``.eval_results``."""
    notes = f"kd_bench run {run.run_id}, seed {run.seed}, {run.dataset.test_samples} test images"
    if run.dataset.name not in HUB_DATASETS:
        notes += "; the data set is none of the hub's"
    entries = [
        EvalResultEntry(
            dataset_id=HUB_DATASETS.get(run.dataset.name, run.dataset.name),
            task_id=name,
            value=float(value),
            date=run.times.finished_at.isoformat(),
            notes=notes,
        )
        for name, _, path in RESULTS
        if (value := value_at(run, path)) is not None
    ]
    return str(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True))


def _body(subject: Subject, reports: Sequence[Report], record_sha256: str) -> list[str]:
    run = subject.runs[0]
    name = for_markdown
    teacher = f"distilled from {name(run.teacher.name)}" if run.teacher else "trained without a teacher"
    lines = [
        f"# {name(run.student.name)} on {name(run.dataset.name)}, {name(run.method.name)}",
        "",
        f"An image classifier of {run.dataset.num_classes} classes, {teacher} by the method {name(run.method.name)} "
        f"({name(run.method.paper)}). Every number is measured by kd_bench {name(run.code.version)} and stands in the "
        f"record of run {run.run_id}; the weights are those of {run.selection.replace('_', ' ')}, "
        f"epoch {run.headline().epoch}.",
        "",
        "## Measurements",
        "",
        "Intervals are 95 %. Those over test images cover the choice of the images for these weights, those over seeds "
        "the noise of training.",
        "",
        *table(MEASURED_HEAD, measured_rows(subject)),
        "",
        f"Top-1 minus the teacher's, in points over test images: {difference_to_teacher(run)}.",
        "",
        *_gates(reports),
        *_limits(subject),
        *_lineage(run),
        *_data(run),
    ]
    lines += ["## Compute", "", *table(("what", "measured"), compute_rows(run)), ""]
    return [*lines, *_reproduction(run), "## Hashes", "", *table(("file", "sha256"), hash_rows(run, record_sha256))]


def _gates(reports: Sequence[Report]) -> list[str]:
    if not reports:
        return ["## Policies", "", "No policy was applied (`kd-bench card RUN --policy NAME`).", ""]
    lines = ["## Policies", ""]
    for report in reports:
        lines += [f"{for_markdown(report.policy.policy.claim)}", "", as_markdown(report)]
    return lines


def _limits(subject: Subject) -> list[str]:
    run = subject.runs[0]
    classes, failures = class_rows(subject), failure_rows(run)
    lines = ["## Limits by class and group", ""]
    head = ("class", "test images", "top-1 %", "points to the teacher")
    lines += [*table(head, classes), ""] if classes else [f"By class: {NOT_MEASURED}.", ""]
    groups = group_rows(subject)
    lines += [*table(("group", *head[1:]), groups), ""] if groups else [f"By group: {NO_GROUPS}.", ""]
    lines += ["## Known failures", ""]
    if not failures:
        return [*lines, f"Images that only the teacher gets right: {NOT_MEASURED}.", ""]
    lines += ["Test images that the teacher gets right and the student wrong, those first that it is surest of.", ""]
    return [*lines, *table(("position", "label", "teacher", "student", "confidence"), failures), ""]


def _lineage(run: Record) -> list[str]:
    teacher = run.teacher
    lines = ["## Teacher and lineage", ""]
    if teacher is None:
        return [*lines, "The run had no teacher.", ""]
    origin = f"run {teacher.run_id}" if teacher.run_id else f"source {for_markdown(teacher.source)}"
    lines.append(
        f"The teacher is {for_markdown(teacher.name)} ({origin}), test top-1 {100 * teacher.test_top1:.2f} %, "
        f"{teacher.parameters} parameters, weights sha256 {teacher.weights_sha256}."
    )
    if run.method.trained_from:
        lines.append(f"The method also learned from runs {', '.join(run.method.trained_from)}.")
    return [*lines, "`kd-bench trace` shows the whole lineage. The licence of the teacher is not provided.", ""]


def _data(run: Record) -> list[str]:
    data = run.dataset
    return [
        "## Data",
        "",
        f"{for_markdown(data.name)}: {data.train_samples} images for training, {data.validation_samples} for selection "
        f"(carved from the training data), {data.test_samples} for the numbers above; {data.num_classes} classes; "
        f"images of {data.image_size[0]} x {data.image_size[1]} pixels; content sha256 {data.content_sha256}. "
        f"{data.duplicates} test images are in the training data as well, byte for byte.",
        "",
    ]


def _reproduction(run: Record) -> list[str]:
    code = f"commit {run.code.commit}" if run.code.commit else "no commit"
    lines = ["## Reproduction", ""]
    if line := command_of(run):
        lines += ["```", visible(line, 4000).replace("```", ""), "```", ""]
    else:
        lines += ["The record gives no command that composes; its configuration is in the record.", ""]
    changed = " with changes" if run.code.dirty else ""
    return [*lines, f"kd_bench {for_markdown(run.code.version)}, {code}{changed}; seed {run.seed}.", ""]


def push(folder: Path, repository: str) -> str:
    """Send the folder of a card to a repository of the hub, made private if there is none; return its address.

    Raises:
        ConfigError: there is no token, or the name is none of a repository.
        KDBenchError: the hub cannot be reached, or refuses.
    """
    if get_token() is None:
        raise ConfigError("--push: there is no token of the Hugging Face hub; set HF_TOKEN or call `hf auth login`")
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Model card of kd_bench")
    except HFValidationError as error:
        raise ConfigError(f"--push {repository}: {error}") from error
    except (OSError, HTTPError, HfHubHTTPError) as error:
        raise KDBenchError(f"--push {repository}: nothing was sent: {error}; the card lies in {folder}") from error
    return f"https://huggingface.co/{repository}"
