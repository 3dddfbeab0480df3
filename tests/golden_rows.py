"""The golden table: for each method, how ``kd_bench`` computes what a reference vector holds.

A row takes a case of the manifest and its input arrays (and adapter weights) as tensors, and returns the outputs by the
names of the manifest: ``loss``, ``loss_weighted``, ``loss_total``, ... Gradients are taken by the test. Totals and
weighted terms come from the method's class, so that its weights and its wiring are checked too.

A method that no reference vector covers has an entry in ``ORACLES`` instead.
"""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.losses import cross_entropy
from kd_bench.methods.at import AT, at_loss
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.byot import BYOT, exit_feature_loss, exit_soft_loss
from kd_bench.methods.fitnet import FitNet, hint_loss
from kd_bench.methods.kd import KD, kd_loss
from kd_bench.methods.label_smoothing import LabelSmoothing
from kd_bench.methods.tfkd_reg import TfKDReg
from kd_bench.methods.tfkd_self import TfKDSelf
from kd_bench.models.features import Outputs

Case = dict[str, Any]
Arrays = dict[str, Tensor]
Row = Callable[[Case, Arrays], dict[str, Tensor]]


def at(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = numbered(arrays, "student_feature_"), numbered(arrays, "teacher_feature_")
    method = AT(ce_weight=0.0, at_weight=settings["loss_weight"], power=settings["p"], skip_stages=0)
    adapt(method, student, teacher)
    stages = [at_loss(own, other, settings["p"]) for own, other in zip(student, teacher, strict=True)]
    return {
        "loss": torch.stack(stages).sum(),
        "loss_weighted": run(method, outputs(student), outputs(teacher))["at"],
        **{f"loss_stage_{i}": loss for i, loss in enumerate(stages)},
    }


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


def fitnet(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = arrays["student_feature_0"], arrays["teacher_feature_0"]
    weights = {
        name.removeprefix("regressor_").replace("_", "."): array
        for name, array in arrays.items()
        if name.startswith("regressor_")
    }

    def adapted() -> FitNet:
        method = FitNet(ce_weight=0.0, hint_weight=case["hyperparameters"]["loss_weight"], hint_stage=0)
        adapt(method, [student], [teacher])
        return method.to(student.dtype)

    regressor = adapted().regressor
    guided = functional_call(regressor, weights, (student,))
    whole = {f"regressor.{name}": array for name, array in weights.items()}
    terms = run(adapted(), outputs([student]), outputs([teacher]), weights=whole)
    return {
        "loss": hint_loss(guided, teacher),
        "loss_weighted": terms["hint"],
        "regressor_output_mean": guided.mean(dim=(0, 2, 3)),
        "regressor_bn_running_mean_after": regressor.bn.running_mean,
        "regressor_bn_running_var_after": regressor.bn.running_var,
    }


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


def label_smoothing(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    method = LabelSmoothing(**case["hyperparameters"])
    return {"loss": total(run(method, on_logits(arrays["student_logits"]), labels=arrays["labels"]))}


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


ROWS: dict[str, Row] = {
    "at": at,
    "byot": byot,
    "fitnet": fitnet,
    "kd": kd,
    "label_smoothing": label_smoothing,
    "tfkd_reg": tfkd_reg,
    "tfkd_self": tfkd_self,
}

# Methods without reference vectors: the test that compares them with a formula written out slowly.
ORACLES: dict[str, str] = {
    "born_again": "tests/methods/test_born_again.py::test_born_again_is_kl_plus_the_teachers_entropy",
    "fitnet_two_stage": "tests/methods/test_fitnet_two_stage.py::test_both_stages_are_the_published_sums",
    "scratch": "tests/methods/test_logits.py::test_scratch_is_cross_entropy_alone",
}


def numbered(arrays: Arrays, prefix: str) -> list[Tensor]:
    """The arrays ``prefix0``, ``prefix1``, ..."""
    count = sum(name.startswith(prefix) for name in arrays)
    return [arrays[f"{prefix}{i}"] for i in range(count)]


def adapt(method: Method, student: list[Tensor], teacher: list[Tensor]) -> None:
    """Let a method build its adapters for networks with these stages."""
    spec = DataSpec(10, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    method.build_adapters(network_with(student), network_with(teacher), spec)


def network_with(stages: list[Tensor]) -> Any:
    return SimpleNamespace(name="given", stage_shapes=[tuple(stage.shape[1:]) for stage in stages])


def outputs(stages: list[Tensor]) -> Outputs:
    """Outputs of which only the stages matter."""
    logits = stages[0].new_zeros(len(stages[0]), 2)
    return Outputs(logits, stages, stages[-1].mean(dim=(2, 3)))


def on_logits(logits: Tensor) -> Outputs:
    """Outputs of which only the logits matter."""
    return Outputs(logits, [], logits)


def run(
    method: Method,
    student: Outputs,
    teacher: Outputs | None = None,
    labels: Tensor | None = None,
    weights: Arrays | None = None,
) -> dict[str, Tensor]:
    """The terms of a method, its adapters holding ``weights``."""
    size = len(student.logits)
    targets = torch.zeros(size, dtype=torch.long) if labels is None else labels
    batch = Batch(torch.zeros(size, 3, 1, 1), targets, torch.arange(size))
    return functional_call(method, weights or {}, (student, teacher, batch, Progress(0, 1, 0, 1)))


def total(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()
