"""Golden rows of methods on feature maps: regression, statistics and boundaries of whole maps."""

import re
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.ab import AB
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.fsp import FSP, fsp_losses
from kd_bench.methods.ft import FT, factor_loss
from kd_bench.methods.kdsvd import KDSVD, teacher_vectors
from kd_bench.methods.nst import NST, nst_loss
from kd_bench.methods.ofd import OFD, margins
from kd_bench.methods.reviewkd import ReviewKD
from kd_bench.methods.vid import VID
from kd_bench.models.cifar.network import CifarNetwork
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, described, numbered, only

SPEC = DataSpec(10, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def network_of(outputs: Outputs, **more: Any) -> Any:
    """What a method asks of the network that gives these outputs."""
    return SimpleNamespace(
        name="given",
        stage_shapes=[tuple(stage.shape[1:]) for stage in outputs.stages],
        stage_pairs=None,
        embedding_size=outputs.embedding.shape[1],
        has_pre_activations=outputs.pre_activation is not None,
        **more,
    )


def on_stages(arrays: Arrays, role: str, pre_activations: bool = False) -> Outputs:
    """Outputs with the feature maps of ``student`` or ``teacher``."""
    stages = numbered(arrays, f"{role}_feature_")
    embedding = arrays.get(f"{role}_embedding", stages[-1].mean(dim=(2, 3)))
    return Outputs(stages[0].new_zeros(len(stages[0]), 10), stages, embedding, stages if pre_activations else None)


def adapted(method: Method, student: Outputs, teacher: Outputs, weights: Arrays, **more: Any) -> Any:
    """The method with adapters for these outputs, which hold ``weights`` so that these receive gradients."""
    method.build_adapters(network_of(student), network_of(teacher, **more), SPEC)
    method.to(student.logits.dtype)
    for name, value in weights.items():
        path, _, parameter = name.rpartition(".")
        module = method.get_submodule(path)
        assert getattr(module, parameter).shape == value.shape, name
        delattr(module, parameter)
        setattr(module, parameter, value)
    return method


def batch_of(student: Outputs) -> Batch:
    size = len(student.logits)
    return Batch(torch.zeros(size, 3, 1, 1), torch.zeros(size, dtype=torch.long), torch.arange(size))


def run(method: Method, student: Outputs, teacher: Outputs, epoch: int = 0) -> dict[str, Tensor]:
    return method(student, teacher, batch_of(student), Progress(epoch, 240, 0, 1))


def renamed(arrays: Arrays, patterns: dict[str, str]) -> Arrays:
    """The arrays whose whole name matches a pattern, under the name that the template beside it gives."""
    return {
        re.sub(pattern, template, name): array
        for name, array in arrays.items()
        for pattern, template in patterns.items()
        if re.fullmatch(pattern, name)
    }


def by_stage(losses: list[Tensor], prefix: str = "loss_stage_") -> dict[str, Tensor]:
    return {"loss": torch.stack(losses).sum(), **{f"{prefix}{i}": loss for i, loss in enumerate(losses)}}


def vid(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
    weights = renamed(
        arrays,
        {
            r"regressor_(\d+)_(conv\d)_weight": r"gaussians.\1.\2.weight",
            r"log_scale_(\d+)": r"gaussians.\1.log_scale",
        },
    )
    method = adapted(
        VID(0.0, settings["loss_weight"], settings["init_pred_var"], 0, settings["eps"]), student, teacher, weights
    )
    return {**by_stage(method.stage_losses(student, teacher)), "loss_weighted": run(method, student, teacher)["vid"]}


def nst(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
    losses = [nst_loss(own, other) for own, other in zip(student.stages, teacher.stages, strict=True)]
    method = adapted(NST(0.0, case["hyperparameters"]["loss_weight"], 0), student, teacher, {})
    return {**by_stage(losses), "loss_weighted": run(method, student, teacher)["nst"]}


def fsp(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
    method = adapted(FSP(1.0, 30), student, teacher, {})
    losses = by_stage(fsp_losses(student.stages, teacher.stages), "loss_pair_")
    return losses | {"loss": method.pretrain_terms(student, teacher, batch_of(student), None)["fsp"]}


def ab(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = on_stages(arrays, "student", True), on_stages(arrays, "teacher", True)
    only(case, "stage_weights", [2.0 ** (i + 1 - len(student.stages)) for i in range(len(student.stages))])
    weights = renamed(arrays, {r"connector_(\d+)_(conv|bn)_(weight|bias)": r"connectors.\1.\2.\3"})
    method = adapted(AB(1.0, 0.003, settings["margin"], 0, 30), student, teacher, weights)
    losses = by_stage(method.stage_losses(student, teacher))
    return losses | {"loss": method.pretrain_terms(student, teacher, batch_of(student), None)["boundary"]}


def ft(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    powers = settings["p1"], settings["p2"]
    method = FT(0.0, settings["loss_weight"], settings.get("factor_rate", 0.5), powers[0], 30, powers[1])
    if "student_factor" in arrays:  # the factors themselves are given
        student, teacher = (Outputs(f.new_zeros(len(f), 10), [f], f) for f in factors(arrays))
        method.paraphraser = nn.ModuleDict({"encoder": nn.Identity()})  # type: ignore[assignment]
        method.translator = nn.Identity()  # type: ignore[assignment]
    else:
        student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
        weights = renamed(
            arrays,
            {
                r"translator_encoder_(\d)_(?:conv|bn)_(weight|bias)": r"translator.\1.\2",
                r"paraphraser_(encoder|decoder)_(\d)_(?:conv|deconv)_(weight|bias)": r"paraphraser.\1.\2.\3",
            },
        )
        method = adapted(method, student, teacher, packed(weights))
    translated = method.translator(student.stages[-1])
    encoded = method.paraphraser.get_submodule("encoder")(teacher.stages[-1])
    outputs = {
        "loss": factor_loss(translated, encoded.detach(), *powers),
        "loss_weighted": run(method, student, teacher)["factor"],
        "student_factor": translated,
        "teacher_factor": encoded,
    }
    if "student_factor" not in arrays:
        outputs |= method.pretrain_terms(student, teacher, batch_of(student), Progress(0, 1, 0, 1))
        outputs["loss_reconstruction"] = outputs.pop("reconstruction")
    return outputs


def factors(arrays: Arrays) -> tuple[Tensor, Tensor]:
    return arrays["student_factor"], arrays["teacher_factor"]


def packed(weights: Arrays) -> Arrays:
    """The paraphraser's layers without gaps: the reference counts the batch norm it does not have."""

    def place(match: re.Match[str]) -> str:
        return f"{match[1]}{int(match[2]) * 2 // 3}."

    return {re.sub(r"^(paraphraser\.\w+\.)(\d)\.", place, name): array for name, array in weights.items()}


def reviewkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    described(case, "in_channels", "out_channels", "shapes", "out_shapes")
    only(case, "student_preact", False)
    student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
    stem = [student.stages[0].new_zeros(len(student.logits), 1, 1, 1)]  # the teacher's is not given
    teacher = teacher._replace(stages=stem + teacher.stages, pre_activation=stem + teacher.stages)
    weights = renamed(
        arrays,
        {
            r"fusion_(\d)_conv(\d)_weight": r"fusions.\1.conv\2.weight",
            r"fusion_(\d)_conv(\d)_bn_(weight|bias)": r"fusions.\1.bn\2.\3",
            r"fusion_(\d)_gate_conv_(weight|bias)": r"fusions.\1.gates.\2",
        },
    )
    method = adapted(ReviewKD(0.0, settings["loss_weight"], settings["warmup_epochs"], 1), student, teacher, weights)
    return {
        "loss": method.review(student, teacher),
        "loss_weighted": run(method, student, teacher, epoch=settings["epoch"] - 1)["review"],
    }


def ofd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "connector_kernel", 1)
    student, teacher = on_stages(arrays, "student", True), on_stages(arrays, "teacher", True)
    weights = renamed(arrays, {r"connector_(\d)_(conv|bn)_(weight|bias)": r"connectors.\1.\2.\3"})
    method = adapted(OFD(0.0, settings["loss_weight"], 0, True), student, teacher, weights, network=TeacherBody(arrays))
    return {
        "loss": torch.stack(method.stage_losses(student, teacher)).sum(),
        "loss_weighted": run(method, student, teacher)["overhaul"],
        **{
            f"margin_{i}": margins(norm.weight, norm.bias).to(student.logits.dtype)
            for i, norm in enumerate(method._batch_norms)
        },
    }


class TeacherBody(CifarNetwork):
    """A network of which only the batch norms before the last ReLU of its last stages are known."""

    def __init__(self, arrays: Arrays) -> None:
        super().__init__(10)
        self.stages = len(numbered(arrays, "teacher_feature_"))
        self.norms = nn.ModuleList()
        weights, biases = [
            [array for name, array in arrays.items() if re.fullmatch(rf"teacher_bn_\d_{kind}", name)]
            for kind in ("weight", "bias")
        ]
        for weight, bias in zip(weights, biases, strict=True):
            norm = nn.BatchNorm2d(len(weight), dtype=weight.dtype)
            norm.weight.data, norm.bias.data = weight.clone(), bias.clone()
            self.norms.append(norm)

    def last_batch_norms(self) -> list[str | None]:
        return [*[None] * (self.stages - len(self.norms)), *(f"norms.{i}" for i in range(len(self.norms)))]


def kdsvd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    layout: Any = "channels" if settings["layout"] == "positions x channels" else "width"
    student, teacher = on_stages(arrays, "student"), on_stages(arrays, "teacher")
    turned = [upright_as_stored(case, i, stage, settings["k"], layout) for i, stage in enumerate(teacher.stages)]
    method = adapted(KDSVD(0.0, 1.0, settings["k"], layout, 0), student, teacher, {})
    with patch("kd_bench.methods.kdsvd.teacher_vectors", side_effect=turned * 2):
        return {
            "loss": torch.stack(method.stage_losses(student, teacher)).sum(),
            "loss_weighted": run(method, student, teacher)["svd"],
            **{f"teacher_vectors_{i}": vectors for i, (vectors, _) in enumerate(turned)},
        }


def upright_as_stored(case: Case, stage: int, teacher: Tensor, count: int, layout: Any) -> tuple[Tensor, Tensor]:
    """The teacher's vectors on the side on which the reference happened to have them."""
    vectors, values = teacher_vectors(teacher, count, layout)
    with np.load(case["folder"] / case["file"], allow_pickle=False) as arrays:
        stored = torch.from_numpy(arrays[f"teacher_vectors_{stage}"]).to(vectors.dtype)
    return vectors * (vectors * stored).sum(dim=1, keepdim=True).sign(), values


ROWS: dict[str, Row] = {
    "ab": ab,
    "fsp": fsp,
    "ft": ft,
    "kdsvd": kdsvd,
    "nst": nst,
    "ofd": ofd,
    "reviewkd": reviewkd,
    "vid": vid,
}

ORACLES: dict[str, str] = {}
