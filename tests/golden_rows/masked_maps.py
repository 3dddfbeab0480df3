"""Golden rows of methods that generate a teacher's map from a masked one: the masks are inputs of the cases."""

from unittest.mock import patch

from torch import Tensor

from kd_bench.methods.mgd import MGD
from kd_bench.methods.vitkd import ViTKD

from .embeddings import Given, built, renamed
from .given import Arrays, Case, Row, outputs, run

CONVOLUTIONS = {"conv1": "generator.0", "conv2": "generator.2"}


def generator_weights(arrays: Arrays) -> Arrays:
    def name(given: str) -> str:
        layer, kind = given.split("_")
        return f"{CONVOLUTIONS[layer]}.{kind}"

    return renamed(arrays, "generator_", name)


def mgd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = [arrays["student_feature_0"]], [arrays["teacher_feature_0"]]
    kept = arrays["kept_channels"][:, :, None, None]
    weights = {**generator_weights(arrays), **renamed(arrays, "align_conv_", lambda name: f"align.{name}")}

    def loss(weight: float) -> Tensor:
        method = built(MGD(0.0, weight, settings["masked_fraction"]), Given(student), Given(teacher))
        return run(method, outputs(student), outputs(teacher), weights=weights)["mgd"]

    with patch("kd_bench.methods.mgd.without_random_channels", side_effect=lambda stage, fraction: stage * kept):
        return {"loss": loss(1.0), "loss_weighted": loss(settings["loss_weight"])}


def as_map(tokens: Tensor) -> Tensor:
    """Tokens (B, N, C) on a square, row by row, as a map (B, C, H, W)."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.mT.unflatten(2, (side, side))


def vitkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    places = ("0", "1", "last")
    student, teacher = ([as_map(arrays[f"{name}_tokens_{i}"]) for i in places] for name in ("student", "teacher"))
    weights = {**generator_weights(arrays), "token": arrays["mask_token"].view(1, -1, 1, 1)}
    for index, place in enumerate(places):
        if f"align_{place}_weight" in arrays:
            weights[f"align.{index}.weight"] = arrays[f"align_{place}_weight"][:, :, None, None]
            weights[f"align.{index}.bias"] = arrays[f"align_{place}_bias"]
    mask = as_map(arrays["mask"][:, :, None]).bool()

    def terms(alpha: float, beta: float) -> dict[str, Tensor]:
        method = built(ViTKD(0.0, alpha, beta, 2, settings["masked_fraction"]), Given(student), Given(teacher))
        with patch("kd_bench.methods.vitkd.random_mask", return_value=mask):
            return run(method, outputs(student), outputs(teacher), weights=weights)

    plain, weighted = terms(1.0, 1.0), terms(settings["alpha"], settings["beta"])
    loss = weighted["mimicking"] + weighted["generation"]
    return {
        "loss": loss,
        "loss_weighted": loss,
        "loss_mimicking": plain["mimicking"],
        "loss_generation": plain["generation"],
    }


ROWS: dict[str, Row] = {
    "mgd": mgd,
    "vitkd": vitkd,
}
