"""Golden rows of methods for vision transformers."""

import torch
from torch import Tensor

from kd_bench.methods.base import Method, Progress
from kd_bench.methods.deit_hard import DeiTHard
from kd_bench.methods.deit_soft import DeiTSoft, deit_soft_loss
from kd_bench.methods.hard_label_kd import hard_label_loss
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.maskedkd import MaskedKD, most_attended
from kd_bench.models.features import Outputs
from kd_bench.models.tokens import keep_tokens

from .given import Arrays, Case, Row, on_logits, only, total
from .projections import batch_of


def deit(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "type", "hard", "soft")
    alpha, temperature = settings["alpha"], settings["temperature"]
    heads = [arrays["student_logits"], arrays["student_distillation_logits"]]
    teacher = on_logits(arrays["teacher_logits"])
    if settings["type"] == "hard":
        method: Method = DeiTHard(1 - alpha, alpha)
        loss = hard_label_loss(heads[1], teacher.logits)
    else:
        method = DeiTSoft(1 - alpha, alpha, temperature)
        loss = deit_soft_loss(heads[1], teacher.logits, temperature)
    student = Outputs((heads[0] + heads[1]) / 2, [], heads[0], heads=heads)
    terms = method(student, teacher, batch_of(arrays), Progress(0, 1, 0, 1))
    return {
        "loss": loss,
        "loss_weighted": terms["hard" if settings["type"] == "hard" else "kd"],
        "loss_ce": cross_entropy(heads[0], arrays["labels"]),
        "loss_total": total(terms),
    }


def maskedkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    alpha, temperature, tokens = settings["alpha"], settings["temperature"], arrays["teacher_tokens"]
    patches = arrays["student_attention"][:, :, 0, 1:]
    method = MaskedKD(1 - alpha, alpha, temperature, settings["kept_tokens"] / patches.shape[2])
    kept = most_attended(patches, method.kept(patches.shape[2]))
    positioned = torch.cat([arrays["teacher_class_token"].expand(len(tokens), -1, -1), tokens], dim=1)
    student, teacher = on_logits(arrays["student_logits"]), on_logits(arrays["teacher_logits"])
    terms = method(student, teacher, batch_of(arrays), Progress(0, 1, 0, 1))
    return {
        "loss": kd_loss(student.logits, teacher.logits, temperature),
        "loss_weighted": terms["kd"],
        "loss_ce": cross_entropy(student.logits, arrays["labels"]),
        "loss_total": total(terms),
        "kept_indices": kept,
        "kept_teacher_tokens": keep_tokens(positioned + arrays["teacher_position_embedding"], kept, prefix=1),
    }


ROWS: dict[str, Row] = {"deit": deit, "deit_hard": deit, "deit_soft": deit, "maskedkd": maskedkd}
VARIANTS: dict[str, str] = {"deit": "deit_hard"}
