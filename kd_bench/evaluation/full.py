"""What ``evaluation=full`` measures of a trained pair beyond its predictions, section by section."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kd_bench.config.schema import RunConfig
from kd_bench.data.batch import Batch
from kd_bench.data.datamodule import ImageDataModule
from kd_bench.data.splits import carve
from kd_bench.errors import KDBenchError
from kd_bench.evaluation import cifar_c, robustness, transfer
from kd_bench.evaluation.fidelity import kl_divergence, linear_cka
from kd_bench.evaluation.latency import latency
from kd_bench.evaluation.metrics import accuracy
from kd_bench.evaluation.predictions import embed, predict
from kd_bench.models.ensemble import Ensemble
from kd_bench.models.features import FeatureTap
from kd_bench.results.records.measured import Fidelity, FullEvaluation, TrainFidelity
from kd_bench.training.pair import Pair
from kd_bench.training.teachers import TeacherWeights

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


@dataclass(frozen=True)
class Trained:
    """A pair with its headline weights, on the data that it was trained on.

    Attributes:
        directory: of the run, where its weights are saved.
        teachers: weights of the pair's teacher.
    """

    config: RunConfig
    pair: Pair
    data: ImageDataModule
    directory: Path
    teachers: list[TeacherWeights]

    def student_logits(self, batches: Iterable[Batch]) -> Tensor:
        return predict(self.pair.student, batches, self.pair.method)


# What a section measured, by field, and why the rest of its fields was not, by path.
Findings = tuple[dict[str, Any], dict[str, str]]


def full_evaluation(trained: Trained) -> FullEvaluation | None:
    """The sections that ``evaluation.sections`` asks for; None if it asks for none.

    A part that this machine cannot give, such as data that are absent, is left out with its reason.

    Raises:
        IntegrityError: files that are there are damaged.
    """
    if not trained.config.evaluation.sections:
        return None
    values: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    for section, fields in FIELDS.items():
        if section in trained.config.evaluation.sections:
            measured, why_not = SECTIONS[section](trained)
            values |= measured
            reasons |= why_not
        else:
            reasons |= dict.fromkeys(fields, NOT_ASKED_FOR)
    return FullEvaluation(**values, not_measured=reasons)


def _embeddings(trained: Trained) -> Findings:
    teacher, data = trained.pair.teacher, trained.data
    if teacher is None or isinstance(teacher, Ensemble):
        return {}, {"embedding_cka": NO_TEACHER if teacher is None else "an ensemble has no embedding of its own"}
    ours, theirs = (embed(tap, data.evaluation_loader(data.test)) for tap in (trained.pair.student, teacher))
    cka = linear_cka(ours, theirs)
    return {"embedding_cka": cka}, {} if cka is not None else {"embedding_cka": "an embedding is the same everywhere"}


def _train_fidelity(trained: Trained) -> Findings:
    teacher, data = trained.pair.teacher, trained.data
    if teacher is None:
        return {}, {"train_fidelity": NO_TEACHER}
    chosen, _ = carve(data.train.targets, TRAIN_SAMPLES, "train_fidelity")
    split = data.train.subset(chosen)

    def clean() -> Iterable[Batch]:
        return data.evaluation_loader(split)

    def augmented() -> Iterable[Batch]:
        """As in the epoch that would have come next: augmented as in training, but never seen."""
        for batch in clean():
            images = data.augmentation(batch.images, chosen[batch.index], data.seed, trained.config.recipe.epochs)
            yield batch._replace(images=images)

    def fidelity(batches: Callable[[], Iterable[Batch]]) -> Fidelity:
        ours, theirs = trained.student_logits(batches()), predict(teacher, batches())
        return Fidelity(
            top1=accuracy(ours, split.targets),
            teacher_top1=accuracy(theirs, split.targets),
            teacher_agreement=float((ours.argmax(1) == theirs.argmax(1)).double().mean()),
            kl=kl_divergence(theirs, ours),
        )

    found = TrainFidelity(samples=len(split), clean=fidelity(clean), augmented=fidelity(augmented))
    return {"train_fidelity": found}, {}


def _corruptions(trained: Trained) -> Findings:
    data, student = trained.data, _top1(trained.student_logits)
    teacher = _top1(_logits_of(trained.pair.teacher)) if trained.pair.teacher is not None else None
    found: dict[str, Any] = {"corruptions": robustness.on_generated(data, student, teacher)}
    name = cifar_c.FOLDERS.get(trained.config.dataset.source["_target_"])
    if name is None:
        return found, {"cifar_c": "there is no such set for this data set"}
    folder = Path(trained.config.paths.data).expanduser() / name
    if not folder.is_dir():
        return found, {"cifar_c": f"absent: place its files at {name} below paths.data"}
    clean = student(data.evaluation_loader(data.test))
    return found | {"cifar_c": robustness.on_cifar_c(folder, data, clean, student, teacher)}, {}


def _transfer(trained: Trained) -> Findings:
    pair, own = trained.pair, trained.config.dataset.source["_target_"]
    # An ensemble's embedding is its first member's, which is no property of the ensemble.
    teacher = None if isinstance(pair.teacher, Ensemble) else pair.teacher
    found, reasons = {}, {}
    for name, target in transfer.SOURCES.items():
        if target == own:
            continue
        arrays = transfer.load(name, Path(trained.config.paths.data).expanduser())
        if isinstance(arrays, str):
            reasons[f"transfer.{name}"] = arrays
            continue
        size = pair.spec.image_size
        found[name] = transfer.transfer(arrays, size, _embedding(pair.student), teacher and _embedding(teacher))
    return {"transfer": found}, reasons


def _latency(trained: Trained) -> Findings:
    try:
        return {"latency": latency(trained.config, trained.directory, trained.teachers)}, {}
    except KDBenchError as error:
        return {}, {"latency": str(error)}


SECTIONS: dict[str, Callable[[Trained], Findings]] = {
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
    """Of the samples in the batches, which need not be those of a split."""

    def top1(batches: Iterable[Batch]) -> float:
        targets: list[Tensor] = []

        def noted() -> Iterable[Batch]:
            for batch in batches:
                targets.append(batch.targets)
                yield batch

        logits = logits_of(noted())
        return accuracy(logits, torch.cat(targets))

    return top1
