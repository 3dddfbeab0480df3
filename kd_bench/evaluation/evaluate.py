"""From a trained module to predictions, and from predictions to metrics."""

import torch
from torch import Tensor

from kd_bench.data.datamodule import ImageDataModule
from kd_bench.evaluation.calibration import fit_temperature, reliability
from kd_bench.evaluation.classes import class_metrics, disagreements
from kd_bench.evaluation.metrics import accuracy, split_metrics
from kd_bench.evaluation.predictions import predict
from kd_bench.models.ensemble import Ensemble, taps_of
from kd_bench.models.features import FeatureTap
from kd_bench.results.records.measured import Metrics, SelectedMetrics
from kd_bench.training.cache import Store
from kd_bench.training.module import DistillationModule, cloned

SPLITS = ("validation", "test")
NO_TEMPERATURE = "the validation split has no best temperature: all of it is right, or no more than by chance"


def teacher_predictions(
    teacher: FeatureTap, data: ImageDataModule, store: Store | None = None
) -> tuple[dict[str, Tensor], list[dict[str, Tensor]]]:
    """Return logits (N, K) on each held-out split: of a teacher, and of each of its networks.

    Args:
        store: of the networks' outputs, which has them or gets them.
    """
    taps = taps_of(teacher)

    def compute() -> dict[str, Tensor]:
        return {
            f"{i}.{split}": predict(tap, data.evaluation_loader(getattr(data, split)))
            for i, tap in enumerate(taps)
            for split in SPLITS
        }

    every = compute() if store is None else store.remembered(compute)
    members = [{split: every[f"{i}.{split}"] for split in SPLITS} for i in range(len(taps))]
    if not isinstance(teacher, Ensemble):
        return members[0], members
    return {split: teacher.combine([logits[split] for logits in members]) for split in SPLITS}, members


def student_predictions(
    module: DistillationModule, data: ImageDataModule, teacher: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """Return what ``predictions.safetensors`` holds. The module keeps its last weights.

    Args:
        teacher: logits (N, K) of the pair's teacher by split.
    """
    result: dict[str, Tensor] = {}
    last = cloned(module)
    for rule, weights in (*((rule, kept["weights"]) for rule, kept in module.best.items()), ("last", last)):
        module.load_state_dict(weights)
        for split in SPLITS:
            loader = data.evaluation_loader(getattr(data, split))
            result[f"{split}/{rule}"] = predict(module.student, loader, module.method)
    teacher_logits = {f"{split}/teacher": logits for split, logits in (teacher or {}).items()}
    return result | teacher_logits | labels(data)


def labels(data: ImageDataModule) -> dict[str, Tensor]:
    """Return the targets (N,) and positions (N,) of the samples of each held-out split, named as predictions are."""
    targets = {split: getattr(data, split).targets for split in SPLITS}
    return {
        **{f"{split}/targets": values for split, values in targets.items()},
        **{f"{split}/index": torch.arange(len(values)) for split, values in targets.items()},
    }


def top1_by_split(logits: dict[str, Tensor], data: ImageDataModule) -> dict[str, float]:
    """Return the top-1 in [0, 1] of logits (N, K) on each held-out split."""
    return {split: accuracy(logits[split], getattr(data, split).targets) for split in SPLITS}


def metrics_of(predictions: dict[str, Tensor], epochs: dict[str, int]) -> Metrics:
    """Return every metric of a run that follows from its predictions alone.

    Args:
        epochs: training epochs done by the weights of each rule: ``last``, ``best_on_validation`` and, where the
            recipe selects so, ``best_on_test``.

    Raises:
        Diverged: a logit is not finite.
    """
    return Metrics(**{rule: _selected(predictions, rule, epoch) for rule, epoch in epochs.items()})


def _selected(predictions: dict[str, Tensor], rule: str, epoch: int) -> SelectedMetrics:
    def of(split: str) -> tuple[Tensor, Tensor, Tensor | None]:
        return predictions[f"{split}/{rule}"], predictions[f"{split}/targets"], predictions.get(f"{split}/teacher")

    validation = split_metrics(*of("validation"))
    temperature = fit_temperature(*of("validation")[:2])
    logits, targets, teacher = of("test")
    return SelectedMetrics(
        epoch=epoch,
        validation=validation,
        test=split_metrics(logits, targets, teacher, temperature),
        classes=class_metrics(logits, targets, teacher),
        reliability=reliability(logits, targets),
        exemplars=None if teacher is None else disagreements(logits, targets, teacher),
        not_measured={} if temperature else {"test.scaled": NO_TEMPERATURE},
    )
