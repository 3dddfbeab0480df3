"""The catalogue of methods: what each choice of ``conf/method`` is, asks for and takes."""

from collections.abc import Sequence
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from kd_bench.config.check import check
from kd_bench.config.composition import choices, composed, composing, folders_of_choices, quoted
from kd_bench.data.samplers import SAMPLERS
from kd_bench.methods.base import Method
from kd_bench.models.features import ABILITIES
from kd_bench.training.teacher_kinds import TEACHER_KINDS


def catalogue(like: str = "", plugins: Sequence[str] = ()) -> list[dict[str, Any]]:
    """List name, family, paper, requirements and hyperparameters of each method whose name contains ``like``.

    Args:
        plugins: modules of the user's own that may be imported.

    Raises:
        ConfigError: a method of the user's own is of a module that is not named, or cannot be imported.
    """
    named = f"plugins=[{','.join(map(quoted, plugins))}]"
    shipped = choices("method")
    known = [name for name in choices("method", folders_of_choices()) if like in name]
    with composing():
        nodes = {name: _node(composed("train", [f"method={name}", named]), name in shipped) for name in known}
    return [_entry(name, node) for name, node in nodes.items()]


def _node(cfg: DictConfig, trusted: bool) -> Any:
    """Return the method's part of a configuration, checked unless it is shipped, which takes time."""
    return OmegaConf.to_container(cfg.method, resolve=True) if trusted else check(cfg).method


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
    """Say in words what a method asks for beyond a plain batch."""
    requires = method.requires
    wanted = [TEACHER_KINDS[requires.teacher].words]
    if requires.views > 1:
        wanted.append(f"{requires.views} views of each image")
    if requires.rotations:
        wanted.append("four rotations of each image")
    if words := SAMPLERS[requires.sampler].words:
        wanted.append(words)
    if requires.pre_activations:
        wanted.append("maps before the last ReLU")
    for role, abilities in (("student", requires.student_has), ("teacher", requires.teacher_has)):
        wanted += [f"a {role} with {ABILITIES[ability]}" for ability in abilities]
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
    """Write a line for each method with name, family, paper and requirements, then one with its hyperparameters."""
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
