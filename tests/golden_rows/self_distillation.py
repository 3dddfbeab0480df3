"""Golden rows of self-distillation."""

from typing import Any

import torch
from torch import Tensor, nn

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Progress
from kd_bench.methods.byot import BYOT, exit_feature_loss, exit_soft_loss
from kd_bench.methods.cskd import CSKD
from kd_bench.methods.dlb import DLB, last_batch_loss
from kd_bench.methods.kd import peer_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.pskd import PSKD, mixed_targets
from kd_bench.methods.tfkd_reg import TfKDReg
from kd_bench.methods.tfkd_self import TfKDSelf
from kd_bench.methods.uskd import USKD, own_target_loss
from kd_bench.models.features import Outputs

from .embeddings import renamed
from .given import Arrays, Case, Row, numbered, on_logits, only, run, total


class GivenExit(nn.Module):
    """Stands for an exit whose logits and feature the case gives in place of a stage."""

    def forward(self, stage: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return stage


def byot(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    logits, features = numbered(arrays, "exit_logits_"), numbered(arrays, "exit_feature_")
    method = BYOT(settings["alpha"], settings["beta"], settings["temperature"], skip_stages=0, ensemble=False)
    method.exit_stages = range(len(logits))
    method.exits = nn.ModuleList(GivenExit() for _ in logits)
    final, embedding, labels = arrays["student_logits"], arrays["final_feature"], arrays["labels"]
    exits: Any = list(zip(logits, features, strict=True))
    soft = [exit_soft_loss(own, final, settings["temperature"]) for own in logits]
    feature = [exit_feature_loss(own, embedding) for own in features]
    return {
        "loss": total(run(method, Outputs(final, exits, embedding), labels=labels)),
        "loss_ce": torch.stack([cross_entropy(each, labels) for each in [final, *logits]]).sum(),
        "loss_soft": torch.stack(soft).sum(),
        "loss_feature": torch.stack(feature).sum(),
    }


def cskd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, partner, labels = arrays["student_logits"], arrays["pair_logits"], arrays["labels"]
    method = CSKD(settings["ce_weight"], settings["kd_weight"], settings["temperature"])
    terms = run(method, on_logits(torch.cat([student, partner])), labels=torch.cat([labels, labels]))
    return {
        "loss": peer_loss(student, partner, settings["temperature"]),
        "loss_weighted": terms["class_wise"],
        "loss_ce": cross_entropy(student, labels),
        "loss_total": total(terms),
    }


def pskd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, past, labels = arrays["student_logits"], arrays["past_probabilities"], arrays["labels"]
    method = PSKD(settings["alpha_final"])
    method.register_buffer("past", past.clone())
    samples = torch.arange(len(labels))
    progress = Progress(settings["epoch_zero_based"], settings["total_epochs"], 0, 1)
    terms = method(on_logits(student), None, Batch(torch.zeros(len(labels), 3, 1, 1), labels, samples), progress)
    return {
        "loss": total(terms),
        "loss_ce": cross_entropy(student, labels),
        "soft_targets": mixed_targets(labels, past, settings["alpha"]),
    }


def tfkd_reg(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    method = TfKDReg(settings["alpha"], settings["temperature"], settings["multiplier"], settings["correct_prob"])
    student, labels = arrays["student_logits"], arrays["labels"]
    return {
        "loss": total(run(method, on_logits(student), labels=labels)),
        "loss_ce": cross_entropy(student, labels),
    }


def tfkd_self(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    method = TfKDSelf(settings["alpha"], settings["temperature"], settings["multiplier"])
    student, teacher, labels = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    return {
        "loss": total(run(method, on_logits(student), on_logits(teacher), labels=labels)),
        "loss_ce": cross_entropy(student, labels),
    }


def uskd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "rank_eps", 1e-6)
    logits, feature, labels = arrays["student_logits"], arrays["weak_feature"], arrays["labels"]
    weights = renamed(arrays, "weak_head_", lambda name: f"weak_head.{name}")
    student = Outputs(logits, [feature[:, :, None, None], logits[:, :, None, None]], logits)

    def terms(*parts: float) -> dict[str, Tensor]:
        method = USKD(settings["ce_weight"], *parts)
        method.weak_head = nn.Linear(feature.shape[1], logits.shape[1])
        return run(method, student, labels=labels, weights=weights)

    weighted, plain = terms(settings["alpha"], settings["beta"], settings["mu"]), terms(1.0, 1.0, 1.0)
    loss = weighted["target"] + weighted["others"] + weighted["weak"]
    return {
        "loss": loss,
        "loss_target_class": own_target_loss(logits, labels),
        "loss_non_target_class": plain["others"],
        "loss_weak": weighted["weak"],
        "loss_weighted": loss,
        "loss_ce": cross_entropy(logits, labels),
        "loss_total": total(weighted),
    }


def dlb(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    repeated, new = arrays["student_logits_repeated"], arrays["student_logits"]
    logits, labels = torch.cat([repeated, new]), torch.cat([arrays["labels_repeated"], arrays["labels"]])
    method = DLB(settings["ce_weight"], settings["loss_weight"], settings["temperature"])
    method._last = 0, torch.arange(len(repeated)), arrays["last_logits"].detach()
    terms = run(method, on_logits(logits), labels=labels)
    same = torch.ones(len(repeated), dtype=torch.bool)
    return {
        "loss": last_batch_loss(repeated, arrays["last_logits"], same, settings["temperature"]),
        "loss_weighted": terms["last_batch"],
        "loss_ce": cross_entropy(logits, labels),
        "loss_total": total(terms),
    }


ROWS: dict[str, Row] = {
    "byot": byot,
    "cskd": cskd,
    "dlb": dlb,
    "pskd": pskd,
    "tfkd_reg": tfkd_reg,
    "tfkd_self": tfkd_self,
    "uskd": uskd,
}

ORACLES: dict[str, str] = {
    "born_again": "tests/methods/test_born_again.py::test_born_again_is_kl_plus_the_teachers_entropy",
    "mean_teacher": "tests/methods/test_self_distillation.py::test_consistency_is_the_mean_square_of_probabilities",
}
