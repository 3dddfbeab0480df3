"""Facts of a run for documents about it: rows of tables, made of its record, with intervals and what is missing."""

from collections.abc import Callable, Iterable, Sequence

from kd_bench.deploy.parts import class_quantities, group_quantities, paired_half_width, share_half_width
from kd_bench.deploy.quantities import PATHS, teacher_values
from kd_bench.deploy.subject import Quantity, Subject
from kd_bench.results.leaderboard.known_metrics import METRICS
from kd_bench.results.leaderboard.metric import value_at
from kd_bench.results.leaderboard.rows import Row
from kd_bench.results.records.record import Record
from kd_bench.results.statistics.intervals import Estimate, estimate
from kd_bench.results.text.escape import for_markdown
from kd_bench.results.text.formats import FORMATS, half_width, percent, points

NOT_MEASURED = "not measured"
NOT_PROVIDED = "not provided"
FAILURES = 10
OF_BOTH = ("teacher_agreement", "negative_flips", "positive_flips", "retention", "classes_worse", "kl")
MEASURED_HEAD = ("metric", "student", "teacher", "over test images", "over seeds", "seeds")
SHARES = ("top1", "top5", "teacher_agreement", "negative_flips", "positive_flips")  # of test images
DOCUMENTED = (
    *SHARES,
    "macro_top1",
    "retention",
    "worst_top1",
    "classes_worse",
    "nll",
    "ece",
    "scaled_ece",
    "brier",
    "kl",
    "corrupted_top1",
    "embedding_cka",
    "parameters",
    "macs",
    "file_bytes",
    "latency_ratio",
    "p50_ms",
    "p99_ms",
    "images_per_second",
)
TITLES = {"top1": "Test top-1 %", "retention": "Retention %"} | {key: metric.title for key, metric in METRICS.items()}

Cells = tuple[str, ...]


def table(head: Cells, rows: Iterable[Cells]) -> list[str]:
    """Return the lines of a Markdown table; every cell is escaped."""
    lines = [head, tuple("---" for _ in head)]
    texts = [f"| {' | '.join(cells)} |" for cells in lines]
    return [*texts, *(f"| {' | '.join(for_markdown(cell, 400) for cell in row)} |" for row in rows)]


def measured_rows(subject: Subject) -> list[Cells]:
    """Return metric, student, teacher, interval over test images, mean over the seeds of the method, their number."""
    return [_measured(key, subject) for key in DOCUMENTED]


def _measured(key: str, subject: Subject) -> Cells:
    run = subject.runs[0]
    value, text = value_at(run, PATHS[key]), text_of(key)
    images = run.dataset.test_samples
    half = share_half_width(round(value * images), images) if key in SHARES and value is not None else None
    row = row_of(subject)
    over_seeds = _over_seeds(key, row)
    return (
        TITLES[key],
        NOT_MEASURED if value is None else text(float(value)),
        teacher_text(key, subject),
        "" if half is None else f"± {percent(half)} ({images} images)",
        "" if over_seeds is None else f"{text(over_seeds.mean)} {_half(over_seeds, key)}".strip(),
        "" if over_seeds is None else str(over_seeds.n),
    )


def text_of(key: str) -> Callable[[float], str]:
    """Return the function that formats a metric's numbers."""
    return FORMATS[METRICS[key].unit] if key in METRICS else percent


def teacher_text(key: str, subject: Subject) -> str:
    """Format the teacher's number, from the student's record or the teacher's own; empty where neither has it."""
    values = teacher_values(key, subject) if key not in OF_BOTH else None
    return "" if values is None else text_of(key)(values[subject.runs[0].seed])


def row_of(subject: Subject) -> Row | None:
    """Return the row of the board that has the first run."""
    rows = subject.board.rows if subject.board else ()
    return next((row for row in rows if subject.runs[0] in row.entry.runs), None)


def _over_seeds(key: str, row: Row | None) -> Estimate | None:
    if row is None or len(row.entry.runs) < 2:
        return None
    if key in METRICS:
        return row.metrics[key]
    known = [value for run in row.entry.runs if (value := value_at(run, PATHS[key])) is not None]
    return estimate(known) if len(known) == len(row.entry.runs) else None


def _half(value: Estimate, key: str) -> str:
    if not value.half_width:
        return ""
    return half_width(value) if text_of(key) is percent else f"± {text_of(key)(value.half_width)}"


def class_rows(subject: Subject) -> list[Cells]:
    """Return class, test images, student, difference to the teacher's with its interval; empty without counts."""
    return _part_rows(class_quantities(subject, False), class_quantities(subject, True))


def group_rows(subject: Subject) -> list[Cells]:
    """Return the same by group; empty without groups."""
    return _part_rows(group_quantities(subject, False), group_quantities(subject, True))


def _part_rows(found: Sequence[Quantity], differences: Sequence[Quantity]) -> list[Cells]:
    by_part = {quantity.part: quantity.estimate for quantity in differences}
    rows: list[Cells] = []
    for quantity in sorted(found, key=lambda one: one.estimate.mean if one.estimate else 0.0):
        if quantity.estimate is None:
            continue
        difference = by_part.get(quantity.part)
        rows.append(
            (
                quantity.part,
                str(quantity.estimate.n),
                percent(quantity.estimate.mean),
                NOT_MEASURED if difference is None else points_text(difference),
            )
        )
    return rows


def points_text(value: Estimate) -> str:
    """Format a difference in points with its interval."""
    if value.low is None or value.high is None:
        return points(value.mean)
    return f"{points(value.mean)} [{points(value.low)}, {points(value.high)}]"


def difference_to_teacher(run: Record) -> str:
    """Format top-1 minus the teacher's in points with its interval over test images; say where it is not measured."""
    test, images = run.headline().test, run.dataset.test_samples
    if test.negative_flips is None or test.positive_flips is None or not images:
        return NOT_MEASURED
    negative, positive = (round(share * images) for share in (test.negative_flips, test.positive_flips))
    mean, half = (positive - negative) / images, paired_half_width(negative, positive, images)
    return points_text(Estimate(mean, mean - half, mean + half, images))


def failure_rows(run: Record) -> list[Cells]:
    """Return position, label, teacher, student and the teacher's confidence of images that only the teacher gets."""
    found, names = run.headline().exemplars, run.dataset.class_names
    if found is None:
        return []
    columns = zip(found.index, found.target, found.teacher, found.student, found.teacher_confidence, strict=True)
    lost: list[Cells] = [
        (str(index), names[target], names[teacher], names[student], f"{confidence:.3f}")
        for index, target, teacher, student, confidence in columns
        if teacher == target
    ]
    return lost[:FAILURES]


def hash_rows(run: Record, record_sha256: str) -> list[Cells]:
    """Return what is hashed, and the sha256."""
    teacher: Sequence[Cells] = [("teacher's weights", run.teacher.weights_sha256)] if run.teacher else []
    return [
        ("record", record_sha256),
        ("student's weights (content)", run.student.weights_sha256),
        *teacher,
        (f"data set {run.dataset.name} (content)", run.dataset.content_sha256),
        *((name, sha256) for name, sha256 in sorted(run.artifacts.items())),
    ]


def compute_rows(run: Record) -> list[Cells]:
    """Return what training cost."""
    times, cost = run.times, run.cost

    def seconds(value: float | None) -> str:
        return NOT_MEASURED if value is None else f"{value:.0f} s"

    memory = cost.peak_memory_bytes if cost else None
    device_memory = cost.device_peak_memory_bytes if cost else None
    return [
        ("training of the student", seconds(times.train_seconds)),
        ("training of its teacher", seconds(times.teacher_train_seconds)),
        ("peak memory of the process", NOT_MEASURED if memory is None else FORMATS["bytes"](memory)),
        ("peak memory of the GPU", NOT_MEASURED if device_memory is None else FORMATS["bytes"](device_memory)),
        ("energy", NOT_MEASURED),
        ("machine", f"{run.hardware.processor}, {run.hardware.device}, {run.hardware.threads} threads"),
        ("runs of a search for hyperparameters", tuning_text(run)),
    ]


def tuning_text(run: Record) -> str:
    """Say how many runs a search for the hyperparameters made."""
    trials = value_at(run, "config.tuning.trials")
    return NOT_MEASURED if trials is None else f"{trials:g}"
