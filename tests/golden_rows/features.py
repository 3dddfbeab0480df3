"""Golden rows of feature methods."""

import torch
from torch import Tensor
from torch.func import functional_call

from kd_bench.methods.at import AT, at_loss
from kd_bench.methods.fitnet import FitNet, hint_loss

from .given import Arrays, Case, Row, adapt, described, numbered, outputs, run


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


def fitnet(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    described(case, "regressor")
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


ROWS: dict[str, Row] = {
    "at": at,
    "fitnet": fitnet,
}

ORACLES: dict[str, str] = {
    "fitnet_two_stage": "tests/methods/test_fitnet_two_stage.py::test_both_stages_are_the_published_sums",
}
