"""Golden rows of methods that align embeddings, maps before the classifier, or relations among them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kd_bench.data.batch import Batch, DataSpec
from kd_bench.methods.base import Method, Progress
from kd_bench.methods.cat_kd import CATKD, cat_loss
from kd_bench.methods.hkd import HKD
from kd_bench.methods.ickd import ICKD, ickd_loss
from kd_bench.methods.irg import IRG
from kd_bench.methods.itrd import ITRD
from kd_bench.methods.kd import kd_loss
from kd_bench.methods.kdpp import KDPlusPlus, norm_direction_loss
from kd_bench.methods.losses import cross_entropy
from kd_bench.methods.semckd import SemCKD, semckd_loss
from kd_bench.methods.simkd import SimKD, simkd_loss
from kd_bench.methods.srrl import SRRL, srrl_losses
from kd_bench.methods.vkd import VkD, vkd_loss
from kd_bench.models.features import Outputs

from .given import Arrays, Case, Row, described, numbered, on_logits, only, outputs, run, total


class Given(SimpleNamespace):
    """Stands for a tap: a network with these stages and this embedding, whose classifier sees the pooled last stage
    or, without stages, the embedding."""

    def __init__(self, stages: list[Tensor], embedding: Tensor | None = None, classifier: Any = None) -> None:
        super().__init__(name="given", stage_pairs=None, classifier=classifier, training=False)
        assert stages or embedding is not None
        self.stages = [stage.detach().requires_grad_() for stage in stages]
        self.embedding = self.stages[-1].mean(dim=(2, 3)) if embedding is None else embedding.detach()
        self.stage_shapes = [tuple(stage.shape[1:]) for stage in stages]
        self.embedding_size = self.embedding.shape[1]

    def __call__(self, images: Tensor) -> Outputs:
        logits = self.embedding if self.classifier is None else self.classifier(self.embedding)
        return Outputs(logits, self.stages, self.embedding)

    def parameters(self) -> list[Tensor]:
        return self.stages

    def eval(self) -> None:
        pass

    def train(self, mode: bool) -> None:
        pass


SPEC = DataSpec(10, (8, 8), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def built(method: Any, student: Given, teacher: Given) -> Any:
    """The method with its adapters, in the precision of the arrays."""
    method.build_adapters(student, teacher, SPEC)
    return method.to(teacher.embedding.dtype)


def linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A frozen classifier."""
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.detach(), bias.detach()
    return layer.requires_grad_(False)


class Call(nn.Module):
    """Makes ``function`` of a method a ``forward``, which is all that ``functional_call`` can call."""

    def __init__(self, method: Method, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.method, self.function = method, function

    def forward(self) -> Any:
        return self.function(self.method)


def called(method: Method, weights: Arrays, function: Callable[[Any], Any]) -> Any:
    """``function`` of the method, its adapters holding ``weights``."""
    return functional_call(Call(method, function), {f"method.{name}": each for name, each in weights.items()}, ())


def renamed(arrays: Arrays, prefix: str, name: Callable[[str], str]) -> Arrays:
    """Adapter weights under the names of the adapter: ``name`` turns what follows ``prefix`` into one."""
    return {name(key.removeprefix(prefix)): array for key, array in arrays.items() if key.startswith(prefix)}


def layered(name: str) -> str:
    """``conv2_weight`` in a sequence of convolutions, each with batch norm and ReLU: ``3.weight``."""
    layer, _, kind = name.partition("_")
    return f"{3 * (int(layer[-1]) - 1) + layer.startswith('bn')}.{kind}"


def simkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    only(case, "ce_weight", 0.0)
    only(case, "kd_weight", 0.0)
    student, teacher = numbered(arrays, "student_feature_"), numbered(arrays, "teacher_feature_")
    classifier = linear(arrays["teacher_classifier_weight"], arrays["teacher_classifier_bias"])
    weights = renamed(arrays, "transfer_", lambda name: f"projector.{layered(name)}")

    def adapted() -> SimKD:
        method = SimKD(simkd_weight=settings["loss_weight"], factor=settings["factor"])
        built(method, Given(student), Given(teacher, classifier=classifier))
        return method

    both = lambda method: (method.projected(outputs(student)), method.predict(outputs(student)))  # noqa: E731
    projected, predicted = called(adapted(), weights, both)
    return {
        "loss": simkd_loss(projected, teacher[-1]),
        "loss_weighted": total(run(adapted(), outputs(student), outputs(teacher), weights=weights)),
        "predicted_logits": predicted,
    }


def srrl(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher, logits = (arrays[name] for name in ("student_embedding", "teacher_embedding", "teacher_logits"))
    classifier = linear(arrays["teacher_classifier_weight"], arrays["teacher_classifier_bias"])
    weights = {
        "connector.0.weight": arrays["transfer_conv_weight"].flatten(1),
        **renamed(arrays, "transfer_bn_", lambda name: f"connector.1.{name}"),
    }

    def adapted() -> SRRL:
        method = SRRL(0.0, 0.0, 4.0, srrl_weight=case["hyperparameters"]["loss_weight"])
        built(method, Given([], student), Given([], teacher, classifier))
        return method

    connected = called(adapted(), weights, lambda method: method.connector(student))
    own, other = Outputs(logits.detach(), [], student), Outputs(logits, [], teacher)
    feature, logit = srrl_losses(connected, teacher, classifier, logits)
    terms = run(adapted(), own, other, weights=weights)
    return {
        "loss": feature + logit,
        "loss_weighted": terms["feature"] + terms["logit"],
        "loss_feature": feature,
        "loss_logit": logit,
        "predicted_logits": classifier(connected),
    }


def cat_kd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = arrays["student_feature_0"], arrays["teacher_feature_0"]
    choice = settings["cam_resolution"], settings["normalise"], settings["binarise"]
    method = CATKD(1.0, settings["loss_weight"], *choice)
    classes = student.shape[1]
    identity = linear(torch.eye(classes, dtype=student.dtype), student.new_zeros(classes))
    built(method, Given([student], classifier=identity), Given([teacher], classifier=identity))
    own = Outputs(student.mean(dim=(2, 3)), [student], student.mean(dim=(2, 3)))
    terms = run(method, own, outputs([teacher]), labels=arrays["labels"])
    return {
        "loss": cat_loss(student, teacher, *choice),
        "loss_weighted": terms["cat"],
        "loss_ce": terms["ce"],
    }


def semckd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = numbered(arrays, "student_feature_"), numbered(arrays, "teacher_feature_")

    def adapted() -> SemCKD:
        scale, size = settings["attention_scale"], settings["batch_size"]
        method = SemCKD(0.0, 0.0, 4.0, settings["loss_weight"], scale, skip_stages=0, batch_size=size)
        built(method, Given(student), Given(teacher))
        return method

    def directions(prefix: str, name: str) -> Arrays:
        layers = {"linear1": "0", "linear2": "2"}
        parts = (key.split("_") for key in arrays if key.startswith(f"{prefix}_"))
        return {
            f"{name}.{stage}.layers.{layers[layer]}.{kind}": arrays[f"{prefix}_{stage}_{layer}_{kind}"]
            for _, stage, layer, kind in parts
        }

    weights = {
        **directions("query", "queries"),
        **directions("key", "keys"),
        **renamed(arrays, "regressor_", lambda name: f"regressors.{name[0]}.{name[2]}.{layered(name[4:])}"),
    }
    distances, attention = called(
        adapted(), weights, lambda m: (m.distances(student, teacher), m.attention(student, teacher))
    )
    terms = run(adapted(), outputs(student), outputs(teacher), weights=weights)
    return {
        "loss": semckd_loss(distances, attention),
        "loss_weighted": terms["semckd"],
        "attention": attention,
    }


def ickd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = arrays["student_feature_0"], arrays["teacher_feature_0"]
    weights = renamed(arrays, "embed_", lambda name: f"embed.{layered(name.replace('_', '1_', 1))}")

    def adapted() -> ICKD:
        method = ICKD(0.0, case["hyperparameters"]["loss_weight"])
        built(method, Given([student]), Given([teacher]))
        return method

    embedded = called(adapted(), weights, lambda m: m.embed(student))
    return {
        "loss": ickd_loss(embedded, teacher),
        "loss_weighted": run(adapted(), outputs([student]), outputs([teacher]), weights=weights)["ickd"],
    }


def itrd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    student, teacher = arrays["student_embedding"], arrays["teacher_embedding"]
    weights = renamed(arrays, "embed_linear_", lambda name: f"embed.{name}")
    # With weights of 1 the terms are the losses; the class sums them with those of the case.
    terms = []
    for one, other in [(1.0, 1.0), (settings["correlation_weight"], settings["mutual_weight"])]:
        method = built(ITRD(0.0, one, other, settings["alpha"]), Given([], student), Given([], teacher))
        terms.append(run(method, on_logits(student), on_logits(teacher), weights=weights))
    return {
        "loss": terms[1]["correlation"] + terms[1]["mutual"],
        "loss_correlation": terms[0]["correlation"],
        "loss_mutual": terms[0]["mutual"],
    }


def hkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    student, teacher = numbered(arrays, "student_feature_"), numbered(arrays, "teacher_feature_")
    first = case["hyperparameters"]["initial_weight"]
    described(case, "decay")  # which has no effect, see the quirks
    method = HKD(0.0, 0.0, 4.0, hkd_weight=1.0, first_weight=first, skip_stages=0)
    built(method, Given(student), Given(teacher))
    return {"loss": run(method, outputs(student), outputs(teacher))["hkd"]}


def irg(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    only(case, "graph_weight", 1.0)
    only(case, "transform_weight", 1.0)
    student, teacher = numbered(arrays, "student_feature_"), numbered(arrays, "teacher_feature_")
    pairs = [(i, i + 1) for i in range(0, len(student), 2)]
    totals = []
    for weight in (1.0, case["hyperparameters"]["loss_weight"]):
        method = IRG(0.0, 0.0, 4.0, irg_weight=weight, transformations=pairs)
        built(method, Given(student), Given(teacher))
        own = outputs(student)._replace(embedding=arrays["student_embedding"])
        other = outputs(teacher)._replace(embedding=arrays["teacher_embedding"])
        totals.append(run(method, own, other)["irg"])
    return {"loss": totals[0], "loss_weighted": totals[1]}


class GivenDropout(nn.Module):
    """A dropout of one half whose draws the case gives."""

    def __init__(self, kept: Tensor) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, embedding: Tensor) -> Tensor:
        return 2 * embedding * self.kept


def kdpp(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    settings = case["hyperparameters"]
    temperature, labels, means = settings["temperature"], arrays["labels"], arrays["teacher_class_means"]
    embeddings = arrays["student_embedding"], arrays["teacher_embedding"]
    student, teacher = (
        Outputs(arrays[f"{name}_logits"], [], each)
        for name, each in zip(("student", "teacher"), embeddings, strict=True)
    )
    kd_weight, nd_weight = settings["kd_weight"], settings["nd_weight"]

    def adapted() -> Any:
        method = KDPlusPlus(settings["ce_weight"], kd_weight, temperature, settings["warmup_epochs"], nd_weight)
        method.build_adapters(Given([], embeddings[0]), Given([], embeddings[1]), SPEC)  # type: ignore[arg-type]
        if "dropout_kept" in arrays:
            method.connector[1] = GivenDropout(arrays["dropout_kept"])
        return method.to(means.dtype)

    layers = {"bn": "0", "linear": "2"}
    connector = renamed(arrays, "connector_", lambda name: f"{layers[name.split('_')[0]]}.{name.split('_')[1]}")
    weights = {"means": means, **{f"connector.{name}": each for name, each in connector.items()}}
    batch = Batch(torch.zeros(len(labels), 3, 1, 1), labels, torch.arange(len(labels)))
    terms = functional_call(adapted(), weights, (student, teacher, batch, Progress(settings["epoch"], 240, 0, 1)))
    connected = functional_call(adapted().connector, connector, (embeddings[0],))
    return {
        "loss": norm_direction_loss(connected, embeddings[1], means[labels]),
        "loss_weighted": terms["norm_direction"],
        "loss_kd": kd_loss(student.logits, teacher.logits, temperature),
        "loss_kd_weighted": terms["kd"],
        "loss_ce": cross_entropy(student.logits, labels),
        "loss_total": total(terms),
        "connected_embedding": connected,
    }


def vkd(case: Case, arrays: Arrays) -> dict[str, Tensor]:
    """The reference's KD is of a distillation head: the class is called once more with its logits, for that term."""
    settings = case["hyperparameters"]
    only(case, "layer_norm_eps", 1e-5)
    labels, projection = arrays["labels"], arrays["projection_weight"]
    embedding, teacher_embedding = arrays["student_tokens"].mean(dim=1), arrays["teacher_feature_0"].mean(dim=(2, 3))
    temperature = settings["temperature"]
    method = VkD(settings["ce_weight"], settings["kd_weight"], temperature, settings["loss_weight"])
    method.projection = nn.Linear(*projection.shape[::-1], bias=False)
    teacher = Outputs(arrays["teacher_logits"], [], teacher_embedding)
    terms, distilled = (
        run(method, Outputs(arrays[name], [], embedding), teacher, labels, {"projection.weight": projection})
        for name in ("student_logits", "student_distillation_logits")
    )
    projected = embedding @ projection.T
    return {
        "loss": vkd_loss(projected, teacher_embedding),
        "loss_weighted": terms["vkd"],
        "loss_kd": kd_loss(arrays["student_distillation_logits"], arrays["teacher_logits"], temperature),
        "loss_ce": cross_entropy(arrays["student_logits"], labels),
        "loss_total": total({**terms, "kd": distilled["kd"]}),
        "projected_student": projected,
    }


ROWS: dict[str, Row] = {
    "cat_kd": cat_kd,
    "hkd": hkd,
    "ickd": ickd,
    "irg": irg,
    "itrd": itrd,
    "kdpp": kdpp,
    "semckd": semckd,
    "simkd": simkd,
    "srrl": srrl,
    "vkd": vkd,
}
