"""Accuracy of student and teacher on corrupted test images: a set made here, and CIFAR-C where the user has it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch

from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import EVALUATION_BATCH, ImageDataModule
from kd_bench.data.splits import carve
from kd_bench.evaluation import cifar_c, corruptions
from kd_bench.results.records.measured import Corruptions

SAMPLES = 2_000

# Top-1 of one network on batches.
Accuracy = Callable[[Iterable[Batch]], float]
Table = dict[str, list[float]]


def on_generated(data: ImageDataModule, student: Accuracy, teacher: Accuracy | None) -> Corruptions:
    """Measure up to 2,000 test images, drawn by the fixed hash and stratified, with every corruption of our set."""
    chosen, _ = carve(data.test.targets, SAMPLES, "corruptions")
    clean = data.test.subset(chosen)

    def batches(kind: str, severity: int) -> Iterator[Batch]:
        for batch in data.evaluation_loader(clean):
            images = corruptions.corrupted(batch.images, chosen[batch.index], kind, severity)
            yield batch._replace(images=images)

    def table(of: Accuracy) -> Table:
        return {kind: [of(batches(kind, s)) for s in corruptions.SEVERITIES] for kind in corruptions.CORRUPTIONS}

    return summary(
        name=corruptions.NAME,
        sha256=None,
        samples=len(chosen),
        severities=corruptions.SEVERITIES,
        clean_top1=student(data.evaluation_loader(clean)),
        top1=table(student),
        teacher_top1=table(teacher) if teacher else None,
    )


def on_cifar_c(
    folder: Path, data: ImageDataModule, clean_top1: float, student: Accuracy, teacher: Accuracy | None
) -> Corruptions:
    """Measure all images of the 15 corruptions of CIFAR-10-C or CIFAR-100-C.

    Raises:
        IntegrityError: the files are incomplete, damaged, or of another data set.
    """
    targets = data.test.targets
    files = cifar_c.CifarC(folder, targets)

    def batches(kind: str, severity: int) -> Iterator[Batch]:
        for images, index in files.batches(kind, severity, EVALUATION_BATCH):
            yield Batch(images, targets[index], index)

    def table(of: Accuracy) -> Table:
        return {kind: [of(batches(kind, severity)) for severity in cifar_c.SEVERITIES] for kind in cifar_c.KINDS}

    return summary(
        name=folder.name,
        sha256=files.sha256,
        samples=files.samples,
        severities=cifar_c.SEVERITIES,
        clean_top1=clean_top1,
        top1=table(student),
        teacher_top1=table(teacher) if teacher else None,
    )


def summary(
    name: str,
    sha256: str | None,
    samples: int,
    severities: Iterable[int],
    clean_top1: float,
    top1: Table,
    teacher_top1: Table | None,
) -> Corruptions:
    """Summarise tables of top-1 by corruption and severity in their means.

    The mean corruption error divides the student's errors, summed over the severities of a corruption, by the
    teacher's (Hendrycks & Dietterich 2019, with the teacher in place of AlexNet): below 1 is more robust than it.
    """
    mean_top1 = _mean(top1)
    return Corruptions(
        name=name,
        sha256=sha256,
        samples=samples,
        severities=list(severities),
        clean_top1=clean_top1,
        mean_top1=mean_top1,
        relative_top1=mean_top1 / clean_top1 if clean_top1 else None,
        teacher_mean_top1=_mean(teacher_top1) if teacher_top1 else None,
        mce=_mean_corruption_error(top1, teacher_top1) if teacher_top1 else None,
        top1=top1,
        teacher_top1=teacher_top1,
    )


def _mean(table: Table) -> float:
    return float(torch.tensor(list(table.values()), dtype=torch.float64).mean())


def _mean_corruption_error(top1: Table, teacher_top1: Table) -> float | None:
    student_errors, teacher_errors = (
        (1 - torch.tensor([table[kind] for kind in top1], dtype=torch.float64)).sum(dim=1)
        for table in (top1, teacher_top1)
    )
    return float((student_errors / teacher_errors).mean()) if bool((teacher_errors > 0).all()) else None
