"""Golden rows of logit methods."""

from typing import Any

import torch
from torch import Tensor, nn

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.ctkd import CTKD, adversarial_temperature
from kd_bench.methods.dist import DIST, dist_losses
from kd_bench.methods.dkd import DKD, other_classes_loss, target_class_loss
from kd_bench.methods.kd import KD, kd_loss
from kd_bench.methods.losses import cross_entropy, logit_pair
from kd_bench.methods.mlld import MLLD
from kd_bench.methods.nkd import NKD, normalized_others_loss, soft_target_loss
from kd_bench.methods.ofa import OFA, ofa_loss
from kd_bench.methods.ttm import TTM, ttm_divergences
from kd_bench.methods.wsld import WSLD, wsld_loss
from kd_bench.methods.wttm import WTTM, wttm_loss
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, on_logits, only, total
from .self_distillation import GivenExit


def terms_of(method: Method, arrays: Arrays, epoch: int = 1) -> dict[str, Tensor]:
    """The terms in an epoch counted from 1."""
    student, teacher, labels = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    batch = Batch(student.new_zeros(len(labels), 3, 1, 1), labels, labels.new_zeros(len(labels)))
    return method(on_logits(student), on_logits(teacher), batch, Progress(epoch - 1, 240, 0, 240))


def whole(method: Method, arrays: Arrays, loss: Tensor, epoch: int = 1) -> dict[str, Tensor]:
    """``loss`` without its weight, and what the method makes of it."""
    terms = terms_of(method, arrays, epoch)
    return {
        "loss": loss,
        "loss_weighted": total({name: term for name, term in terms.items() if name != "ce"}),
        "loss_ce": cross_entropy(arrays["student_logits"], arrays["labels"]),
        "loss_total": total(terms),
    }


def kd(case: Case, arrays: Arrays, standardize: bool = False) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    temperature = settings["temperature"]
    own, other = logit_pair(arrays["student_logits"], arrays["teacher_logits"], standardize)
    method = KD(settings["ce_weight"], settings["kd_weight"], temperature, standardize_logits=standardize)
    return whole(method, arrays, kd_loss(own, other, temperature))


def logit_std_kd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    return kd(case, arrays, standardize=True)


def dkd(case: Case, arrays: Arrays, standardize: bool = False) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    alpha, beta, temperature = settings["alpha"], settings["beta"], settings["temperature"]
    own, other = logit_pair(arrays["student_logits"], arrays["teacher_logits"], standardize)
    parts = {
        "loss_target_class": target_class_loss(own, other, arrays["labels"], temperature),
        "loss_non_target_class": other_classes_loss(own, other, arrays["labels"], temperature),
    }
    loss = alpha * parts["loss_target_class"] + beta * parts["loss_non_target_class"]
    method = DKD(settings["ce_weight"], alpha, beta, temperature, settings["warmup_epochs"], standardize)
    return {**whole(method, arrays, loss, settings["epoch"]), **parts}


def logit_std_dkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    for name in ("alpha", "beta"):
        only(case, name, settings[f"{name}_before_kd_weight"] * settings["kd_weight"])
    return dkd(case, arrays, standardize=True)


def dist(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    beta, gamma, weight, temperature = (settings[name] for name in ("beta", "gamma", "kd_weight", "tau"))
    inter, intra = dist_losses(arrays["student_logits"], arrays["teacher_logits"], temperature)
    method = DIST(settings["ce_weight"], weight * beta, weight * gamma, temperature)
    parts = {"loss_inter_class": inter, "loss_intra_class": intra}
    return {**whole(method, arrays, beta * inter + gamma * intra), **parts}


def ttm(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    loss = ttm_divergences(arrays["student_logits"], arrays["teacher_logits"], settings["exponent"]).mean()
    return whole(TTM(settings["ce_weight"], settings["kd_weight"], settings["exponent"]), arrays, loss)


def wttm(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    loss = wttm_loss(arrays["student_logits"], arrays["teacher_logits"], settings["exponent"])
    return whole(WTTM(settings["ce_weight"], settings["kd_weight"], settings["exponent"]), arrays, loss)


def ctkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    """The case gives the gradient's scale, which only the last epochs of a run share: totals are those of epoch 10."""
    settings = case["hyperparameters"]
    start, span = settings["t_start"], settings["t_range"]
    temperature = adversarial_temperature(
        arrays["temperature_parameter"], start, span, gradient_scale=settings["gradient_scale"]
    )
    method = CTKD(settings["ce_weight"], settings["kd_weight"], start, span, reversal_epochs=10)
    method.temperature_parameter.data = arrays["temperature_parameter"].detach().squeeze()
    loss = kd_loss(arrays["student_logits"], arrays["teacher_logits"], temperature.squeeze())
    return {**whole(method, arrays, loss, epoch=10), "temperature": temperature}


def mlld(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    third, fifth, second, sixth = settings["extra_temperatures"]
    method = MLLD(
        settings["ce_weight"],
        settings["kd_weight"],
        temperatures=[settings["temperature"], third, fifth],
        weak_temperatures=[second, sixth],
        standardize_logits=settings["logit_standardisation"],
    )
    views = {
        f"{network}_logits": torch.cat([arrays[f"{network}_logits_weak"], arrays[f"{network}_logits_strong"]])
        for network in ("student", "teacher")
    }
    terms = terms_of(method, {**views, "labels": arrays["labels"]})
    levels = {f"loss_{name}": terms[name] for name in ("instance", "class", "batch")}
    return {"loss": total(levels), **levels, "loss_ce": terms["ce"], "loss_total": total(terms)}


def ofa(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    """The case holds the final logits alone: no exits."""
    settings = case["hyperparameters"]
    student, teacher, labels = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    method = OFA(
        settings["ce_weight"], settings["kd_weight"], 0.0, settings["eps"], settings["temperature"], 0, exits=1
    )
    method.exit_stages, method.exits = [0], nn.ModuleList([GivenExit()])
    given: Any = [(student, student)]
    terms = method(
        Outputs(student, given, student), on_logits(teacher), Batch(student, labels, labels), Progress(0, 1, 0, 1)
    )
    return {
        "loss": ofa_loss(student, teacher, labels, settings["eps"], settings["temperature"]),
        "loss_weighted": terms["kd"],
        "loss_ce": cross_entropy(student, labels),
        "loss_total": total(terms),
    }


def nkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    gamma, temperature = settings["gamma"], settings["temperature"]
    given = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    parts = {
        "loss_target_class": soft_target_loss(*given),
        "loss_non_target_class": normalized_others_loss(*given, temperature),
    }
    loss = parts["loss_target_class"] + gamma * parts["loss_non_target_class"]
    return {**whole(NKD(settings["ce_weight"], 1.0, gamma, temperature), arrays, loss), **parts}


def wsld(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "ce_eps", 1e-7)
    loss = wsld_loss(arrays["student_logits"], arrays["teacher_logits"], arrays["labels"], settings["temperature"])
    return whole(WSLD(settings["ce_weight"], settings["kd_weight"], settings["temperature"]), arrays, loss)


ROWS: dict[str, Row] = {
    "ctkd": ctkd,
    "dist": dist,
    "dkd": dkd,
    "kd": kd,
    "logit_std_dkd": logit_std_dkd,
    "logit_std_kd": logit_std_kd,
    "mlld": mlld,
    "nkd": nkd,
    "ofa": ofa,
    "ttm": ttm,
    "wsld": wsld,
    "wttm": wttm,
}

ORACLES: dict[str, str] = {
    "hard_label_kd": "tests/methods/test_hard_label_kd.py::test_the_teachers_decision_is_the_label",
    "logit_regression": "tests/methods/test_logit_regression.py::test_half_the_squared_distance_of_each_sample",
}

VARIANTS: dict[str, str] = {
    "logit_std_dkd": "dkd_ls",
    "logit_std_kd": "kd_ls",
}
