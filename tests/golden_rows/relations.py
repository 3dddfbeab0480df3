"""Golden rows of methods on relations between samples."""

from types import SimpleNamespace
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from kd_bench.methods.base import Method
from kd_bench.methods.correlation import Correlation, correlation_loss
from kd_bench.methods.pkt import PKT, pkt_loss
from kd_bench.methods.rkd import RKD, rkd_angle_loss, rkd_distance_loss
from kd_bench.methods.sp import SP, sp_loss
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, only, outputs, run, total


def on_embedding(embedding: Tensor) -> Outputs:
    """Outputs of which only the embedding matters."""
    return Outputs(embedding.new_zeros(len(embedding), 2), [], embedding)


def with_projections(method: Method, arrays: Arrays) -> Arrays:
    """Let a method build its projections, and give the case's weights by their names in the method."""
    student, teacher = (
        SimpleNamespace(name="given", embedding_size=arrays[f"{of}_embedding"].shape[1])
        for of in ("student", "teacher")
    )
    spec: Any = None
    method.build_adapters(student, teacher, spec)
    return {
        f"{of}_projection.{part}": arrays[f"{of}_projection_linear_{part}"]
        for of in ("student", "teacher")
        for part in ("weight", "bias")
    }


def rkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = arrays["student_embedding"], arrays["teacher_embedding"]
    method = RKD(ce_weight=0.0, distance_weight=settings["distance_weight"], angle_weight=settings["angle_weight"])
    loss = total(run(method, on_embedding(student), on_embedding(teacher)))
    return {
        "loss": loss,
        "loss_weighted": settings["loss_weight"] * loss,
        "loss_distance": rkd_distance_loss(student, teacher),
        "loss_angle": rkd_angle_loss(student, teacher),
    }


def sp(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = arrays["student_feature_0"], arrays["teacher_feature_0"]
    method = SP(ce_weight=0.0, sp_weight=case["hyperparameters"]["loss_weight"])
    weighted = run(method, outputs([student]), outputs([teacher]))["sp"]
    return {"loss": sp_loss(student, teacher), "loss_weighted": weighted}


def pkt(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = arrays["student_embedding"], arrays["teacher_embedding"]
    only(case, "eps", 1e-7)
    method = PKT(ce_weight=0.0, pkt_weight=case["hyperparameters"]["loss_weight"])
    weighted = run(method, on_embedding(student), on_embedding(teacher))["pkt"]
    return {"loss": pkt_loss(student, teacher), "loss_weighted": weighted}


def correlation(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    method = Correlation(
        ce_weight=0.0, correlation_weight=settings["loss_weight"], projection_size=settings["projection_dim"]
    )
    weights = with_projections(method, arrays)
    student, teacher = arrays["student_embedding"], arrays["teacher_embedding"]
    own, other = (
        F.linear(given, weights[f"{of}_projection.weight"], weights[f"{of}_projection.bias"])
        for of, given in (("student", student), ("teacher", teacher))
    )
    terms = run(method, on_embedding(student), on_embedding(teacher), weights=weights)
    return {
        "loss": correlation_loss(own, other),
        "loss_weighted": terms["correlation"],
        "projected_student": own,
        "projected_teacher": other,
    }


ROWS: dict[str, Row] = {
    "correlation": correlation,
    "pkt": pkt,
    "rkd": rkd,
    "sp": sp,
}

ORACLES: dict[str, str] = {
    "correlation": "tests/methods/test_relations.py::test_correlation_is_a_sum_over_neighbours",
    "pkt": "tests/methods/test_relations.py::test_pkt_is_a_divergence_of_neighbour_probabilities",
}
