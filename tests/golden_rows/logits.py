"""Golden rows of logit methods."""

from torch import Tensor

from kd_bench.losses import cross_entropy
from kd_bench.methods.kd import KD, kd_loss

from .given import Arrays, Case, Row, on_logits, run, total


def kd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher, labels = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    terms = run(KD(**settings), on_logits(student), on_logits(teacher), labels=labels)
    return {
        "loss": kd_loss(student, teacher, settings["temperature"]),
        "loss_weighted": terms["kd"],
        "loss_ce": cross_entropy(student, labels),
        "loss_total": total(terms),
    }


ROWS: dict[str, Row] = {
    "kd": kd,
}

ORACLES: dict[str, str] = {}
