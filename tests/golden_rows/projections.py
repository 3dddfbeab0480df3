"""Golden rows of methods that compare features after a projector or a bridge."""

from unittest.mock import patch

import torch
from torch import Tensor

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.methods.fcfd import FCFD, fcfd_feature_loss
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.pefd import PEFD, pefd_loss
from kd_bench.methods.srd import LOG_EPS, LOSSES, NORM_EPS, SRD
from kd_bench.methods.wkd_f import WKDF
from kd_bench.models.features import Outputs

from .feature_maps import adapted, renamed
from .given import Arrays, Case, Row, numbered, only, total


def of(arrays: Arrays, role: str) -> Outputs:
    """The outputs of ``student`` or ``teacher`` that the arrays give."""
    stages = numbered(arrays, f"{role}_feature_")
    pooled = stages[-1].mean(dim=(2, 3)) if stages else None
    embedding = arrays.get(f"{role}_embedding", pooled)
    assert embedding is not None
    return Outputs(arrays.get(f"{role}_logits", embedding), stages, embedding)


def batch_of(arrays: Arrays) -> Batch:
    labels = arrays["labels"]
    return Batch(torch.zeros(len(labels), 3, 1, 1), labels, torch.arange(len(labels)))


def wkd_f(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "projector", "conv1x1", "bottleneck")
    kind = "bottleneck" if settings["projector"] == "bottleneck" else "conv"
    layers = (
        {"conv1": "0", "conv2": "1", "conv3": "2", "bn": "3"} if kind == "bottleneck" else {"conv": "conv", "bn": "bn"}
    )
    patterns = {rf"projector_{name}_(weight|bias)": rf"projector.{place}.\1" for name, place in layers.items()}
    weights = renamed(arrays, patterns)
    student, teacher = of(arrays, "student"), of(arrays, "teacher")
    method = adapted(
        WKDF(
            settings["ce_weight"],
            settings["loss_weight"],
            settings["mean_weight"],
            settings["grid"],
            kind,
            settings["decay_start_epoch"],
            settings["eps"],
        ),
        student,
        teacher,
        weights,
    )
    mean, deviation = method.distances(student, teacher)
    terms = method(student, teacher, batch_of(arrays), Progress(settings["epoch"] - 1, settings["total_epochs"], 0, 1))
    return {
        "loss": settings["mean_weight"] * mean + deviation,
        "loss_mean": mean,
        "loss_std": deviation,
        "loss_weighted": terms["wkd_f"],
        "loss_ce": cross_entropy(arrays["student_logits"], arrays["labels"]),
        "loss_total": total(terms),
    }


def pefd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = of(arrays, "student"), of(arrays, "teacher")
    weights = renamed(arrays, {r"projector_(\d)_(weight|bias)": r"projectors.\1.\2"})
    method = adapted(
        PEFD(
            settings["ce_weight"],
            settings["kd_weight"],
            settings["temperature"],
            settings["loss_weight"],
            len(weights) // 2,
        ),
        student,
        teacher,
        weights,
    )
    terms = method(student, teacher, batch_of(arrays), Progress(0, 1, 0, 1))
    projected = method.projected(student.embedding)
    return {
        "loss": pefd_loss(projected, teacher.embedding),
        "projected_student": projected,
        "loss_weighted": terms["direction"],
        "loss_kd": kd_loss(student.logits, teacher.logits, settings["temperature"]),
        "loss_ce": cross_entropy(student.logits, arrays["labels"]),
        "loss_total": total(terms),
    }


def srd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "variant", *LOSSES)
    form = settings["variant"]
    only(case, "eps_norm", NORM_EPS[form])
    only(case, "eps_log", LOG_EPS if form == "correlation" else 0.0)
    student, teacher = of(arrays, "student"), of(arrays, "teacher")
    weights = renamed(arrays, {r"projection_linear_(weight|bias)": r"projection.\1"})
    method = adapted(
        SRD(
            settings["ce_weight"],
            settings["kd_weight"],
            settings["temperature"],
            settings["loss_weight"],
            form,
            settings["power"],
        ),
        student,
        teacher,
        weights,
    )
    terms = method(student, teacher, batch_of(arrays), Progress(0, 1, 0, 1))
    projected = method.projection(student.embedding)
    return {
        "loss": LOSSES[form](projected, teacher.embedding, settings["power"]),
        "loss_weighted": terms["srd"],
        "loss_kd": kd_loss(student.logits, teacher.logits, settings["temperature"]),
        "loss_ce": cross_entropy(student.logits, arrays["labels"]),
        "loss_total": total(terms),
    }


def fcfd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    """What the bridges and the mixed paths give is an input: they are replaced by what returns it."""
    settings = case["hyperparameters"]
    stages, paths = settings["stages"], settings["mixed_paths"]
    teacher_maps = numbered(arrays, "teacher_feature_")
    mixed_logits = numbered(arrays, "mixed_logits_")
    only(case, "stages", len(teacher_maps))
    only(case, "mixed_paths", len(mixed_logits))
    bridged = numbered(arrays, "bridged_feature_")
    left = [
        [arrays[f"mixed_{path}_feature_{k}"] for path in range(paths) if f"mixed_{path}_feature_{k}" in arrays]
        for k in range(stages)
    ]
    method = FCFD(
        settings["ce_weight"],
        settings["kd_weight"],
        settings["temperature"],
        settings["feature_weight"],
        settings["mixed_kd_weight"],
        paths,
        settings["ramp_epochs"],
        0,
        False,
    )
    method.pairs = [(k, k) for k in range(stages)]
    method.crossings = [(True, path) for path in range(paths)]
    method.to_teacher = [lambda stage: stage] * stages  # type: ignore[assignment]  # nothing is left to carry over

    def mixed(crossing: tuple[bool, int], compared: list[list[Tensor]], teacher: Outputs) -> Tensor:
        path = crossing[1]
        for k in range(stages):
            compared[k] += [arrays[name] for name in (f"mixed_{path}_feature_{k}",) if name in arrays]
        return mixed_logits[path]

    student = Outputs(arrays["student_logits"], bridged, arrays["student_logits"])
    teacher = Outputs(arrays["teacher_logits"], teacher_maps, arrays["teacher_logits"])
    with patch.object(method, "_mixed", mixed):
        terms = method(student, teacher, batch_of(arrays), Progress(settings["epoch"], 240, 0, 1))
    temperature = settings["temperature"]
    return {
        "loss": fcfd_feature_loss([[own, *more] for own, more in zip(bridged, left, strict=True)], teacher_maps),
        "loss_kd": kd_loss(student.logits, teacher.logits, temperature),
        "loss_kd_mixed": sum(kd_loss(logits, teacher.logits, temperature) for logits in mixed_logits),  # type: ignore[dict-item]
        "loss_weighted": terms["features"] + terms["kd"] + terms["mixed_kd"],
        "loss_ce": cross_entropy(student.logits, arrays["labels"]),
        "loss_total": total(terms),
    }


ROWS: dict[str, Row] = {"fcfd": fcfd, "pefd": pefd, "srd": srd, "wkd_f": wkd_f}
