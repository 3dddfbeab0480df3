"""Full evaluation: a trained pair measured beyond its predictions, section by section (``evaluation=full``)."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.data.splits import carve
from kd_bench.errors import KDBenchError
from kd_bench.evaluation import cifar_c, robustness, transfer
from kd_bench.evaluation.added_metrics import added_metrics
from kd_bench.evaluation.fidelity import kl_divergence, linear_cka
from kd_bench.evaluation.groups import counts_by_group
from kd_bench.evaluation.latency import latency
from kd_bench.evaluation.metrics import accuracy
from kd_bench.evaluation.opened import OpenedRun
from kd_bench.evaluation.predictions import embed, predict
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.results.records.measured import Fidelity, FullEvaluation, TrainFidelity

TRAIN_SAMPLES = 10_000
NO_TEACHER = "the pair has no teacher"
NOT_ASKED_FOR = "not asked for by evaluation.sections"

# Fields of ``FullEvaluation`` that a section gives.
FIELDS = {
    "embeddings": ("embedding_cka",),
    "train_fidelity": ("train_fidelity",),
    "corruptions": ("corruptions", "cifar_c"),
    "transfer": ("transfer",),
    "latency": ("latency",),
}


# What a section measured, by field, and why the rest of its fields was not, by path.
Findings = tuple[dict[str, Any], dict[str, str]]


def full_evaluation(run: OpenedRun, predictions: Mapping[str, Tensor]) -> FullEvaluation | None:
    """Measure what ``evaluation.sections``, ``dataset.groups`` and ``metrics`` ask for; None if they ask for nothing.

    Args:
        predictions: what ``predictions.safetensors`` holds.

    A part that this machine cannot give, such as data that are absent, is left out with its reason.

    Raises:
        IntegrityError: files that are there are damaged.
    """
    config = run.config
    if not config.evaluation.sections and config.dataset.groups is None and not config.metrics:
        return None
    values: dict[str, Any] = {} if config.dataset.groups is None else {"groups": counts_by_group(run)}
    logits, targets = predictions[f"test/{config.recipe.selection}"], predictions["test/targets"]
    values["metrics"] = added_metrics(config.metrics, logits, targets)
    reasons: dict[str, str] = {}
    for section, fields in FIELDS.items():
        if section in config.evaluation.sections:
            measured, why_not = SECTIONS[section](run)
            values |= measured
            reasons |= why_not
        else:
            reasons |= dict.fromkeys(fields, NOT_ASKED_FOR)
    return FullEvaluation(**values, not_measured=reasons)


def _embeddings(run: OpenedRun) -> Findings:
    teacher, data = run.pair.teacher, run.data
    if teacher is None or isinstance(teacher, Ensemble):
        return {}, {"embedding_cka": NO_TEACHER if teacher is None else "an ensemble has no embedding of its own"}
    cka = linear_cka(*(embed(tap, data.evaluation_loader(data.test)) for tap in (run.pair.student, teacher)))
    return {"embedding_cka": cka}, {} if cka is not None else {"embedding_cka": "an embedding is the same everywhere"}


def _train_fidelity(run: OpenedRun) -> Findings:
    teacher, data = run.pair.teacher, run.data
    if teacher is None:
        return {}, {"train_fidelity": NO_TEACHER}
    chosen, _ = carve(data.train.targets, TRAIN_SAMPLES, "train_fidelity")
    split = data.train.subset(chosen)

    def clean() -> Iterable[Batch]:
        return data.evaluation_loader(split)

    def augmented() -> Iterable[Batch]:
        """Return them as in the epoch that would have come next: augmented as in training, but never seen."""
        return data.augmented_in_order(run.config.recipe.epochs, chosen)

    def fidelity(batches: Callable[[], Iterable[Batch]]) -> Fidelity:
        student_logits, teacher_logits = run.student_logits(batches()), predict(teacher, batches())
        return Fidelity(
            top1=accuracy(student_logits, split.targets),
            teacher_top1=accuracy(teacher_logits, split.targets),
            teacher_agreement=float((student_logits.argmax(1) == teacher_logits.argmax(1)).double().mean()),
            kl=kl_divergence(teacher_logits, student_logits),
        )

    found = TrainFidelity(samples=len(split), clean=fidelity(clean), augmented=fidelity(augmented))
    return {"train_fidelity": found}, {}


def _corruptions(run: OpenedRun) -> Findings:
    data, student = run.data, _top1(run.student_logits)
    teacher = _top1(_logits_of(run.pair.teacher)) if run.pair.teacher is not None else None
    found: dict[str, Any] = {"corruptions": robustness.on_generated(data, student, teacher)}
    name = cifar_c.FOLDERS.get(run.config.dataset.source["_target_"])
    if name is None:
        return found, {"cifar_c": "there is no such set for this data set"}
    folder = Path(run.config.paths.data).expanduser() / name
    if not folder.is_dir():
        return found, {"cifar_c": f"absent: place its files at {name} below paths.data"}
    clean = student(data.evaluation_loader(data.test))
    return found | {"cifar_c": robustness.on_cifar_c(folder, data, clean, student, teacher)}, {}


def _transfer(run: OpenedRun) -> Findings:
    pair = run.pair
    # An ensemble's embedding is its first member's, which is no property of the ensemble.
    teacher = None if isinstance(pair.teacher, Ensemble) else pair.teacher
    found, reasons = {}, {}
    for name, target in transfer.SOURCES.items():
        if target == run.config.dataset.source["_target_"]:
            continue
        arrays = transfer.load(name, Path(run.config.paths.data).expanduser())
        if isinstance(arrays, str):
            reasons[f"transfer.{name}"] = arrays
            continue
        size = pair.spec.image_size
        found[name] = transfer.transfer(arrays, size, _embedding(pair.student), teacher and _embedding(teacher))
    return {"transfer": found}, reasons


def _latency(run: OpenedRun) -> Findings:
    try:
        return {"latency": latency(run.config, run.directory, run.teachers)}, {}
    except KDBenchError as error:
        return {}, {"latency": str(error)}


SECTIONS: dict[str, Callable[[OpenedRun], Findings]] = {
    "embeddings": _embeddings,
    "train_fidelity": _train_fidelity,
    "corruptions": _corruptions,
    "transfer": _transfer,
    "latency": _latency,
}


def _logits_of(tap: FeatureTap) -> Callable[[Iterable[Batch]], Tensor]:
    return lambda batches: predict(tap, batches)


def _embedding(tap: FeatureTap) -> Callable[[Iterable[Batch]], Tensor]:
    return lambda batches: embed(tap, batches)


def _top1(logits_of: Callable[[Iterable[Batch]], Tensor]) -> Callable[[Iterable[Batch]], float]:
    """Make a function that gives the top-1 of a network on batches, which need not be those of a split."""

    def top1(batches: Iterable[Batch]) -> float:
        targets: list[Tensor] = []

        def noted() -> Iterable[Batch]:
            for batch in batches:
                targets.append(batch.targets)
                yield batch

        logits = logits_of(noted())
        return accuracy(logits, torch.cat(targets))

    return top1
