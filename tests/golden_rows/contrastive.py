"""Golden rows of contrastive methods."""

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress, TrainingSet
from kd_bench.methods.crd import CRD
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.sskd import SSKD, for_rotated, kept, kept_kd_loss, rotated, similarities, upright
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, only, run, total
from .relations import on_embedding, with_projections

SIDES = ("student", "teacher")


class DrawnCRD(CRD):
    """With the negatives of a case in place of random ones."""

    drawn: Tensor

    def draw_negatives(self, targets: Tensor) -> Tensor:
        return self.drawn


def crd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "eps", 1e-7)
    method = DrawnCRD(
        ce_weight=0.0,
        crd_weight=settings["loss_weight"],
        projection_size=settings["projection_dim"],
        negatives=settings["negatives"],
        temperature=settings["temperature"],
        momentum=settings["momentum"],
    )
    weights = with_projections(method, arrays)
    method.prepare(TrainingSet(torch.arange(settings["n_data"]) % 2, 2, lambda: iter(())))
    buffers = {
        f"{kind}_{side}": arrays[f"{kind}_{side}"].clone() for kind in ("memory", "normaliser") for side in SIDES
    }
    drawn, index = arrays["contrast_indices"], arrays["indices"]
    assert torch.equal(drawn[:, 0], index)
    method.drawn = drawn[:, 1:]
    own, other = (
        F.normalize(F.linear(arrays[f"{side}_embedding"], *(weights[f"{side}_projection.{part}"] for part in PARTS)))
        for side in SIDES
    )
    by_student = method.contrast(own, arrays["memory_teacher"], arrays["normaliser_student"].clone(), drawn)
    by_teacher = method.contrast(other, arrays["memory_student"], arrays["normaliser_teacher"].clone(), drawn)
    outputs = [on_embedding(arrays[f"{side}_embedding"]) for side in SIDES]
    batch = Batch(torch.zeros(len(index), 3, 1, 1), torch.zeros_like(index), index)
    terms = functional_call(method, {**weights, **buffers}, (*outputs, batch, Progress(0, 1, 0, 1)))
    return {
        "loss": by_student + by_teacher,
        "loss_weighted": terms["crd"],
        "loss_student_anchor": by_student,
        "loss_teacher_anchor": by_teacher,
        **{f"{name}_after": buffer for name, buffer in buffers.items()},
    }


PARTS = ("weight", "bias")


def sskd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    """The case's rows go image by image, ours rotation by rotation; its embeddings are the heads' outputs."""
    method = sskd_method(case["hyperparameters"])
    method.student_head = method.teacher_head = nn.Identity()
    own, other, student, teacher = (
        arrays[f"{side}_{kind}"].unflatten(0, (-1, 4)).transpose(0, 1).flatten(0, 1)
        for kind in ("logits", "embedding")
        for side in SIDES
    )
    labels = arrays["labels"]
    views = kept(rotated(other), for_rotated(labels), method.transformed_share)
    alike = kept(similarities(teacher), for_rotated(torch.arange(len(labels))), method.selfsup_share)
    terms = run(method, Outputs(own, [], student), Outputs(other, [], teacher), labels=labels)
    return {
        "loss": total(terms),
        "loss_ce": cross_entropy(upright(own), labels),
        "loss_normal": kd_loss(upright(own), upright(other), method.temperature),
        "loss_transformed": kept_kd_loss(rotated(own), rotated(other), views, method.transformed_temperature),
        "loss_selfsup": method.selfsup(student, teacher),
        "kept_transformed": views.nonzero()[:, 0],
        "kept_selfsup": alike.nonzero()[:, 0],
    }


def sskd_method(settings: dict[str, float]) -> SSKD:
    return SSKD(
        pretrain_epochs=1,
        ce_weight=settings["ce_weight"],
        kd_weight=settings["kd_weight"],
        transformed_weight=settings["transformed_weight"],
        selfsup_weight=settings["selfsup_weight"],
        temperature=settings["kd_temperature"],
        transformed_temperature=settings["transformed_temperature"],
        selfsup_temperature=settings["selfsup_temperature"],
        transformed_share=settings["ratio_transformed"],
        selfsup_share=settings["ratio_selfsup"],
    )


ROWS: dict[str, Row] = {
    "crd": crd,
    "sskd": sskd,
}

ORACLES: dict[str, str] = {}
