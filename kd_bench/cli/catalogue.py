"""The methods, as their choices in ``conf/method`` make them."""

from typing import Any

from hydra.utils import instantiate
from omegaconf import OmegaConf

from kd_bench.config.composition import choices, composed, composing
from kd_bench.methods.base import Method

_TEACHERS = {
    "none": "no teacher",
    "frozen": "teacher",
    "own": "network of the student's kind, trained before",
    "assistant": "teacher or assistant",
    "assistants": "teacher and assistants",
    "trained": "teacher's network, trained along",
    "moving_average": "moving average of the student",
}
_SAMPLERS = {"class_pairs": "pairs of one class", "repeated_halves": "batches that repeat a half"}


def catalogue(like: str = "") -> list[dict[str, Any]]:
    """Name, family, paper, requirements and hyperparameters of each method whose name contains ``like``."""
    with composing():
        composed_ones = {name: composed("train", [f"method={name}"]) for name in choices("method") if like in name}
        nodes = {name: OmegaConf.to_container(cfg.method, resolve=True) for name, cfg in composed_ones.items()}
    return [_entry(name, node) for name, node in nodes.items()]


def _entry(name: str, node: Any) -> dict[str, Any]:
    method: Method = instantiate(node, _convert_="all")
    return {
        "name": name,
        "family": method.family,
        "paper": method.paper,
        "requires": requirements(method),
        "parameters": _without_targets(node),
    }


def requirements(method: Method) -> list[str]:
    """What a method asks for beyond a plain batch, in words."""
    requires = method.requires
    wanted = [_TEACHERS[requires.teacher]]
    if requires.views > 1:
        wanted.append(f"{requires.views} views of each image")
    if requires.rotations:
        wanted.append("four rotations of each image")
    if requires.sampler != "plain":
        wanted.append(_SAMPLERS[requires.sampler])
    if requires.pre_activations:
        wanted.append("maps before the last ReLU")
    if requires.min_classes > 2:
        wanted.append(f"at least {requires.min_classes} classes")
    if method.pretrain_epochs:
        wanted.append(f"{method.pretrain_epochs} epochs of pretraining")
    return wanted


def _without_targets(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _without_targets(value) for name, value in node.items() if name != "_target_"}
    return node


def as_lines(entries: list[dict[str, Any]]) -> list[str]:
    """One line for each method: name, family, requirements, paper; then its hyperparameters."""
    lines = []
    for entry in entries:
        lines.append(f"{entry['name']:<20}{entry['family']:<20}{entry['paper']}; needs {', '.join(entry['requires'])}")
        if entry["parameters"]:
            lines.append(f"{'':<20}{_written(entry['parameters'])}")
    return lines


def _written(parameters: dict[str, Any], prefix: str = "") -> str:
    parts = [
        _written(value, f"{prefix}{name}.") if isinstance(value, dict) else f"{prefix}{name}={value}"
        for name, value in parameters.items()
    ]
    return " ".join(parts)
