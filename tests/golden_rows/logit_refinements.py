"""Golden rows of later logit methods."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kd_bench.data.batch import Batch
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.crld import CRLD, consistency_losses
from kd_bench.methods.function_matching import FunctionMatching
from kd_bench.methods.gkl import GKL, gkl_loss
from kd_bench.methods.ikl import IKL, class_sums, ikl_loss
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.losses import cross_entropy, logit_pair, soft_cross_entropy
from kd_bench.methods.normkd import NormKD, normkd_loss
from kd_bench.methods.rld import RLD, masked_correlation_loss, sample_confidence_loss
from kd_bench.methods.sdd_dkd import SDDDKD, sdd_dkd_losses
from kd_bench.methods.sdd_kd import SDDKD, region_weights, sdd_kd_loss
from kd_bench.methods.tekap import TeKAP, augmented_teachers_loss
from kd_bench.methods.wkd_l import EPSILON, WKDL, soft_target_loss, transport_costs, transport_loss
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, numbered, only, total
from .logits import mlld, terms_of, whole


def rld(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    alpha, beta, temperature = settings["alpha"], settings["beta"], settings["temperature"]
    confidence_temperature, standardize = settings["alpha_temperature"], settings["logit_standardisation"]
    logits = logit_pair(arrays["student_logits"], arrays["teacher_logits"], standardize)
    parts = {
        "loss_sample_confidence": sample_confidence_loss(*logits, arrays["labels"], confidence_temperature),
        "loss_masked_correlation": masked_correlation_loss(*logits, arrays["labels"], temperature),
    }
    loss = alpha * parts["loss_sample_confidence"] + beta * parts["loss_masked_correlation"]
    method = RLD(
        settings["ce_weight"],
        alpha,
        beta,
        temperature,
        confidence_temperature,
        settings["warmup_epochs"],
        standardize,
    )
    return {**whole(method, arrays, loss, settings["epoch"]), **parts}


def normkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    loss = normkd_loss(arrays["student_logits"], arrays["teacher_logits"], settings["temperature_norm"])
    return whole(NormKD(settings["ce_weight"], settings["kd_weight"], settings["temperature_norm"]), arrays, loss)


def tekap(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher, noise = (
        arrays["student_logits"],
        arrays["teacher_logits"],
        torch.stack(numbered(arrays, "noise_")),
    )
    only(case, "augmented_teachers", len(noise))
    shares, temperature = (settings["teacher_share"], settings["noise_share"]), settings["temperature"]
    parts = {
        "loss_teacher": kd_loss(student, teacher, temperature),
        "loss_augmented": augmented_teachers_loss(student, teacher, noise, *shares, temperature),
    }
    weights = settings["ce_weight"], settings["kd_weight"]
    method: Any = TeKAP(*weights, temperature, *shares, settings["augmented_weight"], len(noise))
    assert method.noise(teacher).shape == noise.shape
    method.noise = lambda logits: noise
    loss = parts["loss_teacher"] + settings["augmented_weight"] * parts["loss_augmented"]
    return {**whole(method, arrays, loss), **parts}


def pairwise(case: Case, arrays: Arrays, make: Any, pairwise_loss: Any) -> dict[str, Tensor]:
    """IKL and GKL, given their class and their second term."""
    settings = case["hyperparameters"]
    student, teacher, labels = arrays["student_logits"], arrays["teacher_logits"], arrays["labels"]
    probabilities = F.softmax(teacher / settings["weight_temperature"], dim=1)
    weights = arrays["class_weights"][labels] if settings["global_weights"] else probabilities
    temperature = settings["temperature"]
    parts = {
        "loss_soft_ce": soft_cross_entropy(student / temperature, F.softmax(teacher / temperature, dim=1)),
        "loss_wmse": pairwise_loss(student, teacher, weights),
    }
    loss = settings["alpha"] * parts["loss_soft_ce"] + settings["beta"] * parts["loss_wmse"]
    method: Any = make(
        ce_weight=settings["ce_weight"],
        soft_weight=settings["alpha"],
        pairwise_weight=settings["beta"],
        temperature=temperature,
        weight_temperature=settings["weight_temperature"],
        global_weights=settings["global_weights"],
        warmup_epochs=settings["warmup_epochs"],
    )
    if settings["global_weights"]:
        method.register_buffer("class_weights", arrays["class_weights"])
        method.register_buffer("counted", torch.zeros_like(arrays["class_weights"]))
        method.register_buffer("counted_epoch", torch.tensor(settings["epoch"] - 1))
    results = whole(method, arrays, loss, settings["epoch"])
    counted = method.counted if settings["global_weights"] else class_sums(probabilities, labels)
    return {**results, **parts, "class_sums": counted}


def ikl(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    return pairwise(case, arrays, IKL, ikl_loss)


def gkl(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    gamma = case["hyperparameters"]["gamma"]

    def loss(*logits_and_weights: Tensor) -> Tensor:
        return gkl_loss(*logits_and_weights, gamma)

    def make(**arguments: Any) -> Method:
        return GKL(**arguments, weight_exponent=gamma)

    return pairwise(case, arrays, make, loss)


def wkd_l(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "sinkhorn_eps", EPSILON)
    only(case, "cost_eps", EPSILON)
    only(case, "total_epochs", 240)  # of `whole`
    logits, labels = (arrays["student_logits"], arrays["teacher_logits"]), arrays["labels"]
    transport = (
        settings["temperature"],
        settings["cost_sharpening"],
        settings["sinkhorn_regularisation"],
        settings["sinkhorn_iterations"],
    )
    method: Any = WKDL(settings["ce_weight"], 1.0, settings["loss_weight"], *transport, settings["decay_start_epoch"])
    method.class_distances = arrays["class_distances"]
    temperature, sharpening, regularisation, iterations = transport
    costs = transport_costs(arrays["class_distances"], sharpening)
    loss = transport_loss(*logits, labels, costs, temperature, regularisation, iterations)
    target_class = soft_target_loss(*logits, labels)
    return {**whole(method, arrays, loss, settings["epoch"]), "loss_target_class": target_class}


def linear(arrays: Arrays, network: str) -> nn.Linear:
    """A classifier that holds the very tensors of the case."""
    weight, bias = (arrays[f"{network}_classifier_{name}"] for name in ("weight", "bias"))
    classifier: Any = nn.Linear(weight.shape[1], weight.shape[0])
    del classifier.weight, classifier.bias
    classifier.weight, classifier.bias = weight, bias
    return classifier  # type: ignore[no-any-return]


def on_regions(method: Any, arrays: Arrays, epoch: int, loss: Any) -> dict[str, Tensor]:
    """SDD, given the loss of regions of both networks with their weights."""
    classifiers = method._classifiers = tuple(linear(arrays, network) for network in ("student", "teacher"))
    student, teacher = (
        Outputs(classifier(stage.mean(dim=(2, 3))), [stage], stage.mean(dim=(2, 3)), final=stage)
        for classifier, stage in zip(
            classifiers, (arrays["student_feature_0"], arrays["teacher_feature_0"]), strict=True
        )
    )
    labels = arrays["labels"]
    regions = method.regions(student, teacher)
    weights = region_weights(regions[1], teacher.logits, labels)
    terms = method(student, teacher, Batch(labels, labels, labels), Progress(epoch - 1, 240, 0, 240))
    return {
        "loss": loss(*regions, weights),
        "loss_weighted": total({name: term for name, term in terms.items() if name != "ce"}),
        "loss_ce": cross_entropy(student.logits, labels),
        "loss_total": total(terms),
        "student_logits": student.logits,
        "student_region_logits": regions[0].mT,
        "teacher_region_logits": regions[1].mT,
        "region_weights": weights,
    }


def sdd_kd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    temperature = settings["temperature"]
    method = SDDKD(settings["ce_weight"], settings["kd_weight"], temperature, settings["scales"])

    def loss(*regions_and_weights: Tensor) -> Tensor:
        return sdd_kd_loss(*regions_and_weights, temperature)

    return on_regions(method, arrays, 1, loss)


def sdd_dkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    alpha, beta, temperature = settings["alpha"], settings["beta"], settings["temperature"]
    method = SDDDKD(settings["ce_weight"], alpha, beta, temperature, settings["warmup_epochs"], settings["scales"])

    def loss(*regions_and_weights: Tensor) -> Tensor:
        target_class, other_classes = sdd_dkd_losses(*regions_and_weights, arrays["labels"], temperature)
        return alpha * target_class + beta * other_classes

    return on_regions(method, arrays, settings["epoch"], loss)


def function_matching(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    loss = kd_loss(arrays["student_logits"], arrays["teacher_logits"], settings["temperature"])
    labels = torch.zeros(len(arrays["images"]), dtype=torch.long)
    found = whole(FunctionMatching(settings["temperature"]), {**arrays, "labels": labels}, loss)
    share = max(settings["mixup_draw"], 1 - settings["mixup_draw"])
    mixed = share * arrays["images"] + (1 - share) * arrays["images"].roll(1, dims=0)
    return {**found, "mixed_images": mixed}


def crld(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = (
        (arrays[f"{role}_logits_weak"], arrays[f"{role}_logits_strong"]) for role in ("student", "teacher")
    )
    confidences = settings["tau_weak"], settings["tau_strong"]
    within, across = consistency_losses(student, teacher, settings["temperature"], *confidences)
    weights = settings["within_view_weight"], settings["cross_view_weight"]
    loss = weights[0] * within + weights[1] * across
    method = CRLD(settings["ce_weight"], *weights, settings["temperature"], *confidences)
    stacked = {f"{role}_logits": torch.cat(pair) for role, pair in (("student", student), ("teacher", teacher))}
    terms = terms_of(method, {**arrays, **stacked})
    kept = [
        (F.softmax(logits, dim=1).max(dim=1).values >= least).long()
        for logits, least in zip(teacher, confidences, strict=True)
    ]
    return {
        "loss": loss,
        "loss_weighted": terms["within"] + terms["cross"],
        "loss_ce": terms["ce"] / settings["ce_weight"],
        "loss_total": total(terms),
        "loss_within_view": within,
        "loss_cross_view": across,
        "kept_within_view": kept[0],
        "kept_cross_view": kept[1],
    }


ROWS: dict[str, Row] = {
    "crld": crld,
    "function_matching": function_matching,
    "gkl": gkl,
    "ikl": ikl,
    "mlld_ls": mlld,
    "normkd": normkd,
    "rld": rld,
    "sdd_dkd": sdd_dkd,
    "sdd_kd": sdd_kd,
    "tekap": tekap,
    "wkd_l": wkd_l,
}

VARIANTS: dict[str, str] = {"mlld_ls": "mlld_ls"}
